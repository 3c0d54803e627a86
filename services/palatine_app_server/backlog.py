"""The listen queues: measured once a second, shown in the segment, and an alarm when one is full."""

from collections.abc import Callable, Sequence

from palatine.counters import Segment
from palatine_app_server.logs import Logs
from palatine_app_server.sockets import Bound


class Backlog:
    """Watches the queues of `bound`; `raise_alarm(name, message, source)` is called for each of `alarms`."""

    def __init__(
        self,
        bound: Sequence[Bound],
        segment: Segment,
        logs: Logs,
        alarms: Sequence[str],
        raise_alarm: Callable[[str, str, str], None],
    ) -> None:
        self._bound = bound
        self._segment = segment
        self._logs = logs
        self._alarms = alarms
        self._raise_alarm = raise_alarm

    def measure(self) -> None:
        """Look at every queue."""
        segment = self._segment
        worst = (0, 0)
        for row, one in enumerate(self._bound):
            queue, limit = one.queue()
            worst = max(worst, (queue, limit))
            cells = segment.cells("sockets", row)
            cells[segment.word("sockets", "queue")] = queue
            cells[segment.word("sockets", "max_queue")] = limit
            if limit and queue >= limit:
                self._complain(one, queue, limit)
        server = segment.cells("server")
        for name, value in (("listen_queue", worst[0]), ("listen_queue_max", worst[1]), ("load", worst[0])):
            server[segment.word("server", name)] = value

    def _complain(self, one: Bound, queue: int, limit: int) -> None:
        text = f'listen queue of socket "{one.name}" (fd: {one.socket.fileno()}) full !!! ({queue}/{limit})'
        self._logs.say_dated(f"*** uWSGI {text} ***")
        for alarm in self._alarms:
            self._raise_alarm(alarm, text, "backlog")
