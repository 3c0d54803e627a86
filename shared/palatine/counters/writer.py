"""The writing end of a segment: made whole under a temporary name, then published; it never resizes a file.

A word is stored by `cells(...)[i] = v` only: `struct.pack_into` stores it in pieces, and readers see them.
"""

import mmap
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from palatine.codec.segment import READY_OFFSET, Placed, encode_head, plan
from palatine.codec.segment_rows import WORD, text_copy_bytes
from palatine.counters import ofd
from palatine.counters.latch import TextLatch
from palatine.errors import AlreadyRunningError
from palatine.schema import Table

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
_CLOSED: Final = -1


def boot_id() -> bytes:
    """16 bytes that change when the machine boots: a segment of an earlier boot was left behind on disk."""
    with open(_BOOT_ID, "rb", buffering=0) as file:
        return bytes.fromhex(file.read().decode("ascii").strip().replace("-", ""))


class Segment:
    """A segment being written; `cells` and `text` give out windows on shared memory, valid also after `close`."""

    path: Path
    uuid: bytes
    labels: dict[str, Any]

    def __init__(self, path: Path, temporary: str, memory: mmap.mmap, labels: Mapping[str, Any], uuid: bytes) -> None:
        self.path = path
        self.uuid = uuid
        self.labels = dict(labels)
        self._temporary = temporary
        self._bytes = memoryview(memory)
        self._words = self._bytes.cast("Q")
        self._alive_fd = _CLOSED
        self._tables: dict[str, Placed] = {}
        self._rows_offset = 0

    @classmethod
    def create(
        cls,
        path: Path,
        tables: Sequence[Table],
        rows: Mapping[str, int],
        labels: Mapping[str, Any],
        *,
        mode: int = 0o640,
    ) -> Self:
        """A new segment that `publish` will put at `path`, all words 0.

        A table not named in `rows` has one row if it has no key, else none. OSError (ENOSPC on a full file system)
        names the file; ValueError for tables, rows or labels that cannot be.
        """
        layout = plan(tables, rows)
        uuid = os.urandom(16)
        head = encode_head(layout, labels, uuid=uuid, boot_id=boot_id(), created=time.time_ns() // 1000)
        size = len(head) + layout.size
        temporary = f"{path.parent}/.{path.name}.{uuid.hex()}"
        memory = _map_new(temporary, size, mode)
        segment = cls(path, temporary, memory, labels, uuid)
        segment._bytes[: len(head)] = head
        segment._tables = {placed.table.name: placed for placed in layout.tables}
        segment._rows_offset = len(head)
        return segment

    def publish(self) -> None:
        """Take the liveness lock, move the file into place and, last of all, mark it ready."""
        # A description of its own: the one mmap keeps is inherited by every fork and would hold the lock for ever.
        self._alive_fd = os.open(self._temporary, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        if not ofd.try_lock(self._alive_fd, READY_OFFSET, WORD):
            raise AlreadyRunningError(f"{self._temporary}: somebody else holds the lock of a file just made")
        os.replace(self._temporary, self.path)
        self._temporary = ""
        self._words[READY_OFFSET // WORD] = 1

    def cells(self, table: str, row: int = 0, bank: int = 0) -> memoryview:
        """The words of a row; `cells[i] = v`, 0 <= v < 2**64, is the only store allowed. KeyError, IndexError."""
        placed = self._tables[table]
        start = (self._rows_offset + placed.row_offset(row, bank)) // WORD
        return self._words[start : start + len(placed.table.fields)]

    def word(self, table: str, field: str) -> int:
        """Where in `cells` a field is; KeyError."""
        return self._tables[table].table.word(field)

    def rows(self, table: str) -> int:
        """How many rows a table has; KeyError."""
        return self._tables[table].rows

    def text(self, table: str, row: int = 0, bank: int = 0) -> TextLatch:
        """The text of a row; KeyError for a table without texts, IndexError."""
        placed = self._tables[table]
        capacity = placed.table.text_bytes
        if not capacity:
            raise KeyError(f"table {table} has no texts")
        start = self._rows_offset + placed.row_offset(row, bank) + placed.text_offset
        return TextLatch(self._bytes[start : start + WORD + 2 * text_copy_bytes(capacity)], capacity)

    def release_in_child(self) -> None:
        """In a forked child: drop the inherited liveness lock, so that it ends with the parent; nothing else."""
        if self._alive_fd != _CLOSED:
            os.close(self._alive_fd)
            self._alive_fd = _CLOSED

    def close(self, *, unlink: bool) -> None:
        """Give liveness up; with `unlink` remove the file if it is still this one. Windows given out stay harmless."""
        if self._temporary:
            os.unlink(self._temporary)
            self._temporary = ""
        elif unlink and self._alive_fd != _CLOSED:
            self._unlink_published()
        self.release_in_child()

    def _unlink_published(self) -> None:
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return
        if os.path.samestat(there, os.fstat(self._alive_fd)):
            self.path.unlink(missing_ok=True)


def _map_new(name: str, size: int, mode: int) -> mmap.mmap:
    """A new file of `size` bytes that really has its space, mapped shared."""
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        os.fchmod(fd, mode)  # the umask may have taken bits away
        os.posix_fallocate(fd, 0, size)  # a file grown by ftruncate kills its writer when the space is not there
        return mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError as error:
        os.unlink(name)
        raise OSError(error.errno, f"no room for a segment of {size} bytes: {error.strerror}", name) from error
    finally:
        os.close(fd)
