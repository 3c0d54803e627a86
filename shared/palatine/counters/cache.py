"""A cache of bytes by key in shared memory, for many processes under one lock; it starts no thread and knows no clock.

What a killed holder of the lock leaves behind is put right by the next one (`cache_items`).
"""

import enum
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

from palatine.counters.cache_items import (
    COUNT,
    CURSOR,
    FRESH_ITEM,
    FULL,
    HITS,
    MISS,
    MODIFIED,
    OLDEST,
    SWEPT,
    Items,
    Shape,
)  # fmt: skip
from palatine.counters.locks import SharedLock
from palatine.counters.memory import SharedMemory
from palatine.errors import DeadlineError
from palatine.schema import U64

__all__ = ["Cache", "Outcome", "Shape", "Statistics"]

LOCK_SECONDS: Final = 5.0
_NUMBER_BYTES: Final = 8


class Outcome(enum.Enum):
    """What became of a value."""

    STORED = "stored"
    PURGED = "stored, the least recently used item had to go"
    REFUSED = "refused: it is there already, or does not fit"
    FULL = "refused: the cache is full"


class Statistics(NamedTuple):
    """Counts since the cache was made; `last_modified` is unix time."""

    items: int
    hits: int
    miss: int
    full: int
    last_modified: int


class Cache:
    """The cache in `memory`; times are unix seconds. DeadlineError from any method if the lock stays taken."""

    def __init__(self, shape: Shape, memory: SharedMemory, lock: SharedLock) -> None:
        """ConfigError if the memory holds a cache of another shape."""
        self.shape = shape
        self._memory = memory
        self._lock = lock
        self._items = Items(shape, memory)
        self._header = self._items.header

    def get(self, key: bytes, now: int) -> bytes | None:
        """The value of `key`; None if there is none, or it has expired."""
        with _Held(self):
            item = self._find(key, now)
            if item < 0:
                self._header[MISS] += 1
                return None
            self._header[HITS] += 1
            if self.shape.purge_lru:
                self._items.changing(lambda: self._items.renew(item))
            return self._items.value(item)

    def exists(self, key: bytes, now: int) -> bool:
        """Whether `key` has a value; not counted as a lookup."""
        with _Held(self):
            return self._find(key, now) >= 0

    def expiry(self, key: bytes, now: int) -> int:
        """When `key` expires, in unix seconds; 0 for never, and where it has no value. Not counted as a lookup."""
        with _Held(self):
            item = self._find(key, now)
            return self._items.expires(item) if item >= 0 else 0

    def store(self, key: bytes, value: bytes, expires: int, now: int, *, update: bool) -> Outcome:
        """Give `key` a value for `expires` seconds (0: for ever); an existing one is replaced only with `update`.

        Where a new value finds no room the old one is gone all the same: it would be stale.
        """
        if not self._fits(key, value):
            return Outcome.REFUSED
        with _Held(self):
            item = self._find(key, now)
            if item >= 0 and not update:
                return Outcome.REFUSED
            return self._put(item, key, value, now + expires if expires else 0, now)

    def change(self, key: bytes, operate: Callable[[int], int], expires: int, now: int) -> Outcome:
        """Replace the signed 64-bit number under `key` (`math_initial` if there is none) by `operate` of it.

        One that exists keeps its expiry.
        """
        with _Held(self):
            item = self._find(key, now)
            number, until = self.shape.math_initial, now + expires if expires else 0
            if item >= 0:
                number, until = _number(self._items.value(item)), self._items.expires(item)
            value = (operate(number) & U64).to_bytes(_NUMBER_BYTES, "little")
            return self._put(item, key, value, until, now) if self._fits(key, value) else Outcome.REFUSED

    def delete(self, key: bytes, now: int) -> bool:
        """Remove `key`; whether it was there."""
        with _Held(self):
            item = self._find(key, now)
            if item < 0:
                return False
            self._header[MODIFIED] = now
            self._items.changing(lambda: self._items.remove(item))
            return True

    def clear(self, now: int) -> None:
        """Remove everything."""
        with _Held(self):
            self._header[MODIFIED] = now
            self._items.changing(self._items.empty)

    def keys(self, now: int) -> list[bytes]:
        """Every key that has a value."""
        with _Held(self):
            return [self._items.key(item) for item in self._items.used() if not self._expired(item, now)]

    def sweep(self, now: int, most: int) -> int:
        """Look at the next `most` items, remove those that have expired and say how many; 0 if the lock is taken."""
        if not self._lock.acquire(0):
            return 0
        try:
            self._items.repair()
            header = self._header
            first = header[CURSOR] if header[CURSOR] < header[FRESH_ITEM] else 0
            last = min(first + most, header[FRESH_ITEM])
            header[CURSOR] = last
            return self._remove_expired(range(first, last), now)
        finally:
            self._lock.release()

    def statistics(self) -> Statistics:
        """The counts; each of some moment."""
        header = self._header
        return Statistics(header[COUNT], header[HITS], header[MISS], header[FULL], header[MODIFIED])

    def flush(self) -> None:
        """Write a cache that is kept in a file to the disk; OSError."""
        self._memory.flush()

    def release_in_child(self) -> None:
        """In a forked child: the file is the parent's."""
        self._memory.release_in_child()

    def _fits(self, key: bytes, value: bytes) -> bool:
        return 0 < len(key) <= self.shape.keysize and 0 < len(value) <= self.shape.largest

    def _put(self, item: int, key: bytes, value: bytes, until: int, now: int) -> Outcome:
        if item >= 0:
            self._items.changing(lambda: self._items.remove(item))
        outcome = self._make_room(len(value), now)
        self._header[MODIFIED] = now
        if outcome is not Outcome.FULL:
            self._items.changing(lambda: self._items.write(key, value, until))
        return outcome

    def _make_room(self, size: int, now: int) -> Outcome:
        """Have an item and blocks for a value free; what has expired goes first, looked for once a second."""
        header = self._header
        if not self._items.room(size) and header[SWEPT] != now:
            header[SWEPT] = now
            self._remove_expired(self._items.used(), now)
        if self._items.room(size):
            return Outcome.STORED
        header[FULL] += 1
        if self.shape.purge_lru:
            while not self._items.room(size):
                self._items.changing(lambda: self._items.remove(header[OLDEST] - 1))
            return Outcome.PURGED
        if self.shape.clear_on_full:
            self._items.changing(self._items.empty)
            return Outcome.PURGED
        return Outcome.FULL

    def _remove_expired(self, items: Iterable[int], now: int) -> int:
        gone = [item for item in items if self._items.is_used(item) and self._expired(item, now)]

        def remove() -> None:
            for item in gone:
                self._items.remove(item)

        if gone:
            self._items.changing(remove)
        return len(gone)

    def _find(self, key: bytes, now: int) -> int:
        """The item of `key`, -1 if there is none; one that has expired is removed."""
        item = self._items.find(key)
        if item >= 0 and self._expired(item, now):
            self._items.changing(partial(self._items.remove, item))
            return -1
        return item

    def _expired(self, item: int, now: int) -> bool:
        return 0 < self._items.expires(item) <= now


class _Held:
    """The lock, with what a killed holder left behind put right."""

    __slots__ = ("_cache",)

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def __enter__(self) -> None:
        if not self._cache._lock.acquire(LOCK_SECONDS):  # noqa: SLF001 - the cache's own
            raise DeadlineError("the cache stayed locked")
        self._cache._items.repair()  # noqa: SLF001 - likewise

    def __exit__(self, *_: object) -> None:
        self._cache._lock.release()  # noqa: SLF001 - likewise


def _number(value: bytes) -> int:
    return int.from_bytes(value[:_NUMBER_BYTES], "little", signed=True)
