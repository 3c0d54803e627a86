"""A consumer's durable memory: what arrived, what is still to do; it must never tell of anything before it is on disk.

SQLite in WAL mode with synchronous=FULL, so a committed transaction survives a power cut. Everything runs in a worker
thread, one function at a time, each in one transaction. Tables of the bus (schema version in `user_version`):

| table        | columns                                                                                             |
|--------------|-----------------------------------------------------------------------------------------------------|
| `senders`    | uuid (16 bytes, key), last_seq, seen (unix seconds)                                                  |
| `entries`    | id (rowid), sender, seq, type, body (JSON), due (unix seconds), attempts; what is done is deleted    |
| `components` | name (key), version: the schemas that others keep in the same file                                   |
"""

import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import msgspec
import trio

from palatine.bus.endpoint import claim
from palatine.bus.events import Event
from palatine.errors import ConfigError

SCHEMA: Final = (
    """
    CREATE TABLE senders (uuid BLOB PRIMARY KEY, last_seq INTEGER NOT NULL, seen REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE entries (
        id INTEGER PRIMARY KEY, sender BLOB, seq INTEGER, type TEXT NOT NULL, body BLOB NOT NULL,
        due REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX entries_due ON entries (due);
    CREATE TABLE components (name TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
    """,
)
#: Another connection (a backup, a person with the sqlite3 shell) may hold the file so long, in seconds.
BUSY_SECONDS: Final = 5.0

T = TypeVar("T")


@attrs.frozen
class Entry:
    """A piece of work: `due` is when to try it (unix seconds), `attempts` how often it was put off."""

    id: int
    type: str
    body: Any
    due: float
    attempts: int


