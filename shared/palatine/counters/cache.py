"""A cache of bytes by key in shared memory, for many processes under one lock; it starts no thread and knows no clock.

A process killed in the middle of a change leaves the word `dirty` behind: who takes the lock next builds all links anew
from the items that are whole. An item is whole from the last store of its making to the first of its undoing, so what
is found is what was put there. A killed writer costs at most the item it was writing.

    header | items, `_ITEM_WORDS` words each | hash table | one link a block | keys | blocks
"""

import enum
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple

from palatine.counters.locks import SharedLock
from palatine.counters.memory import SharedMemory
from palatine.errors import ConfigError, DeadlineError
from palatine.schema import U64

_MAGIC: Final = int.from_bytes(b"palcache", "little")
_HEADER_WORDS: Final = 16
# Words of the header. A link is an index plus one: 0 is none.
(_MAGIC_AT, _SHAPE, _DIRTY, _COUNT, _HITS, _MISS, _FULL, _MODIFIED,
 _FREE_ITEM, _FRESH_ITEM, _FREE_BLOCK, _FRESH_BLOCK, _OLDEST, _NEWEST, _CURSOR, _SWEPT,
) = range(_HEADER_WORDS)  # fmt: skip
_ITEM_WORDS: Final = 10
_STATE, _HASH, _KEY_BYTES, _VALUE_BYTES, _EXPIRES, _BLOCK, _NEXT, _OLDER, _NEWER, _CRC = range(_ITEM_WORDS)
_WORD: Final = 8
_NUMBER_BYTES: Final = 8
LOCK_SECONDS: Final = 5.0


