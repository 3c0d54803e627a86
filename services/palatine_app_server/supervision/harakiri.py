"""Which workers have a request past its deadline: reads the cores' ledgers and tells the log, decides nothing else."""

from typing import NamedTuple

from palatine.counters import Segment, SegmentView
from palatine_app_server.log.logs import Logs


class OverdueRequest(NamedTuple):
    """One core past its deadline; `grace` seconds are what its siblings may still need."""

    worker: int
    core: int
    bank: int
    started: int  # unix seconds
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
                    left = max([deadline - now_ms for deadline in deadlines if deadline > now_ms], default=0)
                    row = self._row(worker, late[0])
                    started = self._segment.cells("cores", row, bank)[self._start] // 1_000_000
                    found.append(OverdueRequest(worker, late[0], bank, started, left / 1000))
        return found

    def activity(self, late: OverdueRequest) -> str:
        """What the overdue core is doing, as the worker wrote it: method, URI, host and peer, NUL-separated."""
        with SegmentView.open(self._segment.path) as view:
            return view.text("activity", self._row(late.worker, late.core), late.bank).decode("latin-1")

    def running(self, worker: int, bank: int) -> list[str]:
        """Method and URI of each request this worker is in."""
        found = []
        for core in range(self._threads):
            if self._segment.cells("cores", self._row(worker, core), bank)[self._in_request]:
                text = self.activity(OverdueRequest(worker, core, bank, 0, 0.0))
                found.append(" ".join(text.split("\0")[:2]))
        return found

    def announce(self, late: OverdueRequest, pid: int, logs: Logs, *, verbose: bool, attempt: int = 1) -> None:
        """UWSGI's lines about a worker that is about to be killed, or to be told of it: its second `attempt` then."""
        method, uri, _host, peer = (self.activity(late).split("\0") + [""] * 4)[:4]
        say, worker = logs.say_dated, late.worker
        graceful = "yes" if attempt == 1 else "no"
        say(f"*** HARAKIRI ON WORKER {worker} (pid: {pid}, try: {attempt}, graceful: {graceful}) ***")
        for name in ("syscall", "wchan") if verbose else ():
            logs.say(f"HARAKIRI: -- {name}> {_proc_line(pid, name)}")
        say(f"HARAKIRI !!! worker {worker} status !!!")
        say(f"HARAKIRI [core {late.core}] {peer} - {method} {uri} since {late.started}")
        say(f"HARAKIRI !!! end of worker {worker} status !!!")
        say(f"HARAKIRI triggered by worker {worker} core {late.core} !!!")

    def next_deadline(self, now: float) -> float | None:
        """When the next armed request will be overdue; those that are already are known."""
        now_ms = int(now * 1000)
        coming = [
            deadline
            for worker in range(1, self._processes + 1)
            for bank in (0, 1)
            for deadline in self._deadlines(worker, bank)
            if deadline > now_ms
        ]
        return min(coming) / 1000 if coming else None

    def siblings_busy(self, worker: int, bank: int, now: float) -> bool:
        """Whether a core of this worker is in a request that is still in time."""
        now_ms = int(now * 1000)
        for core in range(self._threads):
            cells = self._segment.cells("cores", self._row(worker, core), bank)
            deadline = cells[self._deadline]
            if cells[self._in_request] and (not deadline or deadline > now_ms):
                return True
        return False

    def _row(self, worker: int, core: int) -> int:
        return (worker - 1) * self._threads + core

    def _deadlines(self, worker: int, bank: int) -> list[int]:
        word, first = self._deadline, self._row(worker, 0)
        return [self._segment.cells("cores", row, bank)[word] for row in range(first, first + self._threads)]


def _proc_line(pid: int, name: str) -> str:
    """What the kernel says of a process: the system call it is in and where it waits, proc(5)."""
    try:
        with open(f"/proc/{pid}/{name}", encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError as error:  # the kernel may not tell us, and the process may be gone
        return error.strerror or ""
