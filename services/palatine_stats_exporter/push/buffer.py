"""Batches between collecting and delivering: on disk, in order, bounded; a slow delivery never holds up collecting.

It is the bus's spool: what was put survives a kill -9, and a power cut once `put` returned; beyond the limit the oldest
go and are counted. While the disk takes nothing, a few batches are kept in memory.
"""

from collections import deque
from pathlib import Path
from typing import Final

import structlog
import trio

from palatine.bus.outbox import Item
from palatine.bus.spool import Spool

#: Bytes of a batch before compression: a spool's record holds it whatever compression makes of it.
BATCH_BYTES: Final = 240 * 1024
#: Batches read ahead, and kept in memory while the disk fails.
_AHEAD: Final = 16
_MEMORY: Final = 256

_log = structlog.get_logger()


class Buffer:
    """One target's queue; `put` by one task, `next` and `done` by another."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._next = spool.base + 1
        self._ready: deque[Item] = deque()
        self._news = trio.Event()
        self._lock = trio.Lock()  # a spool is for one thread at a time
        self._failure = ""
        self.dropped = 0

    @classmethod
    async def open(cls, directory: Path, limit: int) -> "Buffer":
        """Open or make the queue at `directory`, of `limit` bytes; ConfigError, AlreadyRunningError as Spool."""
        return cls(await trio.to_thread.run_sync(Spool, directory, limit))

    @property
    def waiting(self) -> int:
        """Batches not delivered."""
        return len(self._ready) + self._spool.unread

    async def put(self, batches: list[bytes]) -> None:
        """Queue batches; when it returns they are on disk."""
        items = [Item(seq, raw) for seq, raw in enumerate(batches, self._next)]
        self._next += len(items)
        async with self._lock:
            behind = self._spool.unread
            try:
                written = await trio.to_thread.run_sync(self._append, items)
                self._failure = ""
            except OSError as error:
                written = 0
                self._complain(error)
        for item in items[written:]:
            if behind or len(self._ready) >= _MEMORY:
                self.dropped += 1
            else:
                self._ready.append(item)
        self._news.set()

    async def next(self) -> Item:
        """The oldest batch not returned yet; waits for one."""
        while not self._ready:
            self._news = trio.Event()
            async with self._lock:
                if self._spool.unread:
                    self._ready.extend(await trio.to_thread.run_sync(self._spool.read, _AHEAD, _AHEAD * BATCH_BYTES))
            if not self._ready:
                await self._news.wait()
        return self._ready.popleft()

    async def done(self, item: Item) -> None:
        """The batch needs not be kept."""
        async with self._lock:
            try:
                await trio.to_thread.run_sync(self._spool.ack, item.seq)
            except OSError as error:  # it will be delivered once more, which is harmless
                self._complain(error)

    async def close(self) -> None:
        """Leave what was not delivered to the next run."""
        async with self._lock:
            await trio.to_thread.run_sync(self._spool.close)

    def _append(self, items: list[Item]) -> int:
        written, lost = self._spool.append(items)
        self.dropped += lost
        self._spool.sync()
        return written

    def _complain(self, error: OSError) -> None:
        if str(error) != self._failure:
            _log.error("push.buffer_failed", buffer=str(self._spool.directory), error=str(error))
        self._failure = str(error)
