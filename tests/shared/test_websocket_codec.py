"""WebSocket frames: RFC 6455's examples both ways, messages in pieces, and what is refused with which code."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.codec import websocket
from palatine.codec.websocket import BINARY, CLOSE, PING, PONG, TEXT, Decoder, Message, WebsocketError

MASK = bytes.fromhex("37fa213d")


def frame(first: int, data: bytes, *, masked: bool = True) -> bytes:
    size = len(data)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    if size > 65535:
        length = b"\x7f" + size.to_bytes(8, "big")
    head = bytes([first, length[0] | (0x80 if masked else 0)]) + length[1:]
    return head + (MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(data)) if masked else data)


def messages(data: bytes, most: int = 1 << 20, step: int = 0) -> list[Message]:
    decoder, found = Decoder(most), []
    step = step or max(1, len(data))
    for at in range(0, len(data), step):
        decoder.feed(data[at : at + step])
        while (message := decoder.next()) is not None:
            found.append(message)
    return found


def test_the_examples_of_the_rfc() -> None:
    assert websocket.accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert messages(bytes.fromhex("818537fa213d7f9f4d5158")) == [(TEXT, b"Hello")]
    assert messages(bytes.fromhex("898537fa213d7f9f4d5158")) == [(PING, b"Hello")]
    assert websocket.encode(TEXT, b"Hello") == bytes.fromhex("810548656c6c6f")
    assert websocket.encode(PING, b"Hello") == bytes.fromhex("890548656c6c6f")
    assert websocket.encode(BINARY, b"x" * 256)[:4] == bytes.fromhex("827e0100")
    assert websocket.encode(BINARY, b"x" * 65536)[:10] == bytes.fromhex("827f0000000000010000")
    assert websocket.close_frame(1001) == bytes.fromhex("880203e9")


@pytest.mark.parametrize("step", [0, 1, 3])
def test_messages_in_pieces(step: int) -> None:
    data = frame(0x01, b"Hel") + frame(0x89, b"now") + frame(0x00, b"") + frame(0x80, b"lo") + frame(0x88, b"\x03\xe8")
    wanted = [(PING, b"now"), (TEXT, b"Hello"), (CLOSE, b"\x03\xe8")]
    assert messages(data, 5, step) == wanted


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(0x81, b"x", masked=False), 1002),
        (frame(0xC1, b"x"), 1002),
        (frame(0x83, b"x"), 1002),
        (frame(0x8B, b""), 1002),
        (frame(0x09, b""), 1002),
        (frame(0x89, b"x" * 126), 1002),
        (frame(0x80, b"x"), 1002),
        (frame(0x01, b"x") + frame(0x81, b"x"), 1002),
        (frame(0x81, b"\xff"), 1007),
        (frame(0x01, "é".encode()[:1]) + frame(0x80, b"x"), 1007),
        (frame(0x82, b"x" * 11), 1009),
        (frame(0x02, b"x" * 6) + frame(0x80, b"x" * 5), 1009),
        (bytes.fromhex("82ff7fffffffffffffff"), 1009),
        (bytes.fromhex("82ffffffffffffffffff"), 1002),
        (bytes.fromhex("82fe0005") + MASK + b"xxxxx", 1002),
        (bytes.fromhex("82ff0000000000000005") + MASK + b"xxxxx", 1002),
        (frame(0x88, b"\x03"), 1002),
        *((frame(0x88, code.to_bytes(2, "big")), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)),
        (frame(0x88, b"\x03\xe8\xff"), 1007),
    ],
)
def test_what_is_refused(data: bytes, code: int) -> None:
    with pytest.raises(WebsocketError) as caught:
        messages(data, 10)
    assert caught.value.code == code


@given(st.binary(max_size=70000), st.sampled_from([BINARY, PING, PONG]), st.integers(1, 5000))
def test_what_is_framed_arrives(data: bytes, kind: int, step: int) -> None:
    data = data if kind == BINARY else data[:125]
    assert messages(frame(0x80 | kind, data), step=step) == [Message(kind, data)]


@given(st.binary(max_size=200))
def test_anything_is_messages_or_refused(data: bytes) -> None:
    with contextlib.suppress(WebsocketError):
        messages(data, 100)
