"""uWSGI's own tree of one instance as a view: 1.3.6.1.4.1.35156.17, without `.0`; must never write to a segment.

    .1.1        requests of the instance                     Counter64
    .1.(30+N)   requests of worker N, 1 <= N <= processes    Counter64
    .2.1-.2.100 values the app set, as the type it last used

uWSGI stops at worker 70, because its table is followed by the app's values in memory and it hands those out beyond; the
names go on here. A value nobody set has no instance; with `null_unset` it is NULL, as in uWSGI, and so are the names
below .1.100 that uWSGI never uses.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from palatine.codec import ber, snmp
from palatine.codec.segment import Placed
from palatine.codec.segment_rows import WORD
from palatine.errors import ProtocolError
from palatine_snmp_agent.view import Cell, Reader, View

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

_WRITERS: Final[dict[int, Callable[[int], bytes]]] = {
    snmp.COUNTER32: snmp.counter32,
    snmp.GAUGE32: snmp.gauge32,
    snmp.COUNTER64: snmp.counter64,
}


class Source(Protocol):
    """What is needed of a `palatine.counters.SegmentView`."""

    def placed(self, table: str) -> Placed:
        """Where the table's rows are in its copy; KeyError if there is no such table."""

    def copy(self, table: str) -> bytes:
        """The octets of the table's rows."""


def instance_view(segment: Source, *, null_unset: bool = False) -> View:
    """The view of one instance.

    Raises:
        ProtocolError: the segment lacks a table or field, or has one too large to be read at every look.
    """
    cores = _Table(segment, "cores")
    values = _Table(segment, "snmp_values")
    workers = _Table(segment, "workers").placed.rows

    def begin() -> None:
        cores.octets = values.octets = b""

    cells = [*_request_cells(cores, workers), *_value_cells(values, null_unset=null_unset)]
    if null_unset:
        used = {cell.arcs[-1] for cell in cells if cell.arcs[:-1] == _GENERAL}
        unused = set(range(1, _UWSGI_GENERAL + 1)) - used
        cells += [Cell((*_GENERAL, arc), lambda: snmp.NULL) for arc in unused]
    last = {_GENERAL: max(_UWSGI_GENERAL, _BEFORE_WORKER_1 + workers), _CUSTOM: values.placed.rows}

    def known(arcs: ber.Oid) -> bool:
        group, number = arcs[: len(_GENERAL)], arcs[len(_GENERAL) :]
        return bool(number) and 1 <= number[0] <= last.get(group, 0)

    return View(cells, known, begin)


class _Table:
    """A table of a segment, copied at most once per datagram: `octets` is empty until somebody calls `copy`."""

    def __init__(self, segment: Source, name: str) -> None:
        self._segment = segment
        self._name = name
        self.octets = b""
        try:
            self.placed = segment.placed(name)
        except KeyError as error:
            raise ProtocolError(f"the segment has no table {name}") from error
        if self.placed.rows * self.placed.stride * self.placed.table.banks > MAX_TABLE_OCTETS:
            raise ProtocolError(f"table {name} is too large to be read for every datagram")

    def copy(self) -> bytes:
        """The table as it is now, kept until `octets` is emptied."""
        self.octets = self._segment.copy(self._name)
        return self.octets

    def word(self, field: str) -> int:
        """Which word of a row a field is."""
        try:
            return self.placed.table.word(field)
        except KeyError as error:
            raise ProtocolError(f"table {self._name} has no field {field}") from error


def _request_cells(cores: _Table, workers: int) -> Iterator[Cell]:
    rows = cores.placed.rows
    if workers and rows % workers:
        raise ProtocolError(f"{rows} cores of {workers} workers")
    banks = range(cores.placed.table.banks)
    # The banks stand one after the other: all rows of both are one run.
    yield Cell((*_GENERAL, _TOTAL), _requests(cores, [0], rows * len(banks)))
    threads = rows // workers if workers else 0
    for worker in range(workers):
        firsts = [bank * rows + worker * threads for bank in banks]
        yield Cell((*_GENERAL, _BEFORE_WORKER_1 + 1 + worker), _requests(cores, firsts, threads))


def _requests(cores: _Table, firsts: list[int], count: int) -> Reader:
    """Reads the sum of `requests` over `count` rows from each of the rows `firsts`."""
    stride = cores.placed.stride
    column = struct.Struct("=" + f"{stride - WORD}x".join(["Q"] * count)).unpack_from
    starts = [first * stride + cores.word("requests") * WORD for first in firsts]

    def read() -> bytes:
        octets = cores.octets or cores.copy()
        total = 0
        for start in starts:
            total += sum(column(octets, start))
        return snmp.counter64(total)

    return read


def _value_cells(values: _Table, *, null_unset: bool) -> Iterator[Cell]:
    unset = snmp.NULL if null_unset else snmp.NO_SUCH_INSTANCE
    words_at = struct.Struct(f"={len(values.placed.table.fields)}Q").unpack_from
    kind, value = values.word("type"), values.word("value")

    def reader(start: int) -> Reader:
        """Reads the value whose row starts at this offset of the table."""

        def read() -> bytes:
            words = words_at(values.octets or values.copy(), start)
            write = _WRITERS.get(words[kind])
            return unset if write is None else write(words[value])

        return read

    for row in range(values.placed.rows):
        yield Cell((*_CUSTOM, row + 1), reader(row * values.placed.stride))