class Journal:
    """One file, one user at a time. Open it with `open_journal`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._turn = trio.CapacityLimiter(1)
        self._last: dict[bytes, int] = dict(connection.execute("SELECT uuid, last_seq FROM senders"))
        self._marked: dict[bytes, int] = {}  # in the transaction under way

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work(connection)` in the thread, in one transaction: on disk when this returns, rolled back if it raises.

        Cancelling waits for the thread. `work` must not commit, and must not keep the connection.
        """
        return await trio.to_thread.run_sync(self._transaction, work, limiter=self._turn)

    def last_seq(self, sender: bytes) -> int:
        """The last number known of a sender, 0 if none is."""
        return self._last.get(sender, 0)

    def fresh(self, sender: bytes, events: Sequence[Event]) -> list[Event]:
        """Those of a batch that are no duplicates. Nothing is written: they count as known only once recorded."""
        last = self.last_seq(sender)
        return [event for event in events if event.seq > last]

    async def record(
        self,
        sender: bytes,
        events: Sequence[Event],
        keep: Callable[[sqlite3.Connection, list[Event]], None] | None = None,
    ) -> list[Event]:
        """Make a batch durable in one transaction; returns those of its events that are new, the rest is known already.

        They become entries, due now, unless `keep(connection, new)` puts them elsewhere in the same transaction.
        """
        new = self.fresh(sender, events)
        if not new:
            return []

        def write(connection: sqlite3.Connection) -> None:
            if keep is not None:
                keep(connection, new)
            else:
                now = time.time()
                connection.executemany(
                    "INSERT INTO entries (sender, seq, type, body, due) VALUES (?, ?, ?, ?, ?)",
                    [(sender, event.seq, event.type, msgspec.json.encode(event.body), now) for event in new],
                )
            self.mark(connection, sender, new[-1].seq)

        await self.run(write)
        return new

    def mark(self, connection: sqlite3.Connection, sender: bytes, seq: int) -> None:
        """In `work` of `run`: all of `sender` up to `seq` is known from this transaction on. `record` does it."""
        connection.execute(
            "INSERT INTO senders (uuid, last_seq, seen) VALUES (?, ?, ?)"
            " ON CONFLICT (uuid) DO UPDATE SET last_seq = max(last_seq, excluded.last_seq), seen = excluded.seen",
            (sender, seq, time.time()),
        )
        self._marked[sender] = max(seq, self.last_seq(sender))

    async def add(self, type: str, body: Any, *, due: float = 0.0) -> int:  # noqa: A002 - as in Event
        """Work of the daemon's own; its id."""
        encoded = msgspec.json.encode(body)

        def write(connection: sqlite3.Connection) -> int:
            cursor = connection.execute("INSERT INTO entries (type, body, due) VALUES (?, ?, ?)", (type, encoded, due))
            assert cursor.lastrowid is not None
            return cursor.lastrowid

        return await self.run(write)

    async def due(self, now: float, limit: int = 100) -> list[Entry]:
        """Work due at `now` (unix seconds), in the order it arrived."""

        def read(connection: sqlite3.Connection) -> list[Entry]:
            rows = connection.execute(
                "SELECT id, type, body, due, attempts FROM entries WHERE due <= ? ORDER BY id LIMIT ?", (now, limit)
            )
            return [Entry(ident, kind, msgspec.json.decode(body), at, tries) for ident, kind, body, at, tries in rows]

        return await self.run(read)

    async def put_off(self, ident: int, until: float) -> None:
        """Work that failed is due again at `until`; its attempts are counted."""
        await self.run(
            lambda connection: connection.execute(
                "UPDATE entries SET due = ?, attempts = attempts + 1 WHERE id = ?", (until, ident)
            )
        )

    async def done(self, idents: Sequence[int]) -> None:
        """Forget finished work."""
        await self.run(
            lambda connection: connection.executemany("DELETE FROM entries WHERE id = ?", [(i,) for i in idents])
        )

    async def forget_senders(self, before: float) -> int:
        """Forget senders not seen since `before` (unix seconds): one without a spool has a new uuid at each start."""

        def forget(connection: sqlite3.Connection) -> list[bytes]:
            rows = connection.execute("DELETE FROM senders WHERE seen < ? RETURNING uuid", (before,))
            return [uuid for (uuid,) in rows]

        gone = await self.run(forget)
        for uuid in gone:
            self._last.pop(uuid, None)
        return len(gone)

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection
        self._marked.clear()
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk has rolled it back already
                connection.execute("ROLLBACK")
            raise
        self._last |= self._marked
        return result


@contextlib.asynccontextmanager
async def open_journal(path: Path, components: Mapping[str, Sequence[str]] | None = None) -> AsyncIterator[Journal]:
    """The journal at `path`, created if it must be, with the schemas of `components` brought up to date.

    A component is a list of SQL scripts, one per version; those not run yet are, in order, each in a transaction.
    AlreadyRunningError if a live process has it; ConfigError if it cannot be opened, is damaged, or too new.
    """
    with claim(path):
        try:
            connection = await trio.to_thread.run_sync(_open, path, components or {})
        except sqlite3.Error as error:
            raise ConfigError(f"cannot be used as a journal: {error}", str(path)) from error
        try:
            yield Journal(connection)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(connection.close)


def _open(path: Path, components: Mapping[str, Sequence[str]]) -> sqlite3.Connection:
    # One function at a time runs, though not always on the same thread of the pool: hence no check of the thread.
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        _migrate(connection, path, version, SCHEMA, "PRAGMA user_version = {version}")
        known = dict(connection.execute("SELECT name, version FROM components"))
        for name, scripts in components.items():
            assert name.isidentifier()
            keep = f"INSERT OR REPLACE INTO components VALUES ('{name}', {{version}})"  # noqa: S608 - an identifier
            _migrate(connection, path, known.get(name, 0), scripts, keep)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, path: Path, version: int, scripts: Sequence[str], keep: str) -> None:
    if version > len(scripts):
        raise ConfigError(f"was written by a later palatine (schema {version}, known here: {len(scripts)})", str(path))
    for number, script in enumerate(scripts[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script}; {keep.format(version=number)}; COMMIT")
