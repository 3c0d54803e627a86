"""The life of one worker process as a pure function: `decide(life, event, now) -> (life, actions)`. No clock, no I/O.

A worker is known by (generation, index); its slot is respawned until it is told to leave. Times are seconds of the
monotonic clock.
"""

import enum
import signal
from typing import Final, NamedTuple

#: A worker that dies sooner than this after its start did not start at all.
QUICK_SECONDS: Final = 1.0
#: Waits before the second, third ... quick respawn of a worker, in `forkbomb-delay`s (2 seconds).
RESPAWN_DELAYS: Final = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
#: How long a worker may take from fork to accepting before it counts as stuck; with lazy-apps it imports meanwhile.
START_SECONDS: Final = 300.0
#: After the harakiri signal a worker whose other threads are idle has this long to write its answer.
HARAKIRI_GRACE_SECONDS: Final = 0.5


class Phase(enum.Enum):
    """Where a worker stands."""

    WAITING = "waiting"  # for its (re)spawn
    STARTING = "starting"
    SERVING = "serving"
    LEAVING = "leaving"  # asked to finish; killed at `due`
    CONDEMNED = "condemned"  # harakiri: killed at `due`, then respawned unless it was to leave anyway
    CHEAP = "cheap"  # no process, and none wanted for now
    GONE = "gone"


class Life(NamedTuple):
    """What the master knows of one worker; `pid` is 0 before it says that it was forked, and after its death."""

    worker: int
    generation: int
    phase: Phase = Phase.WAITING
    pid: int = 0
    since: float = 0.0
    due: float = 0.0  # WAITING: when to fork; LEAVING, CONDEMNED: when to kill
    quick_deaths: int = 0
    last: bool = False  # told to leave: not respawned
    cheap: bool = False  # told to leave: not respawned before it is woken
    waits: bool = False  # condemned, for requests that are still in time


class Fork(NamedTuple):
    """Ask the zygote of `generation` for this worker."""


class Signal(NamedTuple):
    """Send `number` to the worker's process."""

    number: int


class Note(NamedTuple):
    """Write a line to the log."""

    text: str


Action = Fork | Signal | Note


class Spawned(NamedTuple):
    """The worker's process exists."""

    pid: int


class Accepting(NamedTuple):
    """The worker takes requests."""


class Died(NamedTuple):
    """The worker's process was reaped; `status` is its wait status, `text` what it says in words.

    `unit` is the seconds RESPAWN_DELAYS counts in.
    """

    status: int
    text: str
    unit: float = 2.0


class Tick(NamedTuple):
    """Time passed."""


class Unforked(NamedTuple):
    """The zygote that was asked for this worker is gone and has not forked it."""


class Leave(NamedTuple):
    """Finish what is being served, or with `brutal` drop it; whoever is left after `mercy` seconds is killed."""

    mercy: float
    brutal: bool = False


class Overdue(NamedTuple):
    """A request of this worker passed its harakiri deadline; siblings have until `grace` seconds from now."""

    grace: float


class Alone(NamedTuple):
    """No sibling of an overdue request is in time any more: there is nothing left to wait for."""


class Recycle(NamedTuple):
    """Make room for a fresh process; with `told` False the worker is leaving already, by its own decision."""

    mercy: float
    told: bool = True


class Cheapen(NamedTuple):
    """There are more workers than needed: leave within `mercy` seconds, and come back when woken."""

    mercy: float


class Wake(NamedTuple):
    """A cheap worker is needed again."""


class Kill(NamedTuple):
    """It must end now, whatever it is serving; it is respawned."""

    why: str


Event = Spawned | Accepting | Died | Tick | Unforked | Leave | Overdue | Alone | Recycle | Cheapen | Wake | Kill


def decide(life: Life, event: Event, now: float) -> tuple[Life, list[Action]]:
    """The next state of `life` and what to do about it."""
    if isinstance(event, Tick):
        return _tick(life, now)
    if isinstance(event, Spawned):
        return _spawned(life, event, now)
    if isinstance(event, Died):
        return _died(life, event, now)
    if isinstance(event, Leave):
        return _leave(life, event, now)
    if isinstance(event, Overdue):
        return _overdue(life, event, now)
    if isinstance(event, Alone) and life.phase is Phase.CONDEMNED and life.waits:
        # told again: a request that was in time then may be overdue now, and its client is owed an answer as well
        return life._replace(due=now + HARAKIRI_GRACE_SECONDS, waits=False), [Signal(signal.SIGUSR2)]
    if isinstance(event, Unforked) and not life.pid and life.phase in {Phase.STARTING, Phase.LEAVING}:
        return life._replace(since=now, phase=Phase.GONE if life.last else Phase.STARTING), []
    if isinstance(event, Accepting) and life.phase is Phase.STARTING:
        return life._replace(phase=Phase.SERVING), []
    if isinstance(event, Recycle | Cheapen | Wake | Kill):
        return _renew(life, event, now)
    return life, []


