"""Copies of a segment's tables, taken in as few reads as their places allow; knows nothing of what is in them.

The tables of one copy are some microseconds apart, as the parts of uWSGI's own document are.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from operator import add, attrgetter, is_
from typing import Any, Final, TypeVar, cast

from palatine.codec.segment import Placed
from palatine.codec.segment_rows import WORD
from palatine.counters import SegmentView
from palatine.schema import U64

T = TypeVar("T")
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
    """Where a table is in a snapshot, and its fields in a row; remembers the last snapshot's columns."""

    def __init__(self, placed: Placed, span: int, start: int) -> None:
        self.rows = placed.rows
        self.step = placed.stride // WORD
        self.fields = {field.name: (at, field.signed) for at, field in enumerate(placed.table.fields)}
        self._banks = placed.table.banks
        self._span = span
        self._bytes = slice(start * WORD, start * WORD + placed.size)
        self._last = Cut(self, b"", 0, {})

    def cut(self, snapshot: Snapshot, bank: int = 0) -> "Cut":
        """The table's columns; `bank` is that of the serving generation.

        A column that is what it was in the snapshot before is the same object, which is how a user sees that.
        """
        data = snapshot[self._span][self._bytes]
        bank = bank if self._banks > 1 else 0
        last = self._last
        if data != last.data or bank != last.bank:
            last = self._last = Cut(self, data, bank, last.columns)
        return last

    def halves(self, data: bytes, bank: int) -> tuple[memoryview, memoryview | None]:
        """The words of the serving generation's bank, and of the other one if anything is in it."""
        words = memoryview(data).cast("Q")
        if self._banks == 1:
            return words, None
        half = len(data) // 2
        now, past = (half, 0) if bank else (0, half)
        other = None if data[past : past + half] == bytes(half) else words[past // WORD :][: half // WORD]
        return words[now // WORD :][: half // WORD], other


class Cut:
    """A table of a snapshot; its columns are cut out at their first use."""

    def __init__(self, table: TableIn, data: bytes, bank: int, known: Mapping[tuple[str, str], Column]) -> None:
        self.data = data
        self.bank = bank
        self.columns: dict[tuple[str, str], Column] = {}
        self._table = table
        self._known = known
        self._now, self._past = table.halves(data, bank)

    def now(self, field: str) -> Column:
        """A field in the bank of the serving generation; zeros where the segment does not keep it."""
        key = ("now", field)
        column = self.columns.get(key)
        return self._kept(key, self._column(self._now, field)) if column is None else column

    def past(self, field: str) -> Column:
        """A field in the other bank."""
        return [0] * self._table.rows if self._past is None else self._column(self._past, field)

    def total(self, field: str) -> Column:
        """A field of both banks added up."""
        if self._past is None:
            return self.now(field)
        key = ("total", field)
        column = self.columns.get(key)
        if column is None:
            both = zip(self._column(self._now, field), self._column(self._past, field), strict=True)
            column = self._kept(key, [one + other & U64 for one, other in both])
        return column

    def _kept(self, key: tuple[str, str], column: Column) -> Column:
        """The column, or the one known before if it is equal."""
        known = self._known.get(key)
        kept = self.columns[key] = known if known is not None and known == column else column
        return kept

    def _column(self, words: memoryview, field: str) -> Column:
        at, signed = self._table.fields.get(field, (-1, False))
        if at < 0:
            return [0] * self._table.rows
        column: Column = words[at :: self._table.step].tolist()
        return [value - 2 * _SIGN if value >= _SIGN else value for value in column] if signed else column


class Memo:
    """Results of functions of columns, by name: called again only with other columns than the last time.

    Columns are compared as objects, as `TableIn.cut` promises them; equal results are the same object again.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[tuple[Any, ...], Any]] = {}

    def __call__(self, name: Hashable, function: Callable[..., T], *columns: Any) -> T:
        """`function(*columns)`, or what it was."""
        inputs, result = self._known.get(name, (None, None))
        if inputs is not None and all(map(is_, inputs, columns)):
            return cast("T", result)
        made = function(*columns)
        kept = result if result == made else made
        self._known[name] = (columns, kept)
        return cast("T", kept)


def summed(*columns: Sequence[int]) -> Column:
    """Columns added up as counters are, which wrap at 64 bits."""
    total = list(columns[0])
    for column in columns[1:]:
        total = list(map(add, total, column))
    return total if max(total, default=0) <= U64 else [value & U64 for value in total]
