"""The rows the master writes about its workers, and those of dead workers, whose own writer is gone."""

import time

from palatine.counters import Segment


class Slots:
    """One row a worker index; it outlives the processes that come and go in it."""

    def __init__(self, segment: Segment, threads: int) -> None:
        self._segment = segment
        self._threads = threads

    def spawned(self, worker: int, generation: int, pid: int) -> bool:
        """A process has taken the slot; whether there was one before."""
        respawned = self._get(worker, "respawn_count") > 0
        self._set(worker, "respawn_count", self._get(worker, "respawn_count") + 1)
        self._set(worker, "pid", pid)
        self._set(worker, "generation", generation)
        self._set(worker, "last_spawn", int(time.time()))
        self._set(worker, "requests_at_spawn", self._requests(worker))
        return respawned

    def died(self, worker: int, generation: int, pid: int, status: int) -> None:
        """Its process was reaped with the wait `status`: it serves nothing and holds nothing any more."""
        self._set(worker, "last_exit_status", status)
        if self._get(worker, "pid") == pid:  # a reload's new worker may have taken the slot
            self._set(worker, "pid", 0)
        bank = generation & 1
        for core in range(self._threads):
            cells = self._segment.cells("cores", (worker - 1) * self._threads + core, bank)
            for name in ("in_request", "harakiri_deadline_ms"):
                cells[self._segment.word("cores", name)] = 0
        row = self._segment.cells("workers", worker - 1, bank)
        for name in ("accepting", "suspended", "running_signal"):
            row[self._segment.word("workers", name)] = 0
        self._release_locks(pid)

    def harakiri(self, worker: int) -> None:
        """A request of this worker took too long."""
        self._set(worker, "harakiri_count", self._get(worker, "harakiri_count") + 1)

    def _release_locks(self, pid: int) -> None:
        word = self._segment.word("locks", "owner_pid")
        for number in range(self._segment.rows("locks")):
            cells = self._segment.cells("locks", number)
            if cells[word] == pid:
                cells[word] = 0

    def _requests(self, worker: int) -> int:
        word = self._segment.word("cores", "requests")
        rows = range((worker - 1) * self._threads, worker * self._threads)
        return sum(self._segment.cells("cores", row, bank)[word] for row in rows for bank in (0, 1))

    def _get(self, worker: int, name: str) -> int:
        value: int = self._segment.cells("slots", worker - 1)[self._segment.word("slots", name)]
        return value

    def _set(self, worker: int, name: str, value: int) -> None:
        self._segment.cells("slots", worker - 1)[self._segment.word("slots", name)] = value
