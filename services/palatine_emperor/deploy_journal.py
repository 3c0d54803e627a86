"""Vassals that came as messages, kept so that they outlive the emperor: written and fsynced before anything is done.

PULL acknowledges nothing to its sender, so "durable before acknowledged" means here: what was taken from the socket
is in the journal before the next message is taken. What libzmq had received but not yet given up is lost with a crash.
"""

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from palatine.errors import ConfigError
from palatine_emperor.deploy_policy import Destroy, Touch
from palatine_emperor.vassal import Wanted

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS vassals (
    monitor TEXT NOT NULL,
    name TEXT NOT NULL,
    stamp INTEGER NOT NULL,
    config BLOB,
    uid INTEGER,
    gid INTEGER,
    socket TEXT NOT NULL,
    PRIMARY KEY (monitor, name)
) STRICT, WITHOUT ROWID
"""
_VERSION: Final = 1


class DeployJournal:
    """A small SQLite database in WAL mode; its calls block for an fsync, so they belong in a worker thread."""

    def __init__(self, path: Path) -> None:
        """ConfigError if the file is no such database, or cannot be written."""
        self._lock = threading.Lock()
        try:
            path.touch(mode=0o600)
            self._database = _open(path)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"the deploy journal cannot be used: {error}", str(path)) from error

    def vassals(self, monitor: str, directory: str) -> tuple[Wanted, ...]:
        """What a monitor's messages left alive, oldest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT name, stamp, config, uid, gid, socket FROM vassals WHERE monitor = ? ORDER BY stamp", (monitor,)
            ).fetchall()
        return tuple(_wanted(row, directory) for row in rows)

    def record(
        self, monitor: str, directory: str, commands: Sequence[tuple[Touch | Destroy, int]]
    ) -> list[Wanted | str | None]:
        """Write commands with their stamps, in one transaction, durably.

        Returns for each what it means now: the vassal as wanted, the name of one to go, None for a `Destroy` of one
        that is unknown. A stamp never goes back, whatever the clock does.
        """
        with self._lock, self._database:
            self._database.execute("BEGIN IMMEDIATE")
            return [self._record(monitor, directory, command, stamp) for command, stamp in commands]

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    def _record(self, monitor: str, directory: str, command: Touch | Destroy, stamp: int) -> Wanted | str | None:
        if isinstance(command, Destroy):
            key = (monitor, command.name)
            gone = self._database.execute("DELETE FROM vassals WHERE monitor = ? AND name = ?", key).rowcount
            return command.name if gone else None
        row = self._database.execute(
            "INSERT INTO vassals VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " stamp = max(excluded.stamp, stamp + 1), config = ifnull(excluded.config, config),"
            " uid = excluded.uid, gid = excluded.gid, socket = excluded.socket"
            " RETURNING name, stamp, config, uid, gid, socket",
            (
                monitor,
                command.name,
                stamp,
                command.config,
                command.uid,
                command.gid,
                command.socket,
            ),
        ).fetchone()
        return _wanted(row, directory)


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(_SCHEMA)
        database.execute(f"PRAGMA user_version = {_VERSION}")
    except BaseException:
        database.close()
        raise
    return database


def _wanted(row: tuple[str, int, bytes | None, int | None, int | None, str], directory: str) -> Wanted:
    name, stamp, config, uid, gid, socket = row
    return Wanted(name, stamp, directory, config, uid, gid, socket)


def open_journal(state_dir: Path) -> DeployJournal:
    """The journal of an emperor's state directory."""
    return DeployJournal(state_dir / "deploy.db")


def stamped(commands: Sequence[Touch | Destroy], now_ns: int) -> list[tuple[Touch | Destroy, int]]:
    """Commands with stamps that grow in the order they came."""
    return [(command, now_ns + number) for number, command in enumerate(commands)]
