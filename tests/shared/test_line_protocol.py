import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palatine.codec.line_protocol import Point, decode, encode
from palatine.errors import ProtocolError

TABLE = [
    (Point("m", {}, {"a": 1}, 5), b"m a=1i 5\n"),
    (Point("m", {"b": "2", "a": "1"}, {"y": True, "x": False}, 5), b"m,a=1,b=2 x=false,y=true 5\n"),
    (Point("m", {}, {"a": 1.5, "b": 2.0, "c": -3}, -1), b"m a=1.5,b=2,c=-3i -1\n"),
    (Point("my,m x", {"a b": "c,d=e f"}, {"f=1": "q"}, 0), rb'my\,m\ x,a\ b=c\,d\=e\ f f\=1="q" 0' + b"\n"),
    (Point("m=1", {"é": "ü"}, {"s": 'say "no", \\ yes = 1'}, 7), 'm=1,é=ü s="say \\"no\\", \\\\ yes = 1" 7\n'.encode()),
    (Point("m", {"path": r"C:\x"}, {"s": "two\nlines"}, 7), b'm,path=C:\\x s="two\nlines" 7\n'),
    (Point("m", {}, {"s": "", "t": 1e21, "u": 5e-7}, 7), b'm s="",t=1000000000000000000000,u=0.0000005 7\n'),
]


@pytest.mark.parametrize(("point", "line"), TABLE)
def test_table_both_ways(point: Point, line: bytes) -> None:
    assert encode(point) == line
    assert decode(line) == point


@pytest.mark.parametrize(
    ("point", "line"),
    [
        (Point("m", {"a": "", "": "b"}, {"f": 1}, 1), b"m f=1i 1\n"),
        (Point("m", {"a": "x\\\\"}, {"f": 1}, 1), b"m,a=x f=1i 1\n"),
        (Point("m", {"a": "x\ny\tz"}, {"f": 1}, 1), b"m,a=x\\ny\\tz f=1i 1\n"),
        (Point("m", {}, {"f": 1 << 70, "g": -(1 << 70)}, 1), b"m f=9223372036854775807i,g=-9223372036854775808i 1\n"),
        (Point("m", {}, {"f": math.nan, "g": math.inf, "h": 1}, 1), b"m h=1i 1\n"),
        (Point("m", {"a": "\ud800"}, {"f": 1}, 1), b"m,a=\\ud800 f=1i 1\n"),
    ],
)
def test_what_cannot_be_said_is_said_as_telegraf_does(point: Point, line: bytes) -> None:
    assert encode(point) == line


@pytest.mark.parametrize("fields", [{}, {"f": math.nan}, {"": 1}])
def test_a_point_without_fields_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no field"):
        encode(Point("m", {}, fields, 1))


@pytest.mark.parametrize(
    "line",
    [b"", b"m", b"m f=1i", b"m f=1i x", b"m f 1", b"m f= 1", b"m,a f=1 1", b"m f=zz 1", b"\xff f=1 1", b'm f="a 1'],
)
def test_what_is_no_line_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(line)


_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\f\r"), min_size=1).filter(
    lambda text: not text.endswith("\\")
)
#: A backslash before what gets escaped is ambiguous in the protocol itself, for tags and names.
_names = _texts.filter(lambda text: "\\" not in text)


@settings(max_examples=50)
@given(
    _names,
    st.dictionaries(_names, _names),
    st.dictionaries(
        _names,
        st.integers(-(1 << 63), (1 << 63) - 1) | st.booleans() | st.text(st.characters(exclude_categories=["Cs"])),
        min_size=1,
    ),
    st.integers(-(1 << 63), (1 << 63) - 1),
)
def test_round_trip(name: str, tags: dict[str, str], fields: dict[str, int | str], time: int) -> None:
    point = Point(name, tags, fields, time)
    assert decode(encode(point)) == point


@settings(max_examples=50)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_come_back(value: float) -> None:
    found = decode(encode(Point("m", {}, {"f": value}, 1))).fields["f"]
    assert found == value


@settings(max_examples=50)
@given(
    st.text(), st.dictionaries(st.text(), st.text()), st.dictionaries(st.text(), st.text() | st.floats(), min_size=1)
)
def test_any_text_makes_one_line_or_none(name: str, tags: dict[str, str], fields: dict[str, str | float]) -> None:
    try:
        line = encode(Point(name or "m", tags, fields, 1))
    except ValueError:
        return
    decode(line)


@settings(max_examples=50)
@given(st.binary())
def test_any_bytes_are_a_point_or_refused(line: bytes) -> None:
    try:
        decode(line)
    except ProtocolError:
        return
