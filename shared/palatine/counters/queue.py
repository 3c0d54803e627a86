"""UWSGI's queue: a ring of blocks in shared memory, in its own layout, so that a store of the real one is read as well.

    position u64, pull position u64, then blocks of: size u64 (0: empty), unix time i64, the message

The order of the stores makes a process that is killed half-way lose at most the message it was handling.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from palatine.counters.locks import SharedLock
from palatine.counters.memory import SharedMemory
from palatine.errors import DeadlineError

_WORD: Final = 8
_HEADER_BYTES: Final = 2 * _WORD
#: Bytes of a block that are not the message's.
_BLOCK_HEADER: Final = 2 * _WORD
_SIZE: Final = 0
_TIME: Final = 1
LOCK_SECONDS: Final = 5.0


class Queue:
    """`slots` blocks of `blocksize` bytes; DeadlineError from any method if the lock stays taken."""

    def __init__(self, slots: int, blocksize: int, memory: SharedMemory, lock: SharedLock) -> None:
        self.slots = slots
        self._blocksize = blocksize
        self._memory = memory
        self._lock = lock
        self._bytes = memory.view
        self._positions = memory.view[:_HEADER_BYTES].cast("Q")

    @staticmethod
    def size(slots: int, blocksize: int) -> int:
        """Bytes of memory such a queue takes."""
        return _HEADER_BYTES + slots * blocksize

    @property
    def position(self) -> int:
        """The slot the next push fills."""
        return self._positions[0] % self.slots

    @property
    def pull_position(self) -> int:
        """The slot the next pull takes."""
        return self._positions[1] % self.slots

    def push(self, message: bytes, now: int) -> bool:
        """Put a message into the next slot, over whatever is there; False if it is empty or too long."""
        with self._held():
            if not self._write(self.position, message, now):
                return False
            self._positions[0] = (self.position + 1) % self.slots
            return True

    def pop(self) -> bytes | None:
        """Take the message pushed last; None if there is none."""
        with self._held():
            slot = (self.position - 1) % self.slots
            message = self._read(slot)
            if message is not None:
                self._positions[0] = slot
                self._header(slot)[_SIZE] = 0
            return message

    def pull(self) -> bytes | None:
        """Take the message pushed first; None if there is none."""
        with self._held():
            slot = self.pull_position
            message = self._read(slot)
            if message is not None:
                self._positions[1] = (slot + 1) % self.slots
                self._header(slot)[_SIZE] = 0
            return message

    def get(self, slot: int) -> bytes | None:
        """The message in a slot, which keeps it; None if it is empty or there is no such slot."""
        with self._held():
            return self._read(slot) if 0 <= slot < self.slots else None

    def put(self, slot: int, message: bytes, now: int) -> bool:
        """Put a message into a slot; False if there is no such slot, or the message is empty or too long."""
        with self._held():
            return 0 <= slot < self.slots and self._write(slot, message, now)

    def last(self, number: int) -> list[bytes | None]:
        """The messages of the last `number` slots that were filled, the latest first."""
        with self._held():
            newest = self.position - 1
            return [self._read((newest - step) % self.slots) for step in range(min(number, self.slots))]

    def flush(self) -> None:
        """Write a queue that is kept in a file to the disk; OSError."""
        self._memory.flush()

    def release_in_child(self) -> None:
        """In a forked child: the file is the parent's."""
        self._memory.release_in_child()

    @contextmanager
    def _held(self) -> Iterator[None]:
        if not self._lock.acquire(LOCK_SECONDS):
            raise DeadlineError("the queue stayed locked")
        try:
            yield
        finally:
            self._lock.release()

    def _start(self, slot: int) -> int:
        return _HEADER_BYTES + slot * self._blocksize

    def _header(self, slot: int) -> memoryview:
        start = self._start(slot)
        return self._bytes[start : start + _BLOCK_HEADER].cast("Q")

    def _read(self, slot: int) -> bytes | None:
        size = self._header(slot)[_SIZE]
        if not 0 < size <= self._blocksize - _BLOCK_HEADER:
            return None
        start = self._start(slot) + _BLOCK_HEADER
        return bytes(self._bytes[start : start + size])

    def _write(self, slot: int, message: bytes, now: int) -> bool:
        if not 0 < len(message) <= self._blocksize - _BLOCK_HEADER:
            return False
        header, start = self._header(slot), self._start(slot) + _BLOCK_HEADER
        header[_SIZE] = 0
        self._bytes[start : start + len(message)] = message
        header[_TIME] = now
        header[_SIZE] = len(message)
        return True
