"""The one task that writes the journal, grouping what arrives meanwhile.

It must never acknowledge anything before the disk has it.
"""

import contextlib
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import structlog
import trio

from palatine_alarm_daemon.journal import AlarmJournal, Record
from palatine_alarm_daemon.values import Progress

#: Records that may wait for the disk; further ones wait at their source.
QUEUED_RECORDS: Final = 64
#: Seconds before a failed write is tried again, and at most.
RETRY_FIRST: Final = 0.5
RETRY_LONGEST: Final = 30.0
#: Seconds between two clean-ups of the journal.
PRUNE_SECONDS: Final = 600.0

Then = Callable[[], Awaitable[None]]


@attrs.frozen
class _Entry:
    record: Record
    then: Then


class JournalWriter:
    """Records in the order they come, each followed by its `then`."""

    def __init__(self, journal: AlarmJournal, log: structlog.stdlib.BoundLogger, clock: Callable[[], float]) -> None:
        self._journal = journal
        self._log = log
        self._clock = clock
        self._send, self._receive = trio.open_memory_channel[_Entry | None](QUEUED_RECORDS)
        self._progress: deque[Progress] = deque()
        self._settled = trio.Event()  # set when what is in _progress now is on disk
        self._pruned = clock()
        self.bytes = journal.size()
        #: Why the last write failed, "" while all is well.
        self.trouble = ""

    async def submit(self, record: Record, then: Then) -> None:
        """Make `record` durable, then await `then`; returns as soon as it is queued."""
        await self._send.send(_Entry(record, then))

    async def write(self, record: Record) -> None:
        """Make `record` durable; returns when it is."""
        written = trio.Event()

        async def then() -> None:
            written.set()
            await trio.lowlevel.checkpoint()

        await self.submit(record, then)
        await written.wait()

    def settle(self, progress: Progress) -> trio.Event:
        """Note what became of a delivery; never blocks. The event is set when it is on disk."""
        self._progress.append(progress)
        settled = self._settled
        with contextlib.suppress(trio.WouldBlock):  # the writer is busy and takes this along
            self._send.send_nowait(None)
        return settled

    async def run(self) -> None:
        """Write until `finish`."""
        async with self._receive:
            async for first in self._receive:
                await self._write_all([entry for entry in [first, *self._waiting()] if entry is not None])
        await self._write_all([])

    async def finish(self) -> None:
        """No more will come; `run` returns when all is written."""
        await self._send.aclose()

    def _waiting(self) -> list[_Entry | None]:
        entries: list[_Entry | None] = []
        while True:
            try:
                entries.append(self._receive.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                return entries

    async def _write_all(self, entries: list[_Entry]) -> None:
        progress = tuple(self._progress)
        self._progress.clear()
        settled, self._settled = self._settled, trio.Event()
        record = attrs.evolve(_merged([entry.record for entry in entries]), progress=progress)
        if record:
            await self._until_written(record)
        settled.set()
        for entry in entries:
            await entry.then()
        await self._prune()

    async def _until_written(self, record: Record) -> None:
        """Try until it is on disk: a full disk delays acknowledgements and loses nothing."""
        delay = RETRY_FIRST
        while True:
            try:
                await self._journal.record(record, self._clock())
            except sqlite3.Error as error:
                self._complain(error, retry_in=delay)
                await trio.sleep(delay)
                delay = min(delay * 2, RETRY_LONGEST)
            else:
                self.trouble = ""
                self.bytes = self._journal.size()
                return

    async def _prune(self) -> None:
        now = self._clock()
        if now - self._pruned < PRUNE_SECONDS:
            return
        self._pruned = now
        try:
            await self._journal.prune(now)
        except sqlite3.Error as error:
            self._complain(error, retry_in=PRUNE_SECONDS)

    def _complain(self, error: sqlite3.Error, *, retry_in: float) -> None:
        self.trouble = str(error)
        self._log.error("journal.failed", path=str(self._journal.path), reason=str(error), retry_in=retry_in)


def _merged(records: list[Record]) -> Record:
    rulesets: dict[str, tuple[int, object]] = {}
    senders: dict[bytes, int] = {}
    for record in records:
        rulesets |= record.rulesets
        senders |= record.senders
    return Record(tuple(delivery for record in records for delivery in record.deliveries), rulesets, senders)
