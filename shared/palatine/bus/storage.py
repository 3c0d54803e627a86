"""Feeds the outbox: from memory alone, or through the spool in a thread; the sender's task never waits for the disk."""

import errno
import math
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog
import trio

from palatine.bus.outbox import Item, Outbox
from palatine.bus.spool import Spool

#: Events are small, log batches are not: memory is bounded in bytes as well.
MEMORY_BYTES: Final = 16 * 1024 * 1024
#: The outbox is filled from disk when it has less than this share of its events.
REFILL_SHARE: Final = 0.5
#: Acks reach the disk so late, in seconds: a kill in between costs duplicates, which the intake's journal knows.
ACK_SECONDS: Final = 0.1
#: Unacknowledged events are synced so late: what a power cut may cost, if nobody asks for `flushed`.
SYNC_SECONDS: Final = 1.0
#: A failing disk is tried again after so many seconds.
RETRY_SECONDS: Final = 1.0

log = structlog.get_logger("palatine.bus")


class _Visit(NamedTuple):
    """What one visit to the thread is to do."""

    items: list[Item]
    direct: bool
    ack: int | None
    room: int
    room_bytes: int
    sync: bool


class _Done(NamedTuple):
    """What it did: events written and given up, those for the outbox, and why it ended early."""

    written: int
    lost: int
    loaded: list[Item]
    failure: OSError | None


class MemoryStorage:
    """No disk: what does not fit is dropped, the oldest first."""

    def __init__(self, outbox: Outbox, limit: int) -> None:
        self._outbox = outbox
        self._limit = limit
        self.dropped = 0
        self.spooled = 0
        self.queued = 0

    def add(self, item: Item) -> None:
        """Queue an event."""
        outbox = self._outbox
        outbox.add(item)
        while len(outbox.waiting) > self._limit or outbox.waiting_bytes > MEMORY_BYTES:
            if outbox.drop_oldest() is None:
                return
            self.dropped += 1

    def acked(self) -> None:
        """Nothing to do."""

    async def flushed(self) -> None:
        """Nothing is durable here."""
        await trio.lowlevel.checkpoint()

    async def run(self, wake: Callable[[], None]) -> None:
        """Nothing to do."""


