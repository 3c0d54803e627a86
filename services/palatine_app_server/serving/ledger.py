"""What a core stores about each request: a handful of single-word stores into its own row, and one latch.

One thread writes one row, so no lock is needed; units are microseconds of the monotonic clock unless named otherwise.
"""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from palatine.counters import Segment
from palatine.schema import DURATION_BOUNDS_US, DURATION_FIELDS

_FIELDS = (
    "requests",
    "in_request",
    "request_start_us",
    "harakiri_deadline_ms",
    "running_time",
    "idle_time",
    "write_wait_time",
    "avg_rt",
    "tx",
    "exceptions",
    "write_errors",
    "read_errors",
    "static_requests",
    "routed_requests",
)


class Ledger:
    """The rows of one core of one worker: its counters, its activity and its share of the app's counters."""

    __slots__ = (
        "_activity",
        "_activity_text",
        "_app",
        "_app_exceptions",
        "_app_requests",
        "_apps",
        "_armed",
        "_average",
        "_cells",
        "_counted",
        "_durations",
        "_finished",
        "_idle",
        "_running",
        "_sent",
        "_variables",
        "avg_rt",
        "exceptions",
        "harakiri_deadline_ms",
        "idle_time",
        "in_request",
        "read_errors",
        "request_start_us",
        "requests",
        "routed_requests",
        "running_time",
        "shows_variables",
        "static_requests",
        "tx",
        "write_errors",
        "write_wait_time",
    )

    def __init__(self, segment: Segment, row: int, bank: int) -> None:
        self._cells = segment.cells("cores", row, bank)
        self._activity = segment.text("activity", row, bank)
        self._variables = segment.text("variables", row, bank) if segment.rows("variables") else None
        apps = segment.rows("apps") // segment.rows("cores")
        self._apps = [segment.cells("apps", row * apps + app, bank) for app in range(apps)]
        self._app = self._apps[0]  # whose request is running
        self._counted: memoryview | list[int] = self._app  # whose requests `begin` counts
        self._app_requests = segment.word("apps", "requests")
        self._app_exceptions = segment.word("apps", "exceptions")
        self._activity_text = ""
        self._armed = False
        self.shows_variables = self._variables is not None  # `stats-vars = full`
        self._durations = segment.word("cores", DURATION_FIELDS[0])
        for name in _FIELDS:
            setattr(self, name, segment.word("cores", name))
        cells = self._cells  # nobody else writes them: what was stored need not be read again
        self._finished, self._running, self._sent = cells[self.requests], cells[self.running_time], cells[self.tx]
        self._idle, self._average = cells[self.idle_time], cells[self.avg_rt]

    requests: int
    in_request: int
    request_start_us: int
    harakiri_deadline_ms: int
    running_time: int
    idle_time: int
    write_wait_time: int
    avg_rt: int
    tx: int
    exceptions: int
    write_errors: int
    read_errors: int
    static_requests: int
    routed_requests: int

    def reset_state(self) -> None:
        """A new worker in this slot: whatever its predecessor was doing when it died is over; counters stay."""
        cells = self._cells
        cells[self.in_request] = 0
        cells[self.harakiri_deadline_ms] = 0
        cells[self.request_start_us] = 0

    def begin(self, start_us: int, idle_us: int, activity: str) -> None:
        """A request starts at unix time `start_us` (µs), after `idle_us` without one.

        `activity` is method, URI, host and peer as latin-1 text, NUL between them.
        """
        cells = self._cells
        cells[self.request_start_us] = start_us
        cells[self.in_request] = 1
        if activity != self._activity_text:
            self._activity_text = activity
            self._activity.write(activity.encode("latin-1"))
        self._idle += idle_us
        cells[self.idle_time] = self._idle
        self._counted[self._app_requests] += 1

    def choose_apps(self) -> None:
        """Which app a request is for shows later, if any: `enter_app` counts it, not `begin`."""
        self._counted = [0] * len(self._apps[0])

    def enter_app(self, app: int) -> None:
        """The running request is for this app."""
        self._app = self._apps[app]
        self._app[self._app_requests] += 1

    def rest(self, idle_us: int) -> None:
        """No request for `idle_us`; what `begin` is told next comes on top."""
        self._idle += idle_us
        self._cells[self.idle_time] = self._idle

    def show(self, environ: Mapping[str, Any]) -> None:
        """Before `begin`: the variables of the request that starts, for stats; secrets do not leave this process."""
        from palatine.codec.masking import masked_variables

        if self._variables is not None:
            self._variables.write(masked_variables(environ, self._variables.capacity))

    def arm(self, deadline_ms: int) -> None:
        """The harakiri deadline of the running request on the monotonic clock, in milliseconds; 0 disarms, as `end`."""
        self._armed = deadline_ms != 0
        self._cells[self.harakiri_deadline_ms] = deadline_ms

    def end(self, micros: int, tx: int, write_wait: float) -> None:
        """The request took `micros` and sent `tx` bytes; `write_wait` seconds of it the client did not take them."""
        cells = self._cells
        if self._armed:
            self.arm(0)
        if write_wait:
            cells[self.write_wait_time] += int(write_wait * 1_000_000)
        self._finished = finished = self._finished + 1
        cells[self.requests] = finished
        self._running = running = self._running + micros
        cells[self.running_time] = running
        self._sent = sent = self._sent + tx
        cells[self.tx] = sent
        self._average = average = (self._average + micros) // 2 if self._average else micros
        cells[self.avg_rt] = average
        cells[self._durations + bisect_left(DURATION_BOUNDS_US, micros)] += 1
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
        return self._average

    def app_requests(self, app: int) -> int:
        """Requests this core handed to an app, the running one included."""
        return self._apps[app][self._app_requests]
