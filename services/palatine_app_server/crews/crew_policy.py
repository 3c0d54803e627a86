"""The life of a mule or spooler as a pure function: `decide(life, event, now) -> (life, actions)`. No clock, no I/O.

There is never more than one process in a place: at a reload the one of the new generation starts when the old one has
ended, so that a task or message is handled by one of them. Times are seconds of the monotonic clock.
"""

import enum
import signal
from typing import Final, NamedTuple

from palatine_app_server.supervision.worker_policy import QUICK_SECONDS, respawn_delay

#: How long one may take from being asked for to saying its name, before it is asked for again.
START_SECONDS: Final = 60.0
#: Between the signal that has a traceback written and the kill.
HARAKIRI_GRACE_SECONDS: Final = 0.5


class Phase(enum.Enum):
    """Where it stands."""

    WAITING = "waiting"  # for its (re)spawn, or for a generation that serves
    STARTING = "starting"
    RUNNING = "running"
    LEAVING = "leaving"
    CONDEMNED = "condemned"
    GONE = "gone"


class Life(NamedTuple):
    """One place; `pid` is 0 while no process is known in it."""

    phase: Phase = Phase.WAITING
    pid: int = 0
    since: float = 0.0
    due: float = 0.0  # WAITING: when to fork; LEAVING, CONDEMNED: when to kill
    quick_deaths: int = 0
    last: bool = False  # told to leave for good


class Fork(NamedTuple):
    """Have the serving generation's zygote fork it."""


class Signal(NamedTuple):
    """Send `number` to its process."""

    number: int


class Merciless(NamedTuple):
    """Note that its mercy is over."""


Action = Fork | Signal | Merciless


class Tick(NamedTuple):
    """Time passed."""


class Unforked(NamedTuple):
    """The zygote that was asked is gone, or there is none: ask again."""


class Spawned(NamedTuple):
    """Its process exists."""

    pid: int


class Died(NamedTuple):
    """Its process was reaped; `done` where it had done its share and made way for a fresh one."""

    done: bool = False


class Leave(NamedTuple):
    """End what you do and go, for good or (`last` False) for a successor; killed after `mercy` seconds."""

    mercy: float
    brutal: bool = False
    last: bool = True


class Overdue(NamedTuple):
    """What it does takes too long."""


Event = Tick | Unforked | Spawned | Died | Leave | Overdue


def decide(life: Life, event: Event, now: float) -> tuple[Life, list[Action]]:
    """The next state and what to do about it."""
    if isinstance(event, Tick):
        return _tick(life, now)
    if isinstance(event, Spawned):
        life = life._replace(phase=Phase.LEAVING if life.last else Phase.RUNNING, pid=event.pid, since=now)
        return life, [Signal(signal.SIGHUP)] if life.last else []
    if isinstance(event, Died):
        return _died(life, event, now), []
    if isinstance(event, Leave):
        return _leave(life, event, now)
    if isinstance(event, Unforked) and life.phase is Phase.STARTING and not life.pid:
        return life._replace(phase=Phase.GONE if life.last else Phase.WAITING, due=now + QUICK_SECONDS), []
    if isinstance(event, Overdue) and life.phase in {Phase.RUNNING, Phase.LEAVING}:
        return life._replace(phase=Phase.CONDEMNED, due=now + HARAKIRI_GRACE_SECONDS), [Signal(signal.SIGUSR2)]
    return life, []


def next_due(life: Life) -> float | None:
    """When `Tick` may decide something."""
    if life.phase is Phase.STARTING:
        return life.since + START_SECONDS
    if life.phase in {Phase.WAITING, Phase.LEAVING, Phase.CONDEMNED}:
        return life.due
    return None


def _tick(life: Life, now: float) -> tuple[Life, list[Action]]:
    if life.phase is Phase.WAITING and now >= life.due:
        return life._replace(phase=Phase.STARTING, pid=0, since=now), [Fork()]
    if life.phase is Phase.STARTING and now >= life.since + START_SECONDS:
        return life._replace(phase=Phase.WAITING, due=now), []
    if life.phase in {Phase.LEAVING, Phase.CONDEMNED} and life.pid and now >= life.due:
        notes: list[Action] = [Merciless()] if life.phase is Phase.LEAVING else []
        return life._replace(due=now + QUICK_SECONDS), [*notes, Signal(signal.SIGKILL)]
    return life, []


def _died(life: Life, event: Died, now: float) -> Life:
    if life.last:
        return life._replace(phase=Phase.GONE, pid=0)
    asked = event.done or life.phase in {Phase.LEAVING, Phase.CONDEMNED}
    quick = life.quick_deaths + 1 if not asked and now - life.since < QUICK_SECONDS else 0
    return life._replace(phase=Phase.WAITING, pid=0, due=now + respawn_delay(quick), quick_deaths=quick)


def _leave(life: Life, event: Leave, now: float) -> tuple[Life, list[Action]]:
    if life.phase is Phase.GONE:
        return life, []
    last = life.last or event.last
    if not life.pid:
        waiting = life.phase is Phase.WAITING
        return life._replace(last=last, phase=Phase.GONE if last and waiting else life.phase), []
    due = now + event.mercy
    if life.phase in {Phase.LEAVING, Phase.CONDEMNED}:
        due = min(due, life.due)
    phase = Phase.CONDEMNED if life.phase is Phase.CONDEMNED else Phase.LEAVING
    number = signal.SIGTERM if event.brutal else signal.SIGHUP
    return life._replace(phase=phase, due=due, last=last), [Signal(number)]
