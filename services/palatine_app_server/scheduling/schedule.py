"""What the app asked the master to do by the clock or when a file changes: timers, crons and file monitors. Plain.

Registrations belong to a generation and begin when it serves: those of a generation that never does are forgotten.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from palatine_app_server.scheduling import schedule_policy
from palatine_app_server.scheduling.schedule_policy import Armed, CronTime, Moment, Timer
from palatine_app_server.system.file_watch import FileWatch
from palatine_app_server.system.loop import Loop
from palatine_app_server.system.part import Part

#: uWSGI's limit for each kind; one of a runaway loop in an app is as good as a thousand.
MOST: Final = 64

#: A registration: ("timer", number, seconds, iterations), ("cron", number, five fields), ("file", number, path).
Wish = tuple[Any, ...]


def moment_of(unix: float) -> Moment:
    """The local minute of a unix time."""
    local = time.localtime(unix)
    return Moment(local.tm_min, local.tm_hour, local.tm_mday, local.tm_mon, (local.tm_wday + 1) % 7)


class Schedule(Part):
    """The registrations in force; `deliver` routes a signal, `standing` are timers of the config."""

    def __init__(
        self,
        deliver: Callable[[int], None],
        say: Callable[[str], None],
        loop: Loop,
        standing: Sequence[Timer] = (),
    ) -> None:
        self._deliver = deliver
        self._say = say
        self._loop = loop
        self._standing = list(standing)
        self._wishes: dict[int, dict[Wish, None]] = {}  # by generation; a dict because order is kept
        self._serving = 0
        self._armed: list[Armed] = []
        self._crons: dict[tuple[int, CronTime], float] = {}  # and when each last ran
        self._files: FileWatch | None = None
        self._look_at = 0.0

    def register(self, generation: int, wish: Wish) -> None:
        """Add a registration; the same one by another worker of the generation (lazy-apps) counts once."""
        wishes = self._wishes.setdefault(generation, {})
        if wish in wishes:
            return
        kind = wish[0]
        if sum(1 for each in wishes if each[0] == kind) >= MOST:
            self._say(f"you can register max {MOST} {kind}s !!!")
            return
        wishes[wish] = None
        if generation == self._serving:
            self._begin(wish, time.monotonic())

    def serving(self, generation: int) -> None:
        """`generation` serves: what it registered begins now, what was before it ends."""
        self._serving = generation
        self._wishes = {number: wishes for number, wishes in self._wishes.items() if number >= generation}
        self._armed = [schedule_policy.arm(timer, time.monotonic()) for timer in self._standing if timer.seconds > 0]
        self._crons.clear()
        if self._files is not None:
            self._files.close()
            self._files = None
        now = time.monotonic()
        for wish in self._wishes.get(generation, ()):
            self._begin(wish, now)

    def _begin(self, wish: Wish, now: float) -> None:
        kind, number, *rest = wish
        if kind == "timer" and rest[0] <= 0:
            return  # timerfd_settime(2), by which uWSGI does it: disarmed
        if kind == "timer":
            self._armed.append(schedule_policy.arm(Timer(number, *rest), now))
        elif kind == "cron":
            self._crons[number, CronTime(*rest)] = 0.0
        else:
            self._watch_file(number, str(rest[0]))

    def _watch_file(self, number: int, path: str) -> None:
        if self._files is None:
            self._files = FileWatch(self._loop, self._changed)
        self._files.add(path, number)

    def _changed(self, path: str, number: int) -> None:
        self._say(f"[uwsgi-fsmon] file {path} changed, routing signal {number}")
        self._deliver(number)

    def tick(self, now: float) -> None:
        """Deliver what timers have made due; once a second, look at crons and at monitored files that did not exist."""
        if now >= self._look_at:
            self._look_at = now + 1.0
            self._look()
        for armed in list(self._armed):
            fired, after = schedule_policy.fire(armed, now)
            if fired:
                place = self._armed.index(armed)
                self._armed[place : place + 1] = [after] if after is not None else []
                self._deliver(armed.timer.number)

    def _look(self) -> None:
        if self._crons:
            unix = time.time()
            moment = moment_of(unix)
            for (number, cron), last in self._crons.items():
                if schedule_policy.matches(cron, moment) and unix - last >= schedule_policy.CRON_PAUSE_SECONDS:
                    self._crons[number, cron] = unix
                    self._say(f"{time.ctime()} - [uwsgi-cron] routing signal {number}")
                    self._deliver(number)
        if self._files is not None:
            self._files.look_again()

    def close_in_child(self) -> None:
        """In a forked child: monitored files are the master's business."""
        if self._files is not None:
            self._files.close_in_child()

    def stop(self, now: float) -> None:
        """The workers are gone: nothing is due any more."""
        del now
        self._armed.clear()
        self._crons.clear()

    def due(self, now: float) -> float | None:
        """When the next timer is due."""
        del now
        return min((armed.due for armed in self._armed), default=None)
