from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.codec.frames import (
    FRAME_BYTES,
    FRAMES,
    MESSAGE_BYTES,
    OLDEST,
    SEQ_MAX,
    VERSION,
    Frame,
    FrameError,
    body_as,
    decode,
    decode_head,
    encode,
)
from palatine.errors import ProtocolError

ID = bytes(range(16))
HEX = ID.hex()

# name, frame, its zmq frames: read in both directions.
TABLE = [
    ("no body", Frame("ping", ID), [f"504c544e 01 04 0000000000000000 {HEX} 70696e67"]),
    ("a timeout", Frame("ping", ID, 5000), [f"504c544e 01 04 0000000000001388 {HEX} 70696e67"]),
    ("the version before", Frame("ping", ID, 0, None, OLDEST), [f"504c544e 00 04 0000000000000000 {HEX} 70696e67"]),
    ("the largest number", Frame("a", ID, SEQ_MAX), [f"504c544e 01 01 7fffffffffffffff {HEX} 61"]),
    (
        "a body",
        Frame("x.y-z_1", ID, 0, {"a": 1}),
        [f"504c544e 01 07 0000000000000000 {HEX} 782e792d7a5f31", b'{"a":1}'],
    ),
    ("latin-1 text", Frame("log", ID, 1, ["\xff"]), [f"504c544e 01 03 0000000000000001 {HEX} 6c6f67", b'["\xc3\xbf"]']),
    ("an empty string", Frame("log", ID, 1, ""), [f"504c544e 01 03 0000000000000001 {HEX} 6c6f67", b'""']),
]

HEAD = encode(Frame("ping", ID))[0]
# name, zmq frames, code
BAD = [
    ("nothing", [], "too-large"),
    ("empty frame", [b""], "protocol"),
    ("other magic", [b"PLTX" + HEAD[4:]], "protocol"),
    ("magic only", [b"PLTN"], "protocol"),
    ("http", [b"GET / HTTP/1.1\r\n\r\n"], "protocol"),
    ("future version", [b"PLTN" + bytes([VERSION + 1]) + HEAD[5:]], "version"),
    ("future version, nothing else of it known", [b"PLTN\xff"], "version"),
    ("short head", [HEAD[:20]], "protocol"),
    ("type longer than the head", [HEAD[:-1]], "protocol"),
    ("empty type", [HEAD[:5] + b"\0" + HEAD[6:]], "protocol"),
    ("upper case type", [HEAD[:-4] + b"PING"], "protocol"),
    ("type that is no ASCII", [HEAD[:-4] + b"\xff\xfe\xfd\xfc"], "protocol"),
    ("number with 64 bits", [HEAD[:6] + b"\xff" + HEAD[7:]], "protocol"),
    ("body that is no JSON", [HEAD, b"{"], "protocol"),
    ("body that is no UTF-8", [HEAD, b'"\xff"'], "protocol"),
    ("body nested too deep", [HEAD, b"[" * 100_000], "protocol"),
    ("two values", [HEAD, b"1 2"], "protocol"),
    ("nine frames", [HEAD] + [b" "] * FRAMES, "too-large"),
    ("a large frame", [HEAD, b" " * (FRAME_BYTES + 1)], "too-large"),
    ("a large message", [HEAD] + [b" " * FRAME_BYTES] * 4, "too-large"),
]


def frames_of(parts: Sequence[str | bytes]) -> list[bytes]:
    return [bytes.fromhex(part) if isinstance(part, str) else part for part in parts]


@pytest.mark.parametrize(("frame", "parts"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_frame_and_bytes_in_both_directions(frame: Frame, parts: list[str | bytes]) -> None:
    assert encode(frame) == frames_of(parts)
    assert decode(frames_of(parts)) == frame


@pytest.mark.parametrize(("parts", "code"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_anything_else_is_a_protocol_error(parts: list[bytes], code: str) -> None:
    with pytest.raises(FrameError) as raised:
        decode(parts)
    assert isinstance(raised.value, ProtocolError)
    assert raised.value.code == code


def test_bytes_after_the_type_are_room_for_later_versions() -> None:
    assert decode([HEAD + b"later"]) == Frame("ping", ID)


def test_a_body_is_cut_into_frames_and_joined_again() -> None:
    body = "x" * (MESSAGE_BYTES - 100)
    parts = encode(Frame("big", ID, 0, body))
    assert len(parts) == 5
    assert max(map(len, parts)) == FRAME_BYTES
    assert decode(parts).body == body


def test_a_body_past_a_mebibyte_is_refused_before_it_is_sent() -> None:
    with pytest.raises(FrameError) as raised:
        encode(Frame("big", ID, 0, "x" * MESSAGE_BYTES))
    assert raised.value.code == "too-large"


@pytest.mark.parametrize(
    "frame", [Frame("", ID), Frame("Ping", ID), Frame("a" * 65, ID), Frame("a", b"short"), Frame("a", ID, -1)]
)
def test_a_frame_that_cannot_be_is_not_encoded(frame: Frame) -> None:
    with pytest.raises(FrameError):
        encode(frame)


def test_unknown_fields_of_a_body_are_ignored() -> None:
    class Known(msgspec.Struct):
        a: int

    frame = decode_head(encode(Frame("x", ID, 0, {"a": 1, "later": [2]})))
    assert body_as(frame, Known).a == 1


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner, max_size=4),
    max_leaves=20,
)
frames = st.builds(
    Frame,
    st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
    st.binary(min_size=16, max_size=16),
    st.integers(0, SEQ_MAX),
    json_values,
    st.integers(OLDEST, VERSION),
)


@given(frames)
def test_round_trip(frame: Frame) -> None:
    assert decode(encode(frame)) == frame
