"""What stands before a harakiri: a listen queue that must be long enough, and a signal that gives the app a chance.

Remembers of each overdue request only when it was seen first; the kill itself is the worker's life's.
"""

import os
from collections.abc import Callable

from palatine_app_server.harakiri import OverdueRequest
from palatine_app_server.process_settings import HarakiriSettings


class HarakiriGate:
    """Lets overdue requests through; `say` writes a line of the log."""

    def __init__(self, queue: Callable[[], int], say: Callable[[str], None]) -> None:
        self._queue = queue
        self._say = say
        self._warned: dict[tuple[int, OverdueRequest], float] = {}  # by pid and request: when its time is over
        self._skipped: set[tuple[int, OverdueRequest]] = set()

    def opens(self, settings: HarakiriSettings, late: OverdueRequest, pid: int, now: float) -> bool:
        """Whether the worker `pid` may be killed for this request now."""
        key = (pid, late._replace(grace=0.0))
        queue = self._queue()
        if settings.queue_threshold and queue < settings.queue_threshold:
            if key not in self._skipped:
                self._skipped.add(key)
                why = f"Listen queue is smaller than the threshold ({queue} < {settings.queue_threshold})"
                self._say(f"HARAKIRI: Skipping harakiri on worker {late.worker}. {why}")
            return False
        if not settings.graceful_seconds:
            return True
        if key not in self._warned:
            self._warned[key] = now + settings.graceful_seconds
            text = f"graceful termination attempt on worker {late.worker} with signal {settings.graceful_signal}"
            self._say(f"HARAKIRI: {text}. Next harakiri: {settings.graceful_seconds}")
            os.kill(pid, settings.graceful_signal)
        return now >= self._warned[key]

    def forget(self, pid: int) -> None:
        """A worker has ended."""
        self._warned = {key: due for key, due in self._warned.items() if key[0] != pid}
        self._skipped = {key for key in self._skipped if key[0] != pid}

    def due(self, now: float) -> float | None:
        """When a request that was warned has had its time."""
        return min((due for due in self._warned.values() if due > now), default=None)
