"""What a core stores about each request: a handful of single-word stores into its own row, and one latch.

One thread writes one row, so no lock is needed; units are microseconds of the monotonic clock unless named otherwise.
"""

from collections.abc import Mapping
from typing import Any

from palatine.counters import Segment

_FIELDS = (
    "requests",
    "in_request",
    "request_start_us",
    "harakiri_deadline_ms",
    "running_time",
    "avg_rt",
    "tx",
    "exceptions",
    "write_errors",
    "read_errors",
)


class Ledger:
    """The rows of one core of one worker: its counters, its activity and its share of the app's counters."""

    __slots__ = (
        "_activity",
        "_app",
        "_app_exceptions",
        "_app_requests",
        "_cells",
        "_variables",
        "avg_rt",
        "exceptions",
        "harakiri_deadline_ms",
        "in_request",
        "read_errors",
        "request_start_us",
        "requests",
        "running_time",
        "tx",
        "write_errors",
    )

    def __init__(self, segment: Segment, row: int, bank: int) -> None:
        self._cells = segment.cells("cores", row, bank)
        self._activity = segment.text("activity", row, bank)
        self._variables = segment.text("variables", row, bank) if segment.rows("variables") else None
        self._app = segment.cells("apps", row, bank)  # one app a worker today: the row index is the core's
        self._app_requests = segment.word("apps", "requests")
        self._app_exceptions = segment.word("apps", "exceptions")
        for name in _FIELDS:
            setattr(self, name, segment.word("cores", name))

    requests: int
    in_request: int
    request_start_us: int
    harakiri_deadline_ms: int
    running_time: int
    avg_rt: int
    tx: int
    exceptions: int
    write_errors: int
    read_errors: int

    def reset_state(self) -> None:
        """A new worker in this slot: whatever its predecessor was doing when it died is over; counters stay."""
        cells = self._cells
        cells[self.in_request] = 0
        cells[self.harakiri_deadline_ms] = 0
        cells[self.request_start_us] = 0

    def begin(self, start_us: int, activity: bytes) -> None:
        """A request starts at unix time `start_us` (µs); `activity` is method, URI, host and peer, NUL-separated."""
        cells = self._cells
        cells[self.request_start_us] = start_us
        cells[self.in_request] = 1
        self._activity.write(activity)
        self._app[self._app_requests] += 1

    @property
    def shows_variables(self) -> bool:
        """Whether the config has `stats-vars = full`."""
        return self._variables is not None

    def show(self, environ: Mapping[str, Any]) -> None:
        """Before `begin`: the variables of the request that starts, for stats; secrets do not leave this process."""
        from palatine.codec.masking import masked_variables

        if self._variables is not None:
            self._variables.write(masked_variables(environ, self._variables.capacity))

    def arm(self, deadline_ms: int) -> None:
        """The harakiri deadline of the running request on the monotonic clock, in milliseconds; 0 disarms."""
        self._cells[self.harakiri_deadline_ms] = deadline_ms

    def end(self, micros: int, tx: int) -> None:
        """The request is over: `micros` it took, `tx` bytes of head and body sent."""
        cells = self._cells
        cells[self.requests] += 1
        cells[self.running_time] += micros
        cells[self.tx] += tx
        before = cells[self.avg_rt]
        cells[self.avg_rt] = (before + micros) // 2 if before else micros
        cells[self.in_request] = 0

    def count(self, word: int) -> None:
        """One more of an error counter of this core: `ledger.count(ledger.write_errors)`."""
        self._cells[word] += 1

    def count_exception(self) -> None:
        """The app raised."""
        self._cells[self.exceptions] += 1
        self._app[self._app_exceptions] += 1

    def overdue(self, now_ms: int) -> bool:
        """Whether the running request has passed its harakiri deadline."""
        return 0 < self._cells[self.harakiri_deadline_ms] <= now_ms

    @property
    def finished(self) -> int:
        """Requests this core has finished, its predecessors' in the same slot and bank included."""
        return self._cells[self.requests]

    @property
    def average_us(self) -> int:
        """The moving average of this core's request times, in microseconds."""
        return self._cells[self.avg_rt]

    @property
    def app_requests(self) -> int:
        """Requests this core handed to the app, the running one included."""
        return self._app[self._app_requests]