def respawn_delay(quick_deaths: int, unit: float = 2.0) -> float:
    """Seconds to wait before starting again what has died `quick_deaths` times in a row without doing its work."""
    return unit * RESPAWN_DELAYS[min(quick_deaths, len(RESPAWN_DELAYS) - 1)]


def next_due(life: Life) -> float | None:
    """When `Tick` may decide something; None when only events can."""
    if life.phase is Phase.STARTING:
        return life.since + START_SECONDS
    if life.phase is Phase.WAITING or (life.pid and life.phase in {Phase.LEAVING, Phase.CONDEMNED}):
        return life.due
    return None


def _tick(life: Life, now: float) -> tuple[Life, list[Action]]:
    if life.phase is Phase.WAITING and now >= life.due:
        return life._replace(phase=Phase.STARTING, pid=0, since=now), [Fork()]
    if life.phase is Phase.STARTING and now >= life.since + START_SECONDS:
        process = f" (pid: {life.pid})" if life.pid else ""
        note = Note(f"worker {life.worker}{process} did not start within {START_SECONDS:.0f} seconds")
        return life._replace(since=now), [note, Signal(signal.SIGKILL)] if life.pid else [note]
    if life.phase in {Phase.LEAVING, Phase.CONDEMNED} and life.pid and now >= life.due:
        notes: list[Action] = []
        if life.phase is Phase.LEAVING:
            notes.append(Note(f"worker {life.worker} (pid: {life.pid}) is taking too much time to die...NO MERCY !!!"))
        return life._replace(due=now + 1.0), [*notes, Signal(signal.SIGKILL)]
    return life, []


def _spawned(life: Life, event: Spawned, now: float) -> tuple[Life, list[Action]]:
    known = life._replace(pid=event.pid, since=now)
    if life.last:  # told to go while it was being forked
        return known, [Signal(signal.SIGHUP)]
    return known, []


def _died(life: Life, event: Died, now: float) -> tuple[Life, list[Action]]:
    if life.last:
        return life._replace(phase=Phase.GONE, pid=0), []
    if life.cheap:
        return life._replace(phase=Phase.CHEAP, pid=0), [Note(f"uWSGI worker {life.worker} cheaped.")]
    if life.phase is Phase.LEAVING:
        return life._replace(phase=Phase.WAITING, pid=0, due=now, quick_deaths=0), []
    quick = life.quick_deaths + 1 if now - life.since < QUICK_SECONDS else 0
    delay = respawn_delay(quick, event.unit)
    actions: list[Action] = [Note(f"{event.text} :( trying respawn ...")]
    if delay:
        actions.append(Note(f"worker respawning too fast !!! i have to sleep a bit ({delay:g} seconds)..."))
    return life._replace(phase=Phase.WAITING, pid=0, due=now + delay, quick_deaths=quick), actions


def _renew(life: Life, event: Recycle | Cheapen | Wake | Kill, now: float) -> tuple[Life, list[Action]]:
    """Events that end a process and not its slot."""
    serving = life.phase is Phase.SERVING and life.pid
    if isinstance(event, Wake):
        if life.phase is Phase.CHEAP:
            return life._replace(phase=Phase.WAITING, cheap=False, due=now), []
        return life._replace(cheap=False), []
    if isinstance(event, Kill):
        return life, [Note(event.why), Signal(signal.SIGKILL)] if serving else []
    if isinstance(event, Cheapen) and life.phase is Phase.WAITING:
        return life._replace(phase=Phase.CHEAP), []
    if isinstance(event, Recycle) and not event.told and life.phase is Phase.SERVING:
        return life._replace(phase=Phase.LEAVING, due=now + event.mercy), []  # it may not have said its pid yet
    if not serving:
        return life, []
    leaving = life._replace(phase=Phase.LEAVING, due=now + event.mercy, cheap=isinstance(event, Cheapen))
    return leaving, [Signal(signal.SIGHUP)]


def _leave(life: Life, event: Leave, now: float) -> tuple[Life, list[Action]]:
    if life.phase in {Phase.WAITING, Phase.CHEAP, Phase.GONE}:
        return life._replace(phase=Phase.GONE), []
    due = now + event.mercy
    if life.phase in {Phase.LEAVING, Phase.CONDEMNED}:
        due = min(due, life.due)  # being asked again is no reprieve
    phase = Phase.CONDEMNED if life.phase is Phase.CONDEMNED else Phase.LEAVING
    leaving = life._replace(phase=phase, due=due, last=True)
    return leaving, [Signal(signal.SIGINT if event.brutal else signal.SIGHUP)] if life.pid else []


def _overdue(life: Life, event: Overdue, now: float) -> tuple[Life, list[Action]]:
    if not life.pid or life.phase not in {Phase.SERVING, Phase.LEAVING}:
        return life, []
    due = now + max(event.grace, HARAKIRI_GRACE_SECONDS)
    if life.last:
        due = min(due, life.due)
    waits = event.grace > 0
    return life._replace(phase=Phase.CONDEMNED, due=due, waits=waits), [Signal(signal.SIGUSR2)]