class Shape(NamedTuple):
    """How much a cache holds and what it does when that is not enough; sizes in bytes.

    With `chained` an item takes as many blocks as it needs, otherwise one.
    """

    items: int
    blocks: int
    blocksize: int
    keysize: int
    hashsize: int
    chained: bool = False
    purge_lru: bool = False
    clear_on_full: bool = False
    math_initial: int = 0

    @property
    def largest(self) -> int:
        """The longest value."""
        return self.blocksize * self.blocks if self.chained else self.blocksize

    @property
    def size(self) -> int:
        """Bytes of memory it takes."""
        words = _HEADER_WORDS + self.items * _ITEM_WORDS + self.hashsize + self.blocks
        return words * _WORD + _aligned(self.items * self.keysize) + self.blocks * self.blocksize


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
        self._bytes = memory.view
        words = self._bytes[: shape.size - shape.size % _WORD].cast("Q")
        items, table = _HEADER_WORDS, _HEADER_WORDS + shape.items * _ITEM_WORDS
        links = table + shape.hashsize
        self._header = words[:items]
        self._items = words[items:table]
        self._table = words[table:links]
        self._links = words[links : links + shape.blocks]
        self._keys_at = (links + shape.blocks) * _WORD
        self._blocks_at = self._keys_at + _aligned(shape.items * shape.keysize)
        self._begin()

    def _begin(self) -> None:
        geometry = zlib.crc32(repr(tuple(self.shape[:6])).encode())
        header = self._header
        if self._memory.fresh:
            header[_SHAPE] = geometry
            header[_MAGIC_AT] = _MAGIC
        elif header[_MAGIC_AT] != _MAGIC or header[_SHAPE] != geometry:
            raise ConfigError("invalid cache store file. Please remove it or fix the cache to match it")
        else:
            self._rebuild(check=True)

    # ---------------------------------------------------------------- what callers ask

    def get(self, key: bytes, now: int) -> bytes | None:
        """The value of `key`; None if there is none, or it has expired."""
        with _Held(self):
            item = self._find(key, now)
            if item < 0:
                self._header[_MISS] += 1
                return None
            self._header[_HITS] += 1
            if self.shape.purge_lru:
                self._dirty(lambda: self._renew(item))
            return self._value(item)

    def exists(self, key: bytes, now: int) -> bool:
        """Whether `key` has a value; not counted as a lookup."""
        with _Held(self):
            return self._find(key, now) >= 0

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
                number, until = _number(self._value(item)), self._items[item * _ITEM_WORDS + _EXPIRES]
            value = (operate(number) & U64).to_bytes(_NUMBER_BYTES, "little")
            return self._put(item, key, value, until, now) if self._fits(key, value) else Outcome.REFUSED

    def delete(self, key: bytes, now: int) -> bool:
        """Remove `key`; whether it was there."""
        with _Held(self):
            item = self._find(key, now)
            if item < 0:
                return False
            self._header[_MODIFIED] = now
            self._dirty(lambda: self._remove(item))
            return True

    def clear(self, now: int) -> None:
        """Remove everything."""
        with _Held(self):
            self._header[_MODIFIED] = now
            self._dirty(self._empty)

    def keys(self, now: int) -> list[bytes]:
        """Every key that has a value."""
        with _Held(self):
            return [self._key(item) for item in self._used() if not self._expired(item, now)]

    def sweep(self, now: int, most: int) -> int:
        """Look at the next `most` items, remove those that have expired and say how many; 0 if the lock is taken."""
        if not self._lock.acquire(0):
            return 0
        try:
            self._repair()
            header = self._header
            first = header[_CURSOR] if header[_CURSOR] < header[_FRESH_ITEM] else 0
            last = min(first + most, header[_FRESH_ITEM])
            header[_CURSOR] = last
            return self._remove_expired(range(first, last), now)
        finally:
            self._lock.release()

    def statistics(self) -> Statistics:
        """The counts; each of some moment."""
        header = self._header
        return Statistics(header[_COUNT], header[_HITS], header[_MISS], header[_FULL], header[_MODIFIED])

    def flush(self) -> None:
        """Write a cache that is kept in a file to the disk; OSError."""
        self._memory.flush()

    def release_in_child(self) -> None:
        """In a forked child: the file is the parent's."""
        self._memory.release_in_child()

    # ---------------------------------------------------------------- changes, under the lock

    def _fits(self, key: bytes, value: bytes) -> bool:
        return 0 < len(key) <= self.shape.keysize and 0 < len(value) <= self.shape.largest

    def _put(self, item: int, key: bytes, value: bytes, until: int, now: int) -> Outcome:
        if item >= 0:
            self._dirty(lambda: self._remove(item))
        outcome = self._make_room(len(value), now)
        self._header[_MODIFIED] = now
        if outcome is not Outcome.FULL:
            self._dirty(lambda: self._write(key, value, until))
        return outcome

    def _write(self, key: bytes, value: bytes, until: int) -> None:
        item = self._take_item()
        at, words = item * _ITEM_WORDS, self._items
        start = self._keys_at + item * self.shape.keysize
        self._bytes[start : start + len(key)] = key
        digest = zlib.crc32(key)
        words[at + _HASH], words[at + _KEY_BYTES], words[at + _VALUE_BYTES] = digest, len(key), len(value)
        words[at + _EXPIRES], words[at + _CRC] = until, zlib.crc32(value)
        words[at + _BLOCK] = self._fill(item, value) + 1
        words[at + _STATE] = 1
        self._link(item, digest)
        self._header[_COUNT] += 1

    def _make_room(self, size: int, now: int) -> Outcome:
        """Have an item and blocks for a value free; what has expired goes first, looked for once a second."""
        header = self._header
        if not self._room(size) and header[_SWEPT] != now:
            header[_SWEPT] = now
            self._remove_expired(self._used(), now)
        if self._room(size):
            return Outcome.STORED
        header[_FULL] += 1
        if self.shape.purge_lru:
            while not self._room(size):
                self._dirty(lambda: self._remove(header[_OLDEST] - 1))
            return Outcome.PURGED
        if self.shape.clear_on_full:
            self._dirty(self._empty)
            return Outcome.PURGED
        return Outcome.FULL

    def _room(self, size: int) -> bool:
        """Whether an item and blocks for it are free."""
        header, shape = self._header, self.shape
        if not header[_FREE_ITEM] and header[_FRESH_ITEM] >= shape.items:
            return False
        if not shape.chained:
            return True
        needed = self._blocks_for(size) - (shape.blocks - header[_FRESH_BLOCK])
        link = header[_FREE_BLOCK]
        while needed > 0 and link:
            link = self._links[link - 1]
            needed -= 1
        return needed <= 0

    def _blocks_for(self, size: int) -> int:
        return -(-size // self.shape.blocksize)

    def _take_item(self) -> int:
        header = self._header
        if header[_FREE_ITEM]:
            item = header[_FREE_ITEM] - 1
            header[_FREE_ITEM] = self._items[item * _ITEM_WORDS + _NEXT]
            return item
        header[_FRESH_ITEM] += 1
        return header[_FRESH_ITEM] - 1

    def _take_block(self) -> int:
        header = self._header
        if header[_FREE_BLOCK]:
            block = header[_FREE_BLOCK] - 1
            header[_FREE_BLOCK] = self._links[block]
            return block
        header[_FRESH_BLOCK] += 1
        return header[_FRESH_BLOCK] - 1

    def _fill(self, item: int, value: bytes) -> int:
        """Put a value into blocks; the first of them."""
        size = self.shape.blocksize
        if not self.shape.chained:
            start = self._blocks_at + item * size
            self._bytes[start : start + len(value)] = value
            return item
        following = 0
        for number in reversed(range(self._blocks_for(len(value)))):
            block, part = self._take_block(), value[number * size : (number + 1) * size]
            start = self._blocks_at + block * size
            self._bytes[start : start + len(part)] = part
            self._links[block] = following
            following = block + 1
        return following - 1

    def _remove(self, item: int) -> None:
        at, words = item * _ITEM_WORDS, self._items
        words[at + _STATE] = 0
        slot = words[at + _HASH] % self.shape.hashsize
        if self._table[slot] == item + 1:
            self._table[slot] = words[at + _NEXT]
        else:
            before = self._table[slot] - 1
            while words[before * _ITEM_WORDS + _NEXT] != item + 1:
                before = words[before * _ITEM_WORDS + _NEXT] - 1
            words[before * _ITEM_WORDS + _NEXT] = words[at + _NEXT]
        self._unlink_age(item)
        if self.shape.chained:
            for block in list(self._blocks(item)):
                self._links[block] = self._header[_FREE_BLOCK]
                self._header[_FREE_BLOCK] = block + 1
        words[at + _NEXT] = self._header[_FREE_ITEM]
        self._header[_FREE_ITEM] = item + 1
        self._header[_COUNT] -= 1

    def _remove_expired(self, items: Iterable[int], now: int) -> int:
        gone = [item for item in items if self._items[item * _ITEM_WORDS + _STATE] and self._expired(item, now)]

        def remove() -> None:
            for item in gone:
                self._remove(item)

        if gone:
            self._dirty(remove)
        return len(gone)

    def _empty(self) -> None:
        for item in list(self._used()):
            self._items[item * _ITEM_WORDS + _STATE] = 0
        self._rebuild(check=False)

    # ---------------------------------------------------------------- links

    def _link(self, item: int, digest: int) -> None:
        slot = digest % self.shape.hashsize
        self._items[item * _ITEM_WORDS + _NEXT] = self._table[slot]
        self._table[slot] = item + 1
        if self.shape.purge_lru:
            self._link_age(item)

    def _link_age(self, item: int) -> None:
        at, header = item * _ITEM_WORDS, self._header
        self._items[at + _OLDER], self._items[at + _NEWER] = header[_NEWEST], 0
        if header[_NEWEST]:
            self._items[(header[_NEWEST] - 1) * _ITEM_WORDS + _NEWER] = item + 1
        else:
            header[_OLDEST] = item + 1
        header[_NEWEST] = item + 1

    def _unlink_age(self, item: int) -> None:
        if not self.shape.purge_lru:
            return
        at, words, header = item * _ITEM_WORDS, self._items, self._header
        older, newer = words[at + _OLDER], words[at + _NEWER]
        if older:
            words[(older - 1) * _ITEM_WORDS + _NEWER] = newer
        else:
            header[_OLDEST] = newer
        if newer:
            words[(newer - 1) * _ITEM_WORDS + _OLDER] = older
        else:
            header[_NEWEST] = older

    def _renew(self, item: int) -> None:
        self._unlink_age(item)
        self._link_age(item)

    # ---------------------------------------------------------------- reading, under the lock

    def _find(self, key: bytes, now: int) -> int:
        """The item of `key`, -1 if there is none; one that has expired is removed."""
        digest, words = zlib.crc32(key), self._items
        link = self._table[digest % self.shape.hashsize]
        while link:
            at = (link - 1) * _ITEM_WORDS
            if words[at + _HASH] == digest and self._key(link - 1) == key:
                if not self._expired(link - 1, now):
                    return link - 1
                self._dirty(partial(self._remove, link - 1))
                return -1
            link = words[at + _NEXT]
        return -1

    def _expired(self, item: int, now: int) -> bool:
        return 0 < self._items[item * _ITEM_WORDS + _EXPIRES] <= now

    def _key(self, item: int) -> bytes:
        start = self._keys_at + item * self.shape.keysize
        return bytes(self._bytes[start : start + self._items[item * _ITEM_WORDS + _KEY_BYTES]])

    def _value(self, item: int) -> bytes:
        size, left = self.shape.blocksize, self._items[item * _ITEM_WORDS + _VALUE_BYTES]
        parts = []
        for block in self._blocks(item):
            start = self._blocks_at + block * size
            parts.append(bytes(self._bytes[start : start + min(size, left)]))
            left -= size
        return b"".join(parts)

    def _blocks(self, item: int) -> Iterator[int]:
        at = item * _ITEM_WORDS
        link = self._items[at + _BLOCK]
        for _ in range(self._blocks_for(self._items[at + _VALUE_BYTES])):
            yield link - 1
            link = self._links[link - 1]

    def _used(self) -> Iterator[int]:
        return (item for item in range(self._header[_FRESH_ITEM]) if self._items[item * _ITEM_WORDS + _STATE])

    # ---------------------------------------------------------------- after a death

    def _dirty(self, change: Callable[[], object]) -> None:
        """Make a change whose interruption must be noticed; changes may be nested."""
        before = self._header[_DIRTY]
        self._header[_DIRTY] = 1
        change()
        self._header[_DIRTY] = before

    def _repair(self) -> None:
        if self._header[_DIRTY]:
            self._rebuild(check=True)

    def _rebuild(self, *, check: bool) -> None:
        """Make all links anew from the items; with `check` an item whose value is not what was put there is dropped."""
        header, shape = self._header, self.shape
        kept = [item for item in range(min(header[_FRESH_ITEM], shape.items)) if self._whole(item, check=check)]
        kept_set, taken = set(kept), set[int]()
        for slot in range(shape.hashsize):
            if self._table[slot]:
                self._table[slot] = 0
        for word in (_COUNT, _FREE_ITEM, _FREE_BLOCK, _OLDEST, _NEWEST, _CURSOR):
            header[word] = 0
        header[_FRESH_ITEM] = max(kept, default=-1) + 1
        for item in kept:
            blocks = list(self._blocks(item)) if shape.chained else []
            taken.update(blocks)
            self._link(item, self._items[item * _ITEM_WORDS + _HASH])
        header[_COUNT] = len(kept)
        for item in range(header[_FRESH_ITEM]):
            if item not in kept_set:
                self._items[item * _ITEM_WORDS + _STATE] = 0
                self._items[item * _ITEM_WORDS + _NEXT] = header[_FREE_ITEM]
                header[_FREE_ITEM] = item + 1
        header[_FRESH_BLOCK] = max(taken, default=-1) + 1
        for block in set(range(header[_FRESH_BLOCK])) - taken:
            self._links[block] = header[_FREE_BLOCK]
            header[_FREE_BLOCK] = block + 1
        header[_DIRTY] = 0

    def _whole(self, item: int, *, check: bool) -> bool:
        at, words = item * _ITEM_WORDS, self._items
        if words[at + _STATE] != 1:
            return False
        if not check:
            return True
        if words[at + _KEY_BYTES] > self.shape.keysize or words[at + _VALUE_BYTES] > self.shape.largest:
            return False
        link = words[at + _BLOCK]
        for _ in range(self._blocks_for(words[at + _VALUE_BYTES])):
            if not 0 < link <= self.shape.blocks:
                return False
            link = self._links[link - 1]
        return zlib.crc32(self._key(item)) == words[at + _HASH] and zlib.crc32(self._value(item)) == words[at + _CRC]


class _Held:
    """The lock, with what a killed holder left behind put right."""

    __slots__ = ("_cache",)

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def __enter__(self) -> None:
        if not self._cache._lock.acquire(LOCK_SECONDS):  # noqa: SLF001 - the cache's own
            raise DeadlineError("the cache stayed locked")
        self._cache._repair()  # noqa: SLF001 - likewise

    def __exit__(self, *_: object) -> None:
        self._cache._lock.release()  # noqa: SLF001 - likewise


def _aligned(size: int) -> int:
    return -(-size // _WORD) * _WORD


def _number(value: bytes) -> int:
    return int.from_bytes(value[:_NUMBER_BYTES], "little", signed=True)
