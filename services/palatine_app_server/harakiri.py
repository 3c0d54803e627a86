"""Which workers have a request past its deadline: reads the cores' ledgers, decides nothing else."""

from typing import NamedTuple

from palatine.counters import Segment, SegmentView


class OverdueRequest(NamedTuple):
    """One core past its deadline; `grace` seconds are what its siblings may still need."""

    worker: int
    core: int
    bank: int
    started: int  # unix seconds
    activity: bytes
    grace: float


class DeadlineWatch:
    """Looks at every core's deadline; `threads` cores a worker."""

    def __init__(self, segment: Segment, processes: int, threads: int) -> None:
        self._segment = segment
        self._processes = processes
        self._threads = threads
        self._deadline = segment.word("cores", "harakiri_deadline_ms")
        self._in_request = segment.word("cores", "in_request")
        self._start = segment.word("cores", "request_start_us")

    def overdue(self, now: float) -> list[OverdueRequest]:
        """The first overdue core of each worker, and the time its siblings have left."""
        found = []
        now_ms = int(now * 1000)
        for worker in range(1, self._processes + 1):
            for bank in (0, 1):
                deadlines = self._deadlines(worker, bank)
                late = [core for core, deadline in enumerate(deadlines) if 0 < deadline <= now_ms]
                if late:
                    found.append(self._describe(worker, bank, late[0], deadlines, now_ms))
        return found

    def next_deadline(self, now: float) -> float | None:
        """When the next armed request will be overdue."""
        armed = [
            deadline
            for worker in range(1, self._processes + 1)
            for bank in (0, 1)
            for deadline in self._deadlines(worker, bank)
            if deadline
        ]
        return max(now, min(armed) / 1000) if armed else None

    def siblings_busy(self, worker: int, bank: int, now: float) -> bool:
        """Whether a core of this worker is in a request that is still in time."""
        now_ms = int(now * 1000)
        first = (worker - 1) * self._threads
        for row in range(first, first + self._threads):
            cells = self._segment.cells("cores", row, bank)
            deadline = cells[self._deadline]
            if cells[self._in_request] and (not deadline or deadline > now_ms):
                return True
        return False

    def _deadlines(self, worker: int, bank: int) -> list[int]:
        first = (worker - 1) * self._threads
        word = self._deadline
        return [self._segment.cells("cores", row, bank)[word] for row in range(first, first + self._threads)]

    def _describe(self, worker: int, bank: int, core: int, deadlines: list[int], now_ms: int) -> OverdueRequest:
        row = (worker - 1) * self._threads + core
        left = [deadline - now_ms for deadline in deadlines if deadline > now_ms]
        return OverdueRequest(
            worker=worker,
            core=core,
            bank=bank,
            started=self._segment.cells("cores", row, bank)[self._start] // 1_000_000,
            activity=self._activity(row, bank),
            grace=max(left, default=0) / 1000,
        )

    def _activity(self, row: int, bank: int) -> bytes:
        with SegmentView.open(self._segment.path) as view:
            return view.text("activity", row, bank)
