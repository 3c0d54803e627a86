"""The items of a cache in shared memory: where their keys, values and links are. No lock, no clock, no policy.

A process killed in the middle of a change leaves the word `DIRTY` behind: who comes next builds all links anew from the
items that are whole. An item is whole from the last store of its making to the first of its undoing, so what is found
is what was put there. A killed writer costs at most the item it was writing.

    header | items, `_ITEM_WORDS` words each | hash table | one link a block | keys | blocks
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from palatine.counters.memory import SharedMemory
from palatine.errors import ConfigError

_MAGIC: Final = int.from_bytes(b"palcache", "little")
_HEADER_WORDS: Final = 16
# Words of the header. A link is an index plus one: 0 is none.
(MAGIC_AT, SHAPE, DIRTY, COUNT, HITS, MISS, FULL, MODIFIED,
 FREE_ITEM, FRESH_ITEM, FREE_BLOCK, FRESH_BLOCK, OLDEST, NEWEST, CURSOR, SWEPT,
) = range(_HEADER_WORDS)  # fmt: skip
_ITEM_WORDS: Final = 10
_STATE, _HASH, _KEY_BYTES, _VALUE_BYTES, _EXPIRES, _BLOCK, _NEXT, _OLDER, _NEWER, _CRC = range(_ITEM_WORDS)
_WORD: Final = 8


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


class Items:
    """The items in `memory`; whoever calls a method holds the cache's lock."""

    def __init__(self, shape: Shape, memory: SharedMemory) -> None:
        """ConfigError if the memory holds a cache of another shape."""
        self.shape = shape
        self._bytes = memory.view
        words = self._bytes[: shape.size - shape.size % _WORD].cast("Q")
        items, table = _HEADER_WORDS, _HEADER_WORDS + shape.items * _ITEM_WORDS
        links = table + shape.hashsize
        self.header = words[:items]
        self._items = words[items:table]
        self._table = words[table:links]
        self._links = words[links : links + shape.blocks]
        self._keys_at = (links + shape.blocks) * _WORD
        self._blocks_at = self._keys_at + _aligned(shape.items * shape.keysize)
        geometry = zlib.crc32(repr(tuple(shape[:6])).encode())
        if memory.fresh:
            self.header[SHAPE] = geometry
            self.header[MAGIC_AT] = _MAGIC
        elif self.header[MAGIC_AT] != _MAGIC or self.header[SHAPE] != geometry:
            raise ConfigError("invalid cache store file. Please remove it or fix the cache to match it")
        else:
            self._rebuild(check=True)

    def find(self, key: bytes) -> int:
        """The item of `key`, -1 if there is none."""
        digest, words = zlib.crc32(key), self._items
        link = self._table[digest % self.shape.hashsize]
        while link:
            at = (link - 1) * _ITEM_WORDS
            if words[at + _HASH] == digest and self.key(link - 1) == key:
                return int(link) - 1
            link = words[at + _NEXT]
        return -1

    def expires(self, item: int) -> int:
        """When an item expires, in unix seconds; 0 for never."""
        return int(self._items[item * _ITEM_WORDS + _EXPIRES])

    def is_used(self, item: int) -> bool:
        """Whether there is an item in this place."""
        return bool(self._items[item * _ITEM_WORDS + _STATE])

    def empty(self) -> None:
        """Remove everything."""
        for item in list(self.used()):
            self._items[item * _ITEM_WORDS + _STATE] = 0
        self._rebuild(check=False)

    def write(self, key: bytes, value: bytes, until: int) -> None:
        """Add an item that expires at `until`; there must be `room`, and none of that key."""
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
        self.header[COUNT] += 1

    def room(self, size: int) -> bool:
        """Whether an item and blocks for it are free."""
        header, shape = self.header, self.shape
        if not header[FREE_ITEM] and header[FRESH_ITEM] >= shape.items:
            return False
        if not shape.chained:
            return True
        needed = self._blocks_for(size) - (shape.blocks - header[FRESH_BLOCK])
        link = header[FREE_BLOCK]
        while needed > 0 and link:
            link = self._links[link - 1]
            needed -= 1
        return needed <= 0

    def _blocks_for(self, size: int) -> int:
        return -(-size // self.shape.blocksize)

    def _take_item(self) -> int:
        header = self.header
        if header[FREE_ITEM]:
            item = header[FREE_ITEM] - 1
            header[FREE_ITEM] = self._items[item * _ITEM_WORDS + _NEXT]
            return item
        header[FRESH_ITEM] += 1
        return header[FRESH_ITEM] - 1

    def _take_block(self) -> int:
        header = self.header
        if header[FREE_BLOCK]:
            block = header[FREE_BLOCK] - 1
            header[FREE_BLOCK] = self._links[block]
            return block
        header[FRESH_BLOCK] += 1
        return header[FRESH_BLOCK] - 1

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

    def remove(self, item: int) -> None:
        """Undo an item: it is no item any more before anything else changes."""
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
                self._links[block] = self.header[FREE_BLOCK]
                self.header[FREE_BLOCK] = block + 1
        words[at + _NEXT] = self.header[FREE_ITEM]
        self.header[FREE_ITEM] = item + 1
        self.header[COUNT] -= 1

    def _link(self, item: int, digest: int) -> None:
        slot = digest % self.shape.hashsize
        self._items[item * _ITEM_WORDS + _NEXT] = self._table[slot]
        self._table[slot] = item + 1
        if self.shape.purge_lru:
            self._link_age(item)

    def _link_age(self, item: int) -> None:
        at, header = item * _ITEM_WORDS, self.header
        self._items[at + _OLDER], self._items[at + _NEWER] = header[NEWEST], 0
        if header[NEWEST]:
            self._items[(header[NEWEST] - 1) * _ITEM_WORDS + _NEWER] = item + 1
        else:
            header[OLDEST] = item + 1
        header[NEWEST] = item + 1

    def _unlink_age(self, item: int) -> None:
        if not self.shape.purge_lru:
            return
        at, words, header = item * _ITEM_WORDS, self._items, self.header
        older, newer = words[at + _OLDER], words[at + _NEWER]
        if older:
            words[(older - 1) * _ITEM_WORDS + _NEWER] = newer
        else:
            header[OLDEST] = newer
        if newer:
            words[(newer - 1) * _ITEM_WORDS + _OLDER] = older
        else:
            header[NEWEST] = older

    def renew(self, item: int) -> None:
        """Make an item the most recently used one."""
        self._unlink_age(item)
        self._link_age(item)

    def key(self, item: int) -> bytes:
        """Its key."""
        start = self._keys_at + item * self.shape.keysize
        return bytes(self._bytes[start : start + self._items[item * _ITEM_WORDS + _KEY_BYTES]])

    def value(self, item: int) -> bytes:
        """Its value, copied out of its blocks."""
        size, left = self.shape.blocksize, self._items[item * _ITEM_WORDS + _VALUE_BYTES]
        if left <= size:  # most of them
            start = self._blocks_at + (self._items[item * _ITEM_WORDS + _BLOCK] - 1) * size
            return bytes(self._bytes[start : start + left])
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

    def used(self) -> Iterator[int]:
        """All items."""
        return (item for item in range(self.header[FRESH_ITEM]) if self._items[item * _ITEM_WORDS + _STATE])

    def changing(self, change: Callable[[], object]) -> None:
        """Make a change whose interruption must be noticed; changes may be nested."""
        before = self.header[DIRTY]
        self.header[DIRTY] = 1
        change()
        self.header[DIRTY] = before

    def repair(self) -> None:
        """Put right what a killed process left behind; the first thing under the lock."""
        if self.header[DIRTY]:
            self._rebuild(check=True)

    def _rebuild(self, *, check: bool) -> None:
        """Make all links anew from the items; with `check` an item whose value is not what was put there is dropped."""
        header, shape = self.header, self.shape
        kept = [item for item in range(min(header[FRESH_ITEM], shape.items)) if self._whole(item, check=check)]
        kept_set, taken = set(kept), set[int]()
        for slot in range(shape.hashsize):
            if self._table[slot]:
                self._table[slot] = 0
        for word in (COUNT, FREE_ITEM, FREE_BLOCK, OLDEST, NEWEST, CURSOR):
            header[word] = 0
        header[FRESH_ITEM] = max(kept, default=-1) + 1
        for item in kept:
            blocks = list(self._blocks(item)) if shape.chained else []
            taken.update(blocks)
            self._link(item, self._items[item * _ITEM_WORDS + _HASH])
        header[COUNT] = len(kept)
        for item in range(header[FRESH_ITEM]):
            if item not in kept_set:
                self._items[item * _ITEM_WORDS + _STATE] = 0
                self._items[item * _ITEM_WORDS + _NEXT] = header[FREE_ITEM]
                header[FREE_ITEM] = item + 1
        header[FRESH_BLOCK] = max(taken, default=-1) + 1
        for block in set(range(header[FRESH_BLOCK])) - taken:
            self._links[block] = header[FREE_BLOCK]
            header[FREE_BLOCK] = block + 1
        header[DIRTY] = 0

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
        return zlib.crc32(self.key(item)) == words[at + _HASH] and zlib.crc32(self.value(item)) == words[at + _CRC]


def _aligned(size: int) -> int:
    return -(-size // _WORD) * _WORD
