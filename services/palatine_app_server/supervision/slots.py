"""The rows the master writes about its workers, and those of dead workers, whose own writer is gone."""

import time
from typing import NamedTuple

from palatine.counters import Segment
from palatine_app_server.supervision.recycle_policy import Memory


class _Tenant(NamedTuple):
    """A process in a slot; during a reload there are two."""

    generation: int
    pid: int
    last_spawn: int  # unix seconds
    requests_at_spawn: int


class Slots:
    """One row a worker index; it outlives the processes that come and go in it."""

    def __init__(self, segment: Segment, threads: int) -> None:
        self._segment = segment
        self._threads = threads
        self._tenants: dict[int, list[_Tenant]] = {}
        self._seen: dict[tuple[int, int], int] = {}  # the generation last seen in a slot's bank

    def spawned(self, worker: int, generation: int, pid: int) -> bool:
        """A process has taken the slot; whether there was one of its generation before. A reload is no respawn."""
        bank = (worker, generation & 1)
        respawned = self._seen.get(bank) == generation
        self._seen[bank] = generation
        count = self._get(worker, "respawn_count")
        if respawned or not count:
            self._set(worker, "respawn_count", count + 1)
        tenant = _Tenant(generation, pid, int(time.time()), self._requests(worker))
        self._tenants.setdefault(worker, []).append(tenant)
        self._show(worker, tenant)
        return respawned

    def died(self, worker: int, generation: int, pid: int, status: int) -> None:
        """Its process was reaped with the wait `status`: it serves nothing and holds nothing any more."""
        self._set(worker, "last_exit_status", status)
        left = self._tenants[worker] = [tenant for tenant in self._tenants.get(worker, []) if tenant.pid != pid]
        if self._get(worker, "pid") == pid:
            if left:
                self._show(worker, left[-1])  # of a reload that failed: the one before serves on
            else:
                self._set(worker, "pid", 0)
        bank = generation & 1
        for core in range(self._threads):
            cells = self._segment.cells("cores", (worker - 1) * self._threads + core, bank)
            for name in ("in_request", "harakiri_deadline_ms"):
                cells[self._segment.word("cores", name)] = 0
        row = self._segment.cells("workers", worker - 1, bank)
        for name in ("accepting", "running_signal"):
            row[self._segment.word("workers", name)] = 0
        self._release_locks(pid)

    def withdraw(self, generation: int) -> None:
        """This generation will not serve: its processes end, and their slots are those of the one before again."""
        for worker, tenants in self._tenants.items():
            left = self._tenants[worker] = [tenant for tenant in tenants if tenant.generation != generation]
            if left and len(left) < len(tenants):
                self._show(worker, left[-1])

    def _show(self, worker: int, tenant: _Tenant) -> None:
        for name, value in tenant._asdict().items():
            self._set(worker, name, value)

    def pause(self, *, paused: bool) -> None:
        """What all workers, of both generations, are to do when they look; those that start look first."""
        word = self._segment.word("workers", "suspended")
        for row in range(self._segment.rows("workers")):
            for bank in (0, 1):
                self._segment.cells("workers", row, bank)[word] = int(paused)

    def cheap(self, worker: int, *, cheap: bool) -> None:
        """Whether the worker is wanted: one that is not holds no memory."""
        self._set(worker, "cheaped", int(cheap))
        if cheap:
            self.memory(worker, Memory())

    def memory(self, worker: int, memory: Memory) -> None:
        """What its process takes."""
        self._set(worker, "vsz", memory.address_space)
        self._set(worker, "rss", memory.resident)

    def shares(self, worker: int, proportional: int, unique: int) -> None:
        """What it takes of the machine, in bytes: its share of shared pages, and what is its alone."""
        self._set(worker, "pss", proportional)
        self._set(worker, "uss", unique)

    def requests_since_spawn(self, worker: int) -> int:
        """Requests its present process has finished."""
        return self._requests(worker) - self._get(worker, "requests_at_spawn")

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
