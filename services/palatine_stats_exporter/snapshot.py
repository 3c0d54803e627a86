"""Copies of a segment's tables, taken in as few reads as their places allow; knows nothing of what is in them.

The tables of one copy are some microseconds apart, as the parts of uWSGI's own document are.
"""

from collections.abc import Iterable, Sequence
from operator import add, attrgetter
from typing import Final

from palatine.codec.segment import Placed
from palatine.codec.segment_rows import WORD
from palatine.counters import SegmentView
from palatine.schema import U64

Column = list[int]
#: The bytes of a copy; equal snapshots hold equal tables.
Snapshot = tuple[bytes, ...]

_SIGN: Final = 1 << 63


class Copier:
    """Takes snapshots of some of a segment's tables, and finds the tables in them."""

    def __init__(self, view: SegmentView, tables: Iterable[str]) -> None:
        self._view = view
        self._spans: list[tuple[str, str]] = []
        self.tables: dict[str, TableIn] = {}
        end = -1
        start = 0
        for placed in sorted((view.placed(name) for name in tables), key=attrgetter("offset", "size")):
            name = placed.table.name
            if placed.offset == end:
                self._spans[-1] = (self._spans[-1][0], name)
            else:
                self._spans.append((name, name))
                start = placed.offset
            end = placed.offset + placed.size
            self.tables[name] = TableIn(placed, len(self._spans) - 1, (placed.offset - start) // WORD)

    def copy(self) -> Snapshot:
        """The tables as they are now; ProtocolError if the segment was cut short."""
        return tuple(self._view.copy(first, last) for first, last in self._spans)


class TableIn:
    """Where a table is in a snapshot, and its fields in a row."""

    def __init__(self, placed: Placed, span: int, start: int) -> None:
        self.rows = placed.rows
        self.step = placed.stride // WORD
        self._span = span
        self._start = start
        self._bank_words = placed.rows * self.step
        self._banks = placed.table.banks
        self._fields = {field.name: (at, field.signed) for at, field in enumerate(placed.table.fields)}

    def cut(self, snapshot: Snapshot, bank: int = 0) -> "Cut":
        """The table's columns; `bank` is that of the serving generation."""
        words = memoryview(snapshot[self._span]).cast("Q")[self._start :]
        at = bank * self._bank_words if self._banks > 1 else 0
        now = words[at : at + self._bank_words]
        past = None
        if self._banks > 1:
            other = words[self._bank_words - at : 2 * self._bank_words - at]
            past = other if other.tobytes() != bytes(other.nbytes) else None
        return Cut(self, now, past)

    def column(self, words: memoryview, field: str) -> Column:
        """A field of every row; zeros where the segment does not keep it."""
        at, signed = self._fields.get(field, (-1, False))
        if at < 0:
            return [0] * self.rows
        column: Column = words[at :: self.step].tolist()
        return [value - 2 * _SIGN if value >= _SIGN else value for value in column] if signed else column


class Cut:
    """A table of a snapshot; its columns are cut out at their first use."""

    def __init__(self, table: TableIn, now: memoryview, past: memoryview | None) -> None:
        self._table = table
        self._now = now
        self._past = past
        self._columns: dict[str, Column] = {}

    def now(self, field: str) -> Column:
        """A field in the bank of the serving generation."""
        column = self._columns.get(field)
        if column is None:
            column = self._columns[field] = self._table.column(self._now, field)
        return column

    def past(self, field: str) -> Column:
        """A field in the other bank."""
        return [0] * self._table.rows if self._past is None else self._table.column(self._past, field)

    def total(self, field: str) -> Column:
        """A field of both banks added up."""
        if self._past is None:
            return self.now(field)
        return wrapped(list(map(add, self.now(field), self._table.column(self._past, field))))


def wrapped(column: Sequence[int]) -> Column:
    """Counters wrap at 64 bits, sums of them too."""
    if max(column, default=0) <= U64:
        return list(column) if not isinstance(column, list) else column
    return [value & U64 for value in column]
