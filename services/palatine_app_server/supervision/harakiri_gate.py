"""Which workers must end for a request of theirs: a listen queue may have to be long enough, a signal may come first.

Remembers of each overdue request only when it was seen first; the kill itself is the worker's life's.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator

from palatine_app_server.config.process_settings import HarakiriSettings
from palatine_app_server.config.settings import AppSettings
from palatine_app_server.log.logs import Logs
from palatine_app_server.supervision.harakiri import DeadlineWatch, OverdueRequest
from palatine_app_server.supervision.worker_policy import Life, Phase


class HarakiriGate:
    """Of one instance; `queue` is how many connections wait, `count` hears of each worker with a harakiri."""

    def __init__(
        self, watch: DeadlineWatch, queue: Callable[[], int], count: Callable[[int], None], logs: Logs
    ) -> None:
        self._watch = watch
        self._queue = queue
        self._count = count
        self._logs = logs
        self._say = logs.say
        self._apps_too = False
        self._warned: dict[tuple[int, OverdueRequest], float] = {}  # by pid and request: when its time is over
        self._skipped: set[tuple[int, OverdueRequest]] = set()

    def watch_apps(self) -> None:
        """Look also where the config sets no deadline: an app has set one."""
        self._apps_too = True

    def due_workers(self, settings: AppSettings, lives: Iterable[Life], now: float) -> Iterator[tuple[Life, float]]:
        """Each worker that must end, and for how many seconds its other requests may go on; the log says why."""
        if not (settings.harakiri_seconds or self._apps_too):
            return
        at_work = [life for life in lives if life.pid and life.phase in {Phase.SERVING, Phase.LEAVING}]
        for late in self._watch.overdue(now):
            for life in at_work:
                ours = life.worker == late.worker and life.generation & 1 == late.bank
                if ours and self.opens(settings.process.harakiri, late, life.pid, now):
                    warned = bool(settings.process.harakiri.graceful_seconds)
                    self._announce(settings.process.harakiri, late, life.pid, 1 + warned)
                    yield life, min(late.grace, float(settings.mercy_seconds))

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
            self._announce(settings, late, pid, 1)
            text = f"graceful termination attempt on worker {late.worker} with signal {settings.graceful_signal}"
            self._logs.say_dated(f"HARAKIRI: {text}. Next harakiri: {int(time.time()) + settings.graceful_seconds}")
            os.kill(pid, settings.graceful_signal)
        return now >= self._warned[key]

    def _announce(self, settings: HarakiriSettings, late: OverdueRequest, pid: int, attempt: int) -> None:
        if attempt == 1:  # one event, however often it is tried
            self._count(late.worker)
        self._watch.announce(late, pid, self._logs, verbose=settings.verbose, attempt=attempt)

    def forget(self, pid: int) -> None:
        """A worker has ended."""
        self._warned = {key: due for key, due in self._warned.items() if key[0] != pid}
        self._skipped = {key for key in self._skipped if key[0] != pid}

    def next_due(self, settings: AppSettings, now: float) -> float | None:
        """When a request will have had its time, or one that was warned."""
        moments = [due for due in self._warned.values() if due > now]
        if settings.harakiri_seconds or self._apps_too:
            deadline = self._watch.next_deadline(now)
            moments += [] if deadline is None else [deadline]
        return min(moments, default=None)
