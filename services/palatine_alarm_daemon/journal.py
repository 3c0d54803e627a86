"""What must survive a kill: accepted rules, how far each sender was read, and every delivery not yet made.

SQLite in WAL mode, one file, one connection, one caller at a time (the daemon's journal thread). `record` is on disk
when it returns; `settle` survives the death of the process, and after a power cut a settled delivery may be made again.
"""

import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import attrs
import msgspec

from palatine_alarm_daemon.values import PENDING, Delivery, Lane, Progress

#: Finished deliveries kept for the history.
KEPT_FINISHED: Final = 10_000
#: A sender not heard of for so long is gone for good: every start of an app-server is a new one.
SENDER_SECONDS: Final = 30 * 86400.0
_USER_VERSION: Final = 1

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS senders (sender BLOB PRIMARY KEY, seq INTEGER NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rulesets (instance TEXT PRIMARY KEY, uid INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
    instance TEXT NOT NULL, uid INTEGER NOT NULL, origin TEXT NOT NULL, alarm TEXT NOT NULL,
    action TEXT NOT NULL, arg TEXT NOT NULL, message BLOB NOT NULL, source TEXT NOT NULL,
    raised_at REAL NOT NULL, expires_at REAL NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL, changed_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS pending ON deliveries (number) WHERE state = 'pending';
"""
_COLUMNS: Final = (
    "id, instance, uid, origin, alarm, action, arg, message, source, raised_at, expires_at, attempts, "
    "state, reason, changed_at"
)


@attrs.frozen
class Record:
    """What one or more batches of events come to; made durable as a whole."""

    deliveries: tuple[Delivery, ...] = ()
    rulesets: Mapping[str, tuple[int, object]] = attrs.field(factory=dict)
    senders: Mapping[bytes, int] = attrs.field(factory=dict)
    progress: tuple[Progress, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.deliveries or self.rulesets or self.progress)


@attrs.frozen
class Kept:
    """What an earlier run left: rulesets by instance with the uid they came from, pending deliveries oldest first.

    `lasts` has the newest delivery of each lane that is not older than asked for.
    """

    rulesets: Mapping[str, tuple[int, object]]
    senders: Mapping[bytes, int]
    pending: tuple[Delivery, ...]
    lasts: Mapping[Lane, Delivery]


class Journal:
    """The file; every method blocks and raises sqlite3.Error as it comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # created 0600: messages are log lines, arguments hold passwords
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except sqlite3.Error:
            self._db.close()
            raise

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > _USER_VERSION:
            raise sqlite3.DatabaseError(f"written by a newer version (format {version})")
        self._db.executescript(_SCHEMA)
        self._db.execute(f"PRAGMA user_version = {_USER_VERSION}")

    def load(self, since: float) -> Kept:
        """Everything a new run needs; lanes' last deliveries only where raised at or after `since` (unix seconds)."""
        rulesets = self._db.execute("SELECT instance, uid, body FROM rulesets").fetchall()
        senders = self._db.execute("SELECT sender, seq FROM senders").fetchall()
        pending = self._db.execute(f"SELECT {_COLUMNS} FROM deliveries WHERE state = 'pending' ORDER BY number")  # noqa: S608 - constants
        waiting = tuple(_delivery(row) for row in pending)
        newest = self._db.execute(
            f"SELECT {_COLUMNS} FROM deliveries WHERE raised_at >= ? AND state != 'overflowed' ORDER BY number",  # noqa: S608 - constants
            (since,),
        )
        lasts = {delivery.lane: delivery for delivery in map(_delivery, newest)}
        known = {instance: (uid, msgspec.json.decode(body)) for instance, uid, body in rulesets}
        return Kept(known, dict(senders), waiting, lasts)

    def record(self, record: Record, now: float) -> None:
        """Put `record` on disk: it is there when this returns, or sqlite3.Error and nothing of it is."""
        self._db.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            self._db.executemany(
                f"INSERT INTO deliveries ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', ?)",  # noqa: S608 - constants
                [_row(delivery, now) for delivery in record.deliveries],
            )
            self._db.executemany(
                "INSERT INTO rulesets VALUES (?, ?, ?) "
                "ON CONFLICT (instance) DO UPDATE SET uid = excluded.uid, body = excluded.body",
                [(name, uid, msgspec.json.encode(body)) for name, (uid, body) in record.rulesets.items()],
            )
            self._db.executemany(
                "INSERT INTO senders VALUES (?, ?, ?) "
                "ON CONFLICT (sender) DO UPDATE SET seq = max(seq, excluded.seq), at = excluded.at",
                [(sender, seq, now) for sender, seq in record.senders.items()],
            )
            self._progress(record.progress)

    def settle(self, progress: Iterable[Progress]) -> None:
        """Note what became of deliveries."""
        self._db.execute("PRAGMA synchronous = NORMAL")
        with self._transaction():
            self._progress(progress)

    def prune(self, now: float) -> None:
        """Forget senders long gone and all but the newest finished deliveries."""
        with self._transaction():
            self._db.execute("DELETE FROM senders WHERE at < ?", (now - SENDER_SECONDS,))
            self._db.execute(
                "DELETE FROM deliveries WHERE state != 'pending' AND number <= "
                "(SELECT coalesce(max(number), 0) FROM deliveries) - ?",
                (KEPT_FINISHED,),
            )

    def size(self) -> int:
        """Bytes on disk, the write-ahead log included."""
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """Write the log back and close the file."""
        self._db.close()

    def _progress(self, progress: Iterable[Progress]) -> None:
        self._db.executemany(
            "UPDATE deliveries SET state = ?, attempts = ?, reason = ?, changed_at = ? "
            "WHERE id = ? AND state = 'pending'",
            [(step.state, step.attempts, step.reason, step.at, step.id) for step in progress],
        )

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)


class _Transaction:
    """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK when anything fails."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error:
                self._rollback()
                raise
        else:
            self._rollback()

    def _rollback(self) -> None:
        if self._db.in_transaction:  # a full disk may have ended it already
            self._db.execute("ROLLBACK")


def _row(delivery: Delivery, now: float) -> tuple[object, ...]:
    lane = delivery.lane
    return (
        delivery.id,
        lane.instance,
        lane.uid,
        lane.origin,
        lane.alarm,
        delivery.action,
        delivery.arg,
        delivery.message,
        delivery.source,
        delivery.raised_at,
        delivery.expires_at,
        delivery.attempts,
        PENDING,
        now,
    )


def _delivery(
    row: tuple[str, str, int, str, str, str, str, bytes, str, float, float, int, str, str, float],
) -> Delivery:
    ident, instance, uid, origin, alarm, action, arg, message, source, raised_at, expires_at, attempts, *_ = row
    lane = Lane(instance, uid, origin, alarm)
    return Delivery(ident, lane, action, arg, message, raised_at, expires_at, source, attempts)
