"""Conceptual tables as branches of a view: columns by rows, rows sorted by index; must never read a value itself."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Generic, NamedTuple, TypeVar

from palatine.codec import ber, snmp
from palatine_snmp_agent.view import Target, missing, nothing

RowT = TypeVar("RowT")
#: An entry is number 1 of its table: RFC 2578 section 7.7.
ENTRY: Final = 1


class Column(NamedTuple):
    """A column: its number, and the value element of it in a row; b"" where the row has none."""

    arc: int
    value: Callable[[Any], bytes]


class Row(NamedTuple, Generic[RowT]):
    """A row: the arcs of its index, and what the columns make their values of."""

    key: ber.Oid
    of: RowT


class Table(Generic[RowT]):
    """All cells below `prefix`, the name of a table. `rows` may be replaced at any time."""

    def __init__(self, prefix: ber.Oid, columns: Sequence[Column]) -> None:
        self.prefix = prefix
        self._columns = sorted(columns)
        self._arcs = [column.arc for column in self._columns]
        self._heads = [ber.oid_octets((*prefix, ENTRY, arc)) for arc in self._arcs]
        self._rows: list[Row[RowT]] = []
        self._indexes: list[ber.Oid] = []
        self._tails: list[bytes] = []
        self._most = ber.MAX_ARCS - len(prefix) - 2

    def show(self, rows: Sequence[Row[RowT]]) -> bool:
        """Have these rows from now on, those whose names would be too long left out; whether others than before."""
        kept = sorted((row for row in rows if len(row.key) <= self._most), key=lambda row: row.key)
        indexes = [row.key for row in kept]
        same = indexes == self._indexes
        self._rows, self._indexes = kept, indexes
        if not same:
            self._tails = [ber.arc_octets(index) for index in indexes]
        return not same

    def find(self, oid: bytes, arcs: ber.Oid) -> Target:
        """As `Branch.find`."""
        column, index = self._place(arcs)
        if column is None:
            return missing(oid)
        row = bisect_left(self._indexes, index)
        if self._indexes[row : row + 1] != [index]:
            return missing(oid, snmp.NO_SUCH_INSTANCE)
        return self._target(column, row)

    def after(self, _oid: bytes, arcs: ber.Oid) -> Iterator[Target]:
        """As `Branch.after`."""
        first, row = self._start(arcs)
        for column in range(first, len(self._columns)):
            for number in range(row, len(self._rows)):
                yield self._target(column, number)
            row = 0

    def _place(self, arcs: ber.Oid) -> tuple[int | None, ber.Oid]:
        below = arcs[len(self.prefix) :]
        if len(below) > 1 and below[0] == ENTRY and below[1] in self._arcs:
            return self._arcs.index(below[1]), below[2:]
        return None, ()

    def _start(self, arcs: ber.Oid) -> tuple[int, int]:
        """Number of the column and of the row in it that come after a name; they may be beyond the last."""
        depth = len(self.prefix)
        if arcs[:depth] != self.prefix:
            return (0, 0) if arcs < self.prefix else (len(self._columns), 0)
        below = arcs[depth:]
        if len(below) < 2 or below[0] != ENTRY:
            return (0, 0) if below[:1] <= (ENTRY,) else (len(self._columns), 0)
        first = bisect_left(self._arcs, below[1])
        if self._arcs[first : first + 1] != [below[1]]:
            return first, 0
        return first, bisect_right(self._indexes, below[2:]) if below[2:] else 0

    def _target(self, column: int, row: int) -> Target:
        name = ber.encode(ber.OBJECT_IDENTIFIER, self._heads[column] + self._tails[row])
        write = partial(_write, name, self._columns[column].value, self._rows[row].of)
        return Target(name, write, ber.encode(ber.SEQUENCE, name + snmp.NO_SUCH_INSTANCE))


def _write(name: bytes, value: Callable[[Any], bytes], of: Any) -> bytes:
    element = value(of)
    return ber.encode(ber.SEQUENCE, name + element) if element else nothing()


def text_index(octets: bytes) -> ber.Oid:
    """The arcs of a text of variable length as part of an index: its length, then its octets (RFC 2578, 7.7)."""
    return (len(octets), *octets)
