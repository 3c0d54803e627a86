"""The user locks: `uwsgi.lock` and its kin, between the threads of all processes; a killed holder's lock is free."""

import contextlib
import os
from pathlib import Path
from typing import Any

from palatine.counters import Segment, SharedLock
from palatine_app_server.uwsgi_module import arguments


class Locking:
    """`count` locks in the file at `path`, from slot 1: slot 0 is that of the SNMP values."""

    def __init__(self, path: Path, count: int, segment: Segment) -> None:
        self._segment = segment
        self._locks = [SharedLock(path, slot) for slot in range(1, count + 1)]

    def functions(self) -> dict[str, Any]:
        """What the module offers."""
        return {
            "lock": self._acquire,
            "unlock": self._release,
            "is_locked": lambda number=0: self._lock(number).locked(),
        }

    def _acquire(self, number: int = 0) -> None:
        """Wait for ever: an app that was told it holds a lock must hold it."""
        self._lock(number).acquire(None)
        self._show_owner(number, os.getpid())

    def _release(self, number: int = 0) -> None:
        lock = self._lock(number)
        self._show_owner(number, 0)
        with contextlib.suppress(RuntimeError):  # not held: nothing to do, says uWSGI
            lock.release()

    def _show_owner(self, number: int, pid: int) -> None:
        cells, word = self._segment.cells("locks", number), self._segment.word("locks", "owner_pid")
        if pid or cells[word] == os.getpid():
            cells[word] = pid

    def _lock(self, number: int) -> SharedLock:
        if not 0 <= arguments.integer(number) < len(self._locks):
            raise ValueError("Invalid lock number")
        return self._locks[number]
