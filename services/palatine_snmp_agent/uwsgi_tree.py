"""uWSGI's own tree of one instance as a view: 1.3.6.1.4.1.35156.17, without `.0`; must never write to a segment.

    .1.1        requests of the instance                     Counter64
    .1.(30+N)   requests of worker N, 1 <= N <= processes    Counter64
    .2.1-.2.100 values the app set, as the type it last used
    .OID        metrics at the names they are given          Gauge32 of a gauge, otherwise Counter64

uWSGI stops at worker 70, because its table is followed by the app's values in memory and it hands those out beyond; the
names go on here.

Values have uWSGI's octets, always 4 or 8 of them, but for those with the top bit set: uWSGI leaves out the octet that
says they are not negative, and strict decoders (pysnmp's) then drop the whole reply. A value nobody set has no
instance. With `null_unset` both are as in uWSGI: no such octet, and NULL, also for the names below .1.100 that uWSGI
never uses.
"""

import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

from palatine.codec import ber, snmp
from palatine.codec.segment import Placed
from palatine.codec.segment_rows import WORD
from palatine.errors import ProtocolError
from palatine_snmp_agent.view import Cell, Cells, View, Writer

BASE: Final[ber.Oid] = (1, 3, 6, 1, 4, 1, 35156, 17)
_GENERAL: Final = (*BASE, 1)
_CUSTOM: Final = (*BASE, 2)
_TOTAL: Final = 1
_BEFORE_WORKER_1: Final = 30
#: Arcs below .1 that uWSGI answers.
_UWSGI_GENERAL: Final = 100
#: Octets of the largest table read for a datagram: 16,000 cores. A segment is its owner's to make; a larger one would
#: let him slow down his neighbours' answers.
MAX_TABLE_OCTETS: Final = 4 << 20

#: Content octets of the types an app may give a value.
_OCTETS: Final = {snmp.COUNTER32: 4, snmp.GAUGE32: 4, snmp.COUNTER64: 8}
_TOP_BIT: Final = 0x80


class Source(Protocol):
    """What is needed of a `palatine.counters.SegmentView`."""

    def placed(self, table: str) -> Placed:
        """Where the table's rows are in its copy; KeyError if there is no such table."""

    def copier(self, table: str) -> Callable[[], bytes]:
        """Reads the octets of the table's rows."""

    def row_labels(self, table: str, row: int = 0) -> Mapping[str, Any]:
        """The labels of a row, {} where there are none."""


def instance_view(segment: Source, *, null_unset: bool = False) -> View:
    """The view of one instance.

    Raises:
        ProtocolError: the segment lacks a table or field, or has one too large to be read at every look.
    """
    cores = _Table(segment, "cores")
    values = _Table(segment, "snmp_values")
    metrics = _Table(segment, "metrics")
    workers = _Table(segment, "workers").placed.rows

    def begin() -> None:
        cores.octets = values.octets = metrics.octets = b""

    unset = snmp.NULL if null_unset else snmp.NO_SUCH_INSTANCE
    sign = b"" if null_unset else b"\0"
    cells = [*_request_cells(cores, workers, sign), *_value_cells(values, unset, sign)]
    names = [cell.arcs for cell in cells]
    cells += _metric_cells(metrics, segment, names, sign)
    last = {_GENERAL: max(_UWSGI_GENERAL, _BEFORE_WORKER_1 + workers), _CUSTOM: values.placed.rows}

    def known(arcs: ber.Oid) -> bytes:
        group, number = arcs[: len(_GENERAL)], arcs[len(_GENERAL) :]
        if not number or not 1 <= number[0] <= last.get(group, 0):
            return snmp.NO_SUCH_OBJECT
        return unset if len(number) == 1 and number[0] <= _UWSGI_GENERAL else snmp.NO_SUCH_INSTANCE

    return View([Cells(BASE, cells, known)], begin)


class _Table:
    """A table of a segment, copied at most once per datagram: `octets` is empty until somebody calls `copy`."""

    def __init__(self, segment: Source, name: str) -> None:
        self._name = name
        self.octets = b""
        try:
            self.placed = segment.placed(name)
            self._read = segment.copier(name)
        except KeyError as error:
            raise ProtocolError(f"the segment has no table {name}") from error
        if self.placed.rows * self.placed.stride * self.placed.table.banks > MAX_TABLE_OCTETS:
            raise ProtocolError(f"table {name} is too large to be read for every datagram")

    def copy(self) -> bytes:
        """The table as it is now, kept until `octets` is emptied."""
        self.octets = octets = self._read()
        return octets

    def word(self, field: str) -> int:
        """Which word of a row a field is."""
        try:
            return self.placed.table.word(field)
        except KeyError as error:
            raise ProtocolError(f"table {self._name} has no field {field}") from error


