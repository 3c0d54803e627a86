"""The reading end of a segment that may belong to anybody: refuses bad files with an error, never holds a writer up.

Reads copy out of the file with `pread` instead of through a map: whoever owns the file can cut it short at any moment,
and a process that touches a mapped page beyond the end of its file is killed by SIGBUS. The copy costs a microsecond
and is decoded in one go; the kernel copies aligned words whole.
"""

import errno
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

from palatine.codec.segment import FIXED_BYTES, READY_OFFSET, Placed, parse_fixed, parse_head
from palatine.codec.segment_rows import WORD, RowReader, read_latch, text_copy_bytes
from palatine.counters import ofd
from palatine.counters.writer import boot_id
from palatine.errors import PeerError, ProtocolError
from palatine.schema import U64, Table

#: A look fails if two writes begin during the microsecond it takes; this many failures in a row are no accident, and a
#: hostile segment with thousands of such texts must not keep its reader busy.
_TEXT_ATTEMPTS: Final = 50

_WORD: Final = struct.Struct("=Q")


class SegmentView:
    """A published segment, read only. Every read may raise ProtocolError if the file has been cut short meanwhile."""

    path: Path
    uuid: bytes
    created: float
    labels: dict[str, Any]
    tables: dict[str, Table]

    def __init__(self, path: Path, fd: int) -> None:
        """Use `open`. Takes over the descriptor."""
        self.path = path
        self._fd = fd
        fixed = parse_fixed(self._pread(FIXED_BYTES, 0))
        if os.fstat(fd).st_size != fixed.size:
            raise ProtocolError(f"{path}: says it has {fixed.size} bytes, has {os.fstat(fd).st_size}")
        head = parse_head(self._pread(fixed.rows_offset, 0))
        if head.fixed.boot_id != boot_id():
            raise ProtocolError(f"{path}: left over from before the machine was booted")
        self.uuid = head.fixed.uuid
        self.created = head.fixed.created / 1e6
        self.labels = head.labels
        self.tables = {name: placed.table for name, placed in head.tables.items()}
        self._placed = head.tables
        self._readers = {name: RowReader(table) for name, table in self.tables.items()}
        self._rows_offset = head.fixed.rows_offset
        self._generation = self._generation_offset()

    @classmethod
    def open(cls, path: Path, *, owner: int | None = None) -> Self:
        """The segment published at `path`.

        Raises OSError if there is none; ProtocolError if it is not a regular file, garbage, cut short, not ready
        (NotReadyError) or of an earlier boot; PeerError if `owner` is given and the file's uid is another.
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise ProtocolError(f"{path}: is not a regular file") from error
            raise
        try:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):
                raise ProtocolError(f"{path}: is not a regular file")
            if owner is not None and facts.st_uid != owner:
                raise PeerError(f"{path}: belongs to uid {facts.st_uid}, not to {owner}", "owner")
            return cls(path, fd)
        except BaseException:
            os.close(fd)
            raise

    def rows(self, table: str) -> int:
        """How many rows a table has; KeyError if there is no such table."""
        return self._placed[table].rows

    def row(self, table: str, row: int = 0) -> dict[str, int]:
        """The values of one row by field name, banks merged, signed fields signed; KeyError, IndexError."""
        placed = self._placed[table]
        words = len(placed.table.fields) * WORD
        bank = self._current(placed.table)
        data = self._read(placed.row_offset(row, bank), words)
        if not placed.table.banked:
            return self._readers[table].values(data, 0)
        data += self._read(placed.row_offset(row, 1 - bank), words)
        return self._readers[table].values(data, 0, words)

    def read(self, table: str) -> list[dict[str, int]]:
        """All rows of a table, as `row` gives them, copied together."""
        placed = self._placed[table]
        data = self._copy(placed)
        values = self._readers[table].values
        bank_bytes = placed.rows * placed.stride
        rows = range(0, bank_bytes, placed.stride)
        if not placed.table.banked:
            return [values(data, row) for row in rows]
        current = self._current(placed.table) * bank_bytes
        return [values(data, current + row, bank_bytes - current + row) for row in rows]

    def column(self, table: str, field: str, data: bytes) -> list[int]:
        """One field of all rows, as `read` has it, out of a `copy` of the table; KeyError.

        A twentieth of `read`'s time where a table has hundreds of rows and one field is wanted.
        """
        placed = self._placed[table]
        word = placed.table.word(field)
        declared, rows = placed.table.fields[word], placed.rows
        words = memoryview(data).cast("Q")[word :: placed.stride // WORD].tolist()
        if placed.table.banked:
            banks = words[:rows], words[rows : 2 * rows]
            current = self._current(placed.table)
            words = banks[current]
            if declared.merge == "sum":
                words = [(one + other) & U64 for one, other in zip(words, banks[1 - current], strict=True)]
        return [one - (1 << 64) if one >> 63 else one for one in words] if declared.signed else words[:rows]

    def text(self, table: str, row: int = 0, bank: int | None = None) -> bytes:
        """The text of a row, whole; `bank` None is the bank of the current generation.

        A text that will not hold still for fifty looks reads as empty. KeyError for a table without texts,
        IndexError.
        """
        placed = self._with_text(table)
        bank = self._current(placed.table) if bank is None else bank
        return self._text_at(placed, placed.row_offset(row, bank) + placed.text_offset)

    def texts(self, table: str, bank: int | None = None) -> list[bytes]:
        """The texts of all rows of a table, each as `text` gives it."""
        placed = self._with_text(table)
        bank = self._current(placed.table) if bank is None else bank
        data = self._copy(placed)
        found = []
        for row in range(placed.rows):
            offset = placed.row_offset(row, bank) + placed.text_offset
            text = read_latch(data, offset - placed.offset, placed.table.text_bytes)
            found.append(self._text_at(placed, offset) if text is None else text)
        return found

    def placed(self, table: str) -> Placed:
        """Where a table's rows are in what `copy` returns (offsets from its own), for a reader that decodes in bulk."""
        return self._placed[table]

    def copy(self, table: str, last: str = "") -> bytes:
        """All rows of a table as they are in the file, bank after bank, `stride` bytes each.

        With `last`, everything from the one table to the end of the other, by one read; b"" if they lie otherwise.
        """
        first, end = self._placed[table], self._placed[last or table]
        return self._read(first.offset, max(end.offset + end.size - first.offset, 0))

    def copy_rows(self, table: str, first: int, count: int) -> bytes:
        """Some rows of a table as `copy` has them, counting bank after bank."""
        placed = self._placed[table]
        return self._read(placed.offset + first * placed.stride, count * placed.stride)

    def copier(self, table: str) -> Callable[[], bytes]:
        """`copy` of one table as a function, for who looks at every datagram: half of what `copy` costs is finding."""
        placed, pread = self._placed[table], os.pread
        size, offset = placed.size, self._rows_offset + placed.offset

        def copy() -> bytes:
            data = pread(self._fd, size, offset)
            return data if len(data) == size else self._pread(size, offset)

        return copy

    def row_labels(self, table: str, row: int = 0) -> dict[str, Any]:
        """The labels of a row, {} where there are none; of the last key, so of the app for (worker, core, app)."""
        rows = self.labels.get(table)
        if not isinstance(rows, list) or not rows:
            return {}
        index = row % len(rows) if len(self.tables[table].key) > 1 else row
        said = rows[index] if 0 <= index < len(rows) else None
        return said if isinstance(said, dict) else {}

    def alive(self) -> bool:
        """Whether the process that published it lives (holds its lock)."""
        return ofd.held(self._fd, READY_OFFSET, WORD)

    def replaced(self) -> bool:
        """Whether the path now names another file, or none: open it again."""
        try:
            return not os.path.samestat(os.stat(self.path, follow_symlinks=False), os.fstat(self._fd))
        except (FileNotFoundError, NotADirectoryError):
            return True

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _generation_offset(self) -> int | None:
        server = self._placed.get("server")
        if server is None or not server.rows or "generation" not in (field.name for field in server.table.fields):
            return None
        return server.row_offset(0) + server.table.word("generation") * WORD

    def _current(self, table: Table) -> int:
        if not table.banked or self._generation is None:
            return 0
        (generation,) = _WORD.unpack(self._read(self._generation, WORD))
        return int(generation & 1)

    def _with_text(self, table: str) -> Placed:
        placed = self._placed[table]
        if not placed.table.text_bytes:
            raise KeyError(f"table {table} has no texts")
        return placed

    def _text_at(self, placed: Placed, offset: int) -> bytes:
        capacity = placed.table.text_bytes
        for _ in range(_TEXT_ATTEMPTS):
            text = read_latch(self._read(offset, WORD + 2 * text_copy_bytes(capacity)), 0, capacity)
            if text is not None:
                return text
        return b""

    def _copy(self, placed: Placed) -> bytes:
        return self._read(placed.offset, placed.table.banks * placed.rows * placed.stride)

    def _read(self, offset: int, size: int) -> bytes:
        return self._pread(size, self._rows_offset + offset)

    def _pread(self, size: int, offset: int) -> bytes:
        data = os.pread(self._fd, size, offset)
        if len(data) != size:
            raise ProtocolError(f"{self.path}: ends at byte {offset + len(data)}, before {offset + size}")
        return data
