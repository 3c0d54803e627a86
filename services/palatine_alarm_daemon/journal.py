"""What must survive a kill: accepted rules, how far each sender was read, and every delivery not yet made.

A component of the bus's journal, so every change is on disk when its call returns. It must never be shown to others:
messages are log lines, arguments hold passwords.
"""

import os
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec

from palatine.bus.journal import Journal, open_journal
from palatine_alarm_daemon.values import PENDING, Delivery, Lane, Progress

#: Finished deliveries kept for the history.
KEPT_FINISHED: Final = 10_000
#: A sender not heard of for so long is gone for good.
SENDER_SECONDS: Final = 30 * 86400.0

#: One script per version of the schema; a script that has been released never changes.
SCHEMA: Final = (
    """
    CREATE TABLE rulesets (instance TEXT PRIMARY KEY, uid INTEGER NOT NULL, body BLOB NOT NULL);
    CREATE TABLE deliveries (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
        instance TEXT NOT NULL, uid INTEGER NOT NULL, origin TEXT NOT NULL, alarm TEXT NOT NULL,
        action TEXT NOT NULL, arg TEXT NOT NULL, message BLOB NOT NULL, source TEXT NOT NULL,
        raised_at REAL NOT NULL, expires_at REAL NOT NULL,
        attempts INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL, changed_at REAL NOT NULL
    );
    CREATE INDEX deliveries_pending ON deliveries (number) WHERE state = 'pending';
    """,
)
_COLUMNS: Final = (
    "id, instance, uid, origin, alarm, action, arg, message, source, raised_at, expires_at, attempts, "
    "state, reason, changed_at"
)
_INSERT: Final = f"INSERT INTO deliveries ({_COLUMNS}) VALUES ({', '.join('?' * 15)})"  # noqa: S608 - constants
_SELECT_PENDING: Final = f"SELECT {_COLUMNS} FROM deliveries WHERE state = 'pending' ORDER BY number"  # noqa: S608 - constants
_SELECT_NEWEST: Final = (
    f"SELECT {_COLUMNS} FROM deliveries WHERE raised_at >= ? AND state != 'overflowed' ORDER BY number"  # noqa: S608 - constants
)
_PRUNE: Final = (
    "DELETE FROM deliveries WHERE state != 'pending'"
    " AND number <= (SELECT coalesce(max(number), 0) FROM deliveries) - ?"
)


@attrs.frozen
class Record:
    """What one or more batches of events come to; made durable as a whole."""

    deliveries: tuple[Delivery, ...] = ()
    rulesets: Mapping[str, tuple[int, Any]] = attrs.field(factory=dict)
    senders: Mapping[bytes, int] = attrs.field(factory=dict)
    progress: tuple[Progress, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.deliveries or self.rulesets or self.progress)


@attrs.frozen
class Kept:
    """What an earlier run left: rulesets by instance with the uid they came from, pending deliveries oldest first.

    `lasts` has the newest delivery of each lane that is not older than asked for.
    """

    rulesets: Mapping[str, tuple[int, Any]]
    pending: tuple[Delivery, ...]
    lasts: Mapping[Lane, Delivery]


class AlarmJournal:
    """The file; methods raise sqlite3.Error as it comes, and then nothing of theirs is on disk."""

    def __init__(self, journal: Journal, path: Path) -> None:
        self._journal = journal
        self.path = path

    def last_seq(self, sender: bytes) -> int:
        """The last event of a sender that is in the journal."""
        return self._journal.last_seq(sender)

    async def load(self, since: float) -> Kept:
        """Everything a new run needs; lanes' last deliveries only where raised at or after `since` (unix seconds)."""

        def read(db: sqlite3.Connection) -> Kept:
            rulesets = {
                name: (uid, msgspec.json.decode(body))
                for name, uid, body in db.execute("SELECT instance, uid, body FROM rulesets")
            }
            newest = map(_delivery, db.execute(_SELECT_NEWEST, (since,)))
            pending = tuple(map(_delivery, db.execute(_SELECT_PENDING)))
            return Kept(rulesets, pending, {delivery.lane: delivery for delivery in newest})

        return await self._journal.run(read)

    async def record(self, record: Record, now: float) -> None:
        """Put `record` on disk: it is there when this returns."""

        def write(db: sqlite3.Connection) -> None:
            db.executemany(_INSERT, [_row(delivery, now) for delivery in record.deliveries])
            db.executemany(
                "INSERT OR REPLACE INTO rulesets VALUES (?, ?, ?)",
                [(name, uid, msgspec.json.encode(body)) for name, (uid, body) in record.rulesets.items()],
            )
            for sender, seq in record.senders.items():
                self._journal.mark(db, sender, seq)
            _settle(db, record.progress)

        await self._journal.run(write)

    async def prune(self, now: float) -> None:
        """Forget senders long gone and all but the newest finished deliveries."""
        await self._journal.forget_senders(now - SENDER_SECONDS)
        await self._journal.run(lambda db: db.execute(_PRUNE, (KEPT_FINISHED,)))

    def size(self) -> int:
        """Bytes on disk, the write-ahead log included."""
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())


@asynccontextmanager
async def open_alarm_journal(path: Path) -> AsyncIterator[AlarmJournal]:
    """The journal at `path`, mode 0600; errors as `open_journal`'s."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    async with open_journal(path, {"alarms": SCHEMA}) as journal:
        yield AlarmJournal(journal, path)


def _settle(db: sqlite3.Connection, progress: Iterable[Progress]) -> None:
    db.executemany(
        "UPDATE deliveries SET state = ?, attempts = ?, reason = ?, changed_at = ? WHERE id = ? AND state = 'pending'",
        [(step.state, step.attempts, step.reason, step.at, step.id) for step in progress],
    )


def _row(delivery: Delivery, now: float) -> tuple[object, ...]:
    lane = delivery.lane
    whose = (delivery.id, lane.instance, lane.uid, lane.origin, lane.alarm)
    what = (delivery.action, delivery.arg, delivery.message, delivery.source)
    return (*whose, *what, delivery.raised_at, delivery.expires_at, delivery.attempts, PENDING, "", now)


def _delivery(row: tuple[Any, ...]) -> Delivery:
    ident, instance, uid, origin, alarm, action, arg, message, source, raised_at, expires_at, attempts, *_ = row
    lane = Lane(instance, uid, origin, alarm)
    return Delivery(ident, lane, action, arg, message, raised_at, expires_at, source, attempts)
