"""The listen queues and workers' signal queues: measured once a second, shown in the segment; alarms when full."""

import time
from collections.abc import Callable, Sequence

from palatine.counters import Segment
from palatine_app_server.log.logs import Logs
from palatine_app_server.sharing.signals_table import SignalsTable
from palatine_app_server.system.sockets import Bound


class Backlog:
    """Watches the queues of `bound` and `signals`; calls `raise_alarm(name, message, source)` for each of `alarms`."""

    def __init__(
        self,
        bound: Sequence[Bound],
        signals: SignalsTable,
        segment: Segment,
        logs: Logs,
        alarms: Sequence[str],
        raise_alarm: Callable[[str, str, str], None],
    ) -> None:
        self._bound = bound
        self._signals = signals
        self._segment = segment
        self._logs = logs
        self._alarms = alarms
        self._raise_alarm = raise_alarm
        self._measured = time.monotonic()

    def measure(self) -> None:
        """Look at every queue."""
        segment = self._segment
        now = time.monotonic()
        passed, self._measured = int((now - self._measured) * 1_000_000), now
        worst = (0, 0)
        for row, one in enumerate(self._bound):
            queue, limit = one.queue()
            worst = max(worst, (queue, limit))
            cells = segment.cells("sockets", row)
            cells[segment.word("sockets", "queue")] = queue
            cells[segment.word("sockets", "max_queue")] = limit
            cells[segment.word("sockets", "queued_time")] += queue * passed
            if limit and queue >= limit:
                self._complain(one, queue, limit)
        server = segment.cells("server")
        for name, value in (("listen_queue", worst[0]), ("listen_queue_max", worst[1]), ("load", worst[0])):
            server[segment.word("server", name)] = value
        for worker, waiting in enumerate(self._signals.waiting()):
            segment.cells("slots", worker)[segment.word("slots", "signal_queue")] = waiting

    def _complain(self, one: Bound, queue: int, limit: int) -> None:
        text = f'listen queue of socket "{one.name}" (fd: {one.socket.fileno()}) full !!! ({queue}/{limit})'
        self._logs.say_dated(f"*** uWSGI {text} ***")
        for alarm in self._alarms:
            self._raise_alarm(alarm, text, "backlog")
