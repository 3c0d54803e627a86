"""Values of the host-wide view's columns and scalars: what a MIB object shows of a row, as a value element."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from palatine.codec import snmp
from palatine.schema import mib
from palatine.schema.mib import MibObject
from palatine_snmp_agent.readings import Reading

_MAX_32: Final = 2**32 - 1
#: Octets of the longest text shown.
_MAX_TEXT: Final = 255
#: A field of which the mean over those that have one is shown where others add up.
_MEAN: Final = "avg_rt"

#: What a column makes a row's number or text of; None is no value.
Made = int | str | bytes | None


class Part(NamedTuple):
    """A row that is part of an instance, or a slot of a daemon's table.

    `span` are the rows of the source tables by their name, `text` the parts of its text.
    """

    reading: Reading
    span: dict[str, Sequence[int]]
    text: tuple[bytes, ...] = ()


def column(table: str, one: MibObject) -> Callable[[Part], bytes]:
    """The function that makes the value element of a MIB object in a row; b"" for none."""
    write = writer(one)
    make = _maker(table, one)

    def value(part: Part) -> bytes:
        made = make(part)
        return b"" if made is None else write(made)

    return value


def writer(one: MibObject) -> Callable[[Any], bytes]:
    """The function that writes a value of an object's syntax."""
    if one.syntax == mib.STATES:
        most = len(one.states)
        return lambda value: snmp.integer32(value + 1) if value < most else b""
    return _WRITERS.get(one.syntax, snmp.integer32)


def _text(value: str | bytes) -> bytes:
    octets = value.encode("utf-8", "replace") if isinstance(value, str) else value
    return snmp.octet_string(octets[:_MAX_TEXT])


_WRITERS: Final[dict[str, Callable[[Any], bytes]]] = {
    mib.COUNTER64: lambda value: snmp.unsigned(snmp.COUNTER64, value),
    mib.GAUGE64: lambda value: snmp.unsigned(snmp.COUNTER64, value),
    mib.GAUGE32: lambda value: snmp.unsigned(snmp.GAUGE32, min(value, _MAX_32)),
    mib.UNSIGNED32: lambda value: snmp.unsigned(snmp.GAUGE32, min(value, _MAX_32)),
    mib.UNIX_TIME: lambda value: snmp.unsigned(snmp.GAUGE32, min(value, _MAX_32)),
    mib.INTEGER32: lambda value: snmp.integer32(max(min(value, 2**31 - 1), -(2**31))),
    mib.TICKS: lambda value: snmp.unsigned(snmp.TIME_TICKS, value & _MAX_32),
    mib.TRUTH: lambda value: snmp.integer32(1 if value else 2),
    mib.TEXT: _text,
}


def _maker(table: str, one: MibObject) -> Callable[[Part], Made]:
    if one.source == "labels":
        return _label(table, one.field)
    if one.source == "text":
        return _text_part(int(one.field))
    if one.source:
        return _field(one.source, one.field)
    return _OWN[table, one.name]


def _text_part(position: int) -> Callable[[Part], Made]:
    return lambda part: part.text[position] if position < len(part.text) else b""


def _label(table: str, name: str) -> Callable[[Part], Made]:
    source = {"socket": "sockets", "app": "apps", "metric": "metrics"}[table]
    return lambda part: part.reading.label(source, part.span[source][0], name)


def _field(source: str, field: str) -> Callable[[Part], Made]:
    def make(part: Part) -> Made:
        values = part.reading.column(source, field)
        span = part.span[source]
        if len(span) == 1:
            return values[span[0]] if span[0] < len(values) else None
        return combined(field, [values[row] for row in span if row < len(values)])

    return make


def combined(field: str, values: Sequence[int]) -> int | None:
    """A field's values in several rows as one number: their sum, of averages the mean; None where there are none."""
    if field == _MEAN:
        values = [value for value in values if value]
        return sum(values) // len(values) if values else 0
    if field == "startup_time":
        return max(values, default=None)
    return sum(values) & 0xFFFF_FFFF_FFFF_FFFF if values else None


def _up_time(part: Part) -> Made:
    reading = part.reading
    if not reading.up():
        return None
    started = reading.row("server" if reading.count("server") else "daemon").get("started", 0)
    return int((reading.pace.now - started) * 100) if started else None


def _custom(field: str) -> Callable[[Part], Made]:
    def make(part: Part) -> Made:
        row = part.reading.row("snmp_values", part.span["snmp_values"][0])
        return row.get(field) if row.get("type") in {snmp.COUNTER32, snmp.GAUGE32, snmp.COUNTER64} else None

    return make


def _custom_value(part: Part) -> Made:
    row = part.reading.row("snmp_values", part.span["snmp_values"][0])
    value = row.get("value", 0)
    return {snmp.COUNTER64: value, snmp.GAUGE32: value & _MAX_32, snmp.COUNTER32: value & _MAX_32}.get(
        row.get("type", 0)
    )


def _metric(part: Part) -> int | None:
    return part.reading.row("metrics", part.span["metrics"][0]).get("value")


def _metric_value(part: Part) -> Made:
    value = _metric(part)
    return None if value is None else value & 0xFFFF_FFFF_FFFF_FFFF


def _metric_text(part: Part) -> Made:
    value = _metric(part)
    return None if value is None else str(value)


_OWN: Final[dict[tuple[str, str], Callable[[Part], Made]]] = {
    ("instance", "text"): lambda part: part.reading.name,
    ("instance", "up"): lambda part: part.reading.up(),
    ("instance", "up_time"): _up_time,
    ("instance", "age"): lambda part: part.reading.age(),
    ("instance", "workers"): lambda part: sum(1 for pid in part.reading.column("slots", "pid") if pid),
    ("instance", "workers_max"): lambda part: part.reading.count("slots"),
    ("instance", "accepting"): lambda part: sum(part.reading.column("workers", "accepting")),
    ("instance", "cores"): lambda part: part.reading.count("cores"),
    ("metric", "value"): _metric_value,
    ("metric", "text"): _metric_text,
    ("custom", "type"): _custom("type"),
    ("custom", "value"): _custom_value,
    ("daemon", "up"): lambda part: part.reading.up(),
    ("daemon", "up_time"): _up_time,
}