class SpoolStorage:
    """Every event goes to disk first and then to the outbox: directly while the outbox keeps up, else read back later.

    While the disk fails, events pass through memory alone, within the same limits.
    """

    def __init__(self, outbox: Outbox, limit: int, spool: Spool) -> None:
        self._outbox = outbox
        self._limit = limit
        self._spool = spool
        self._fresh: deque[Item] = deque()
        self._fresh_bytes = 0
        self._last = self._stored = self._synced = spool.base
        self._acked = outbox.acked = spool.acked
        self._volatile = 0  # the last number that was never on disk
        self._flush_wanted = False
        self._failure: OSError | None = None
        self._ack_due = self._sync_due = self._retry_due = math.inf
        self._work = trio.Event()
        self._round = trio.Event()
        self.spooled = spool.unread
        self.dropped = 0

    @property
    def queued(self) -> int:
        """Events not on disk yet."""
        return len(self._fresh)

    def add(self, item: Item) -> None:
        """Queue an event."""
        self._fresh.append(item)
        self._fresh_bytes += len(item.raw)
        self._last = item.seq
        self._trim()
        self._work.set()

    def acked(self) -> None:
        """The outbox has new room, and the disk may forget."""
        if self._ack_due == math.inf:
            self._ack_due = trio.current_time() + ACK_SECONDS
            self._work.set()
        elif self.spooled and len(self._outbox) < self._limit * REFILL_SHARE:
            self._work.set()

    async def flushed(self) -> None:
        """Return when all events put so far survive a power cut. OSError if the disk does not take them."""
        target = self._last
        while max(self._synced, self._outbox.acked) < target:
            self._flush_wanted = True
            self._work.set()
            await self._round.wait()
            if self._failure is not None:
                raise OSError(self._failure.errno, self._failure.strerror, str(self._spool.directory))
            if self._volatile > self._outbox.acked:
                raise OSError(errno.EIO, "some went on without the disk while it failed", str(self._spool.directory))
        await trio.lowlevel.checkpoint()

    async def run(self, wake: Callable[[], None]) -> None:
        """Own the spool until cancelled; `wake` is called when the outbox has more."""
        try:
            while True:
                await trio.lowlevel.checkpoint_if_cancelled()
                self._work = trio.Event()
                visit = self._plan(trio.current_time())
                if visit is not None:
                    with trio.CancelScope(shield=True):  # what the visit holds is nowhere else
                        self._apply(visit, await trio.to_thread.run_sync(self._do, visit))
                    wake()
                    continue
                if self._bypass():
                    wake()
                retry_due = self._retry_due if self._fresh else math.inf
                with trio.move_on_at(min(self._ack_due, self._sync_due, retry_due)):
                    await self._work.wait()
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._finish, list(self._fresh), self._outbox.acked)

    def _plan(self, now: float) -> _Visit | None:
        """What is due; None if nothing is."""
        outbox = self._outbox
        room = self._limit - len(outbox)
        room_bytes = MEMORY_BYTES - outbox.waiting_bytes - outbox.flight_bytes
        items: list[Item] = []
        if self._fresh and (self._failure is None or now >= self._retry_due):
            items, self._fresh = list(self._fresh), deque()
            size, self._fresh_bytes = self._fresh_bytes, 0
            direct = not self.spooled and len(items) <= room and size <= room_bytes
        else:
            direct = False
        refill = bool(self.spooled or items) and not direct and len(outbox) < self._limit * REFILL_SHARE
        ack = outbox.acked if now >= self._ack_due else None
        sync = self._flush_wanted or now >= self._sync_due
        if not (items or refill or sync or ack is not None):
            return None
        self._flush_wanted = False
        return _Visit(items, direct, ack, room if refill else 0, room_bytes, sync)

    def _do(self, visit: _Visit) -> _Done:
        """In the thread."""
        written = lost = 0
        loaded: list[Item] = []
        try:
            if visit.items:
                written, lost = self._spool.append(visit.items)
                if visit.direct:
                    self._spool.skip()
                    loaded, lost = visit.items[:written], 0
            if visit.room > 0 and self._spool.unread:
                loaded = loaded + self._spool.read(visit.room, visit.room_bytes)
            if visit.ack is not None:
                self._spool.ack(visit.ack)
            if visit.sync:
                self._spool.sync()
        except OSError as error:
            return _Done(written, lost, loaded, error)
        return _Done(written, lost, loaded, None)

    def _apply(self, visit: _Visit, done: _Done) -> None:
        now = trio.current_time()
        for item in done.loaded:
            self._outbox.add(item)
        if done.written:
            self._stored = visit.items[done.written - 1].seq
        self.spooled = self._spool.unread
        self.dropped += done.lost
        self._note(visit, done.failure, now)
        if visit.ack is not None:
            self._acked = visit.ack
            self._ack_due = math.inf if self._outbox.acked == self._acked else now + ACK_SECONDS
        if visit.sync and done.failure is None:
            self._synced = self._stored
            self._sync_due = math.inf
        if self._stored <= max(self._synced, self._outbox.acked):
            self._sync_due = math.inf
        elif self._failure is not None:
            self._sync_due = self._retry_due
        else:
            self._sync_due = min(self._sync_due, now + SYNC_SECONDS)
        for item in reversed(visit.items[done.written :]):
            self._fresh.appendleft(item)
            self._fresh_bytes += len(item.raw)
        self._trim()
        self._round.set()
        self._round = trio.Event()

    def _note(self, visit: _Visit, failure: OSError | None, now: float) -> None:
        if failure is not None:
            self._retry_due = now + RETRY_SECONDS
            if self._failure is None:
                log.error("bus.spool.failing", spool=str(self._spool.directory), error=str(failure))
            self._failure = failure
        elif self._failure is not None and (visit.items or visit.sync):
            log.info("bus.spool.recovered", spool=str(self._spool.directory))
            self._failure = None

    def _bypass(self) -> bool:
        """While the disk takes nothing, and nothing older is on it, events go on through memory alone."""
        if self._failure is None or self.spooled:
            return False
        passed = False
        while self._fresh and len(self._outbox) < self._limit:
            item = self._fresh.popleft()
            self._fresh_bytes -= len(item.raw)
            self._outbox.add(item)
            self._volatile = item.seq
            passed = True
        return passed

    def _trim(self) -> None:
        while len(self._fresh) > self._limit or self._fresh_bytes > MEMORY_BYTES:
            self._fresh_bytes -= len(self._fresh.popleft().raw)
            self.dropped += 1

    def _finish(self, fresh: list[Item], acked: int) -> None:
        """In the thread: leave everything on disk for the next run."""
        try:
            if fresh:
                self._spool.append(fresh)
            if acked > self._spool.acked:
                self._spool.ack(acked)
        except OSError as error:
            log.error("bus.spool.lost", spool=str(self._spool.directory), events=len(fresh), error=str(error))  # noqa: TRY400 - the error is the disk's
        finally:
            self._spool.close()
