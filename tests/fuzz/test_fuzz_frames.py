"""Invariant: `decode` returns a Frame or raises ProtocolError, whatever it gets, and a Frame it returns can be sent."""

from hypothesis import given, settings
from hypothesis import strategies as st

from palatine.codec.frames import Frame, decode, encode
from palatine.errors import ProtocolError

VALID = encode(Frame("alarm.action", bytes(range(16)), 3, {"id": "ff", "lines": ["a", 1, None, {"b": 1.5}]}))


@st.composite
def damaged(draw: st.DrawFn) -> list[bytes]:
    parts = [bytearray(part) for part in VALID]
    for _ in range(draw(st.integers(1, 4))):
        part = draw(st.sampled_from(parts))
        at = draw(st.integers(0, max(len(part) - 1, 0)))
        match draw(st.sampled_from(["flip", "cut", "insert", "drop"])):
            case "flip" if part:
                part[at] = draw(st.integers(0, 255))
            case "cut":
                del part[at:]
            case "insert":
                part[at:at] = draw(st.binary(max_size=8))
            case _:
                parts = [*parts[:1], part]
    return [bytes(part) for part in parts]


def holds(parts: list[bytes]) -> None:
    try:
        frame = decode(parts)
    except ProtocolError:
        return
    again = encode(frame)
    assert decode(again) == frame


@settings(max_examples=400)
@given(st.lists(st.binary(max_size=80), max_size=10))
def test_any_bytes(parts: list[bytes]) -> None:
    holds(parts)


@settings(max_examples=400)
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_after_the_magic(head: bytes, body: bytes) -> None:
    holds([b"PLTN\x01" + head, body])


@settings(max_examples=600)
@given(damaged())
def test_damaged_messages(parts: list[bytes]) -> None:
    holds(parts)