def _request_cells(cores: _Table, workers: int, sign: bytes) -> Iterator[Cell]:
    rows = cores.placed.rows
    if workers and rows % workers:
        raise ProtocolError(f"{rows} cores of {workers} workers")
    banks = range(cores.placed.table.banks)
    # The banks stand one after the other: all rows of both are one run.
    total = (*_GENERAL, _TOTAL)
    yield Cell(total, _requests(total, cores, [0], rows * len(banks), sign))
    threads = rows // workers if workers else 0
    for worker in range(workers):
        firsts = [bank * rows + worker * threads for bank in banks]
        name = (*_GENERAL, _BEFORE_WORKER_1 + 1 + worker)
        yield Cell(name, _requests(name, cores, firsts, threads, sign))


def _requests(name: ber.Oid, cores: _Table, firsts: list[int], count: int, sign: bytes) -> Writer:
    """Writes the sum of `requests` over `count` rows from each of the rows `firsts`."""
    stride = cores.placed.stride
    column = struct.Struct("=" + f"{stride - WORD}x".join(["Q"] * count)).unpack_from
    starts = [first * stride + cores.word("requests") * WORD for first in firsts]
    head, high = _heads(name, snmp.COUNTER64, 8, sign)
    octets_of = struct.Struct(">Q").pack

    def write() -> bytes:
        octets = cores.octets or cores.copy()
        total = 0
        for start in starts:
            total += sum(column(octets, start))
        content = octets_of(total & 0xFFFF_FFFF_FFFF_FFFF)
        return (head if content[0] < _TOP_BIT else high) + content

    return write


def _heads(name: ber.Oid, tag: int, octets: int, sign: bytes) -> tuple[bytes, bytes]:
    """A varbind up to its content of so many octets: of a value without the top bit, and of one with it."""
    return snmp.varbind_head(name, tag, octets), snmp.varbind_head(name, tag, octets + len(sign)) + sign


def _value_cells(values: _Table, unset: bytes, sign: bytes) -> Iterator[Cell]:
    stride = values.placed.stride
    kind, value = values.word("type") * WORD, values.word("value") * WORD
    for row in range(values.placed.rows):
        name, start = (*_CUSTOM, row + 1), row * stride
        forms = {tag: _form(name, tag, start + value, sign) for tag in _OCTETS}
        yield Cell(name, _value(values, start + kind, forms.get), unset)


_Form = tuple[bytes, bytes, slice]


def _form(name: ber.Oid, tag: int, at: int, sign: bytes) -> _Form:
    """A varbind of this type up to its content, without and with the top bit, and where that is, big-endian."""
    octets = _OCTETS[tag]
    return *_heads(name, tag, octets, sign), _big_endian(at, octets)


def _big_endian(at: int, octets: int) -> slice:
    """The low octets of the native word at `at`, the highest first: reading them so is cheaper than packing them."""
    if sys.byteorder == "big":
        return slice(at + WORD - octets, at + WORD)
    return slice(at + octets - 1, at - 1 if at else None, -1)


def _value(values: _Table, kind: int, form: Callable[[int], _Form | None]) -> Writer:
    """Writes the value whose type is in the word at `kind`; a type nobody knows is no value."""
    low = kind if sys.byteorder == "little" else kind + WORD - 1

    def write() -> bytes:
        octets = values.octets or values.copy()
        found = form(octets[low])
        if found is None:
            return b""
        head, high, where = found
        content = octets[where]
        return (head if content[0] < _TOP_BIT else high) + content

    return write


def _metric_cells(metrics: _Table, segment: Source, taken: list[ber.Oid], sign: bytes) -> Iterator[Cell]:
    """The metrics that have a name of their own; the first of one name has it, and uWSGI's own names come first."""
    used = {name[: len(_GENERAL)] for name in taken} | {_GENERAL, _CUSTOM}
    for row in range(metrics.placed.rows):
        labels = segment.row_labels("metrics", row)
        suffix = _metric_suffix(labels.get("oid"))
        name = (*BASE, *suffix)
        if not suffix or name[: len(_GENERAL)] in {_GENERAL, _CUSTOM} or name in used:
            continue
        used.add(name)
        tag = snmp.GAUGE32 if labels.get("type") == "gauge" else snmp.COUNTER64
        start = row * metrics.placed.stride + metrics.word("value") * WORD
        yield Cell(name, _metric(metrics, *_form(name, tag, start, sign)))


def _metric(metrics: _Table, head: bytes, high: bytes, where: slice) -> Writer:
    def write() -> bytes:
        content = (metrics.octets or metrics.copy())[where]
        return (head if content[0] < _TOP_BIT else high) + content

    return write


def _metric_suffix(said: object) -> ber.Oid:
    """The arcs of a metric's `oid` label, which an app wrote; () if they are none that could be asked for."""
    try:
        arcs = tuple(int(word) for word in said.split(".")) if isinstance(said, str) and said.isascii() else ()
        ber.oid_octets((*BASE, *arcs))
    except (ValueError, ProtocolError):
        return ()
    return arcs
