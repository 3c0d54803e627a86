"""InfluxDB line protocol: points to lines and back; sans-io, and never a line a server would have to refuse.

Written as telegraf's serializer writes it, byte for byte (plugins/serializers/influx, fields sorted), so that series
begun by telegraf go on. Grammar: InfluxDB 1.x, "Line protocol reference".
"""

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from palatine.errors import ProtocolError

Value = int | float | str | bool

_MOST: Final = (1 << 63) - 1
_CONTROLS: Final = {"\t": r"\t", "\n": r"\n", "\f": r"\f", "\r": r"\r"}
_NAME: Final = str.maketrans({**_CONTROLS, ",": r"\,", " ": r"\ "})
_KEY: Final = str.maketrans({**_CONTROLS, ",": r"\,", " ": r"\ ", "=": r"\="})
_TEXT: Final = str.maketrans({'"': r"\"", "\\": r"\\"})

_AMBIGUOUS: Final = re.compile(r"\\+(?=[, =]|\Z)")
_ESCAPED: Final = re.compile(r"\\([, =])")
_QUOTED: Final = re.compile(r"\\([\\\"])")
_INTEGER: Final = re.compile(r"-?\d+i")
_TRUE: Final = frozenset({"t", "T", "true", "True", "TRUE"})
_FALSE: Final = frozenset({"f", "F", "false", "False", "FALSE"})


class Point(NamedTuple):
    """One measurement at one moment.

    Attributes:
        measurement: its name.
        tags: indexed texts; one that is empty is left out, as every server does.
        fields: values; at least one is needed.
        time_ns: unix time in nanoseconds.
    """

    measurement: str
    tags: Mapping[str, str]
    fields: Mapping[str, Value]
    time_ns: int


def encode(point: Point) -> bytes:
    """A point as a line with its newline, tags and fields by name. ValueError if no field of it can be written.

    Integers beyond 64 bits are cut to the nearest that fits; NaN and infinity, which the protocol does not know, are
    left out; so are backslashes at the end of a name or tag, or before what is escaped: a server would misread them.
    """
    fields = [
        f"{_key(key)}={text}" for key, value in sorted(point.fields.items()) if (text := _field(value)) and _key(key)
    ]
    if not fields:
        raise ValueError(f"{point.measurement} has no field that can be written")
    return f"{series(point.measurement, point.tags)} {','.join(fields)} {point.time_ns}\n".encode(
        "utf-8", "backslashreplace"
    )


def series(measurement: str, tags: Mapping[str, str]) -> str:
    """The beginning of a line: the measurement and its tags."""
    pairs = [(_key(key), _key(value)) for key, value in sorted(tags.items())]
    name = _AMBIGUOUS.sub("", measurement).translate(_NAME)
    return "".join([name, *(f",{key}={value}" for key, value in pairs if key and value)])


def decode(line: bytes) -> Point:
    """A line, with or without its newline, as a point; ProtocolError if it is none. A time is needed."""
    try:
        text = line.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise ProtocolError(f"a line is not UTF-8 at byte {error.start}") from error
    head, _, rest = _split(text, " ")
    fields, separator, time = _split(rest, " ", quotes=True)
    if not separator or not re.fullmatch(r"-?\d+", time):
        raise ProtocolError(f"a line without fields and time: {text[:80]!r}")
    measurement, _, tags = _split(head, ",")
    return Point(
        _ESCAPED.sub(r"\1", measurement),
        {_ESCAPED.sub(r"\1", key): _ESCAPED.sub(r"\1", value) for key, value in _pairs(tags)},
        {_ESCAPED.sub(r"\1", key): _value(value) for key, value in _pairs(fields, quotes=True)},
        int(time),
    )


def _key(text: str) -> str:
    if text.isidentifier() or text.isdigit():  # most are, and have nothing to escape: a third of the time
        return text
    return _AMBIGUOUS.sub("", text).translate(_KEY)


def _field(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{max(-_MOST - 1, min(value, _MOST))}i"
    if isinstance(value, float):
        return _decimal(value) if math.isfinite(value) else ""
    return f'"{value.translate(_TEXT)}"'


def _decimal(value: float) -> str:
    """The shortest decimal that reads back as the same number, without an exponent."""
    return format(Decimal(repr(value)), "f").removesuffix(".0")


def _split(text: str, separator: str, *, quotes: bool = False) -> tuple[str, str, str]:
    """`text` at its first separator that is neither escaped nor, with `quotes`, inside the quoted text of a value."""
    inside = in_value = False
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif quotes and in_value and char == '"':
            inside = not inside
        elif char == separator and not inside:
            return text[:at], separator, text[at + 1 :]
        elif not inside and char in "=,":
            in_value = char == "="
        at += 1
    return text, "", ""


def _pairs(text: str, *, quotes: bool = False) -> list[tuple[str, str]]:
    found = []
    while text:
        pair, _, text = _split(text, ",", quotes=quotes)
        key, separator, value = _split(pair, "=")
        if not separator or not key or not value:
            raise ProtocolError(f"{pair[:80]!r} is not key=value")
        found.append((key, value))
    return found


def _value(text: str) -> Value:
    if len(text) > 1 and text[0] == text[-1] == '"':
        return _QUOTED.sub(r"\1", text[1:-1])
    if _INTEGER.fullmatch(text):
        return int(text[:-1])
    if text in _TRUE | _FALSE:
        return text in _TRUE
    try:
        return float(text)
    except ValueError as error:
        raise ProtocolError(f"{text[:80]!r} is no value") from error
