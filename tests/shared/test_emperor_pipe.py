"""The bytes of the emperor pipes, in both directions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.codec.emperor_pipe import (
    CONFIG_BYTES,
    REASON,
    REASON_BYTES,
    Message,
    VassalReader,
    config,
    parse_config,
    reason,
)

#: What a uWSGI Emperor acts on.
UWSGI_BYTES = {1, 2, 5, 17, 22, 26, 30}

STREAMS = [
    (b"", []),
    (b"\x01\x05\x11", [Message(1), Message(5), Message(17)]),
    (b"\x63", [Message(99)]),
    (b"\x01" + reason("no") + b"\x05", [Message(1), Message(REASON, "no"), Message(5)]),
    (b"N\x05", [Message(78), Message(5)]),
    (b"N\xff\xff" + b"x", [Message(78), Message(255), Message(255), Message(120)]),
    (b"N\x80\x80", [Message(REASON)]),
]


@pytest.mark.parametrize(("data", "messages"), STREAMS)
@pytest.mark.parametrize("cut", [1, 2, 3, 100])
def test_streams(data: bytes, messages: list[Message], cut: int) -> None:
    reader = VassalReader()
    assert [m for at in range(0, len(data), cut) for m in reader.feed(data[at : at + cut])] == messages


@given(st.text())
def test_a_reason_comes_back_and_means_nothing_to_uwsgi(text: str) -> None:
    data = reason(text)
    assert not UWSGI_BYTES & set(data)
    (message,) = VassalReader().feed(data)
    assert message.kind == REASON
    assert len(data) <= REASON_BYTES + 3
    if len(text.encode(errors="replace")) <= REASON_BYTES:
        assert len(message.text) == len(text)


@given(st.lists(st.binary(max_size=40)))
def test_hostile_bytes_are_only_messages(chunks: list[bytes]) -> None:
    reader = VassalReader()
    assert sum(len(reader.feed(chunk)) for chunk in chunks) <= sum(map(len, chunks))


@given(st.binary(max_size=300), st.binary(max_size=20))
def test_configs_come_back_with_what_follows(text: bytes, more: bytes) -> None:
    data = config(text) + more
    assert parse_config(data) == (text, more)
    assert all(parse_config(data[:size]) is None for size in range(4 + len(text)))


def test_a_config_head_as_uwsgi_writes_it() -> None:
    assert config(b"[uwsgi]\n") == b"s\x08\x00\x00[uwsgi]\n"
    with pytest.raises(ValueError, match="65536 bytes"):
        config(b"x" * (CONFIG_BYTES + 1))
    with pytest.raises(ValueError, match="begins with 115"):
        parse_config(b"what")
