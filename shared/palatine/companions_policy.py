"""When a companion is started, started again, given up and killed: decisions without effects. Plain, for the master."""

import signal
from typing import Final, NamedTuple

from palatine.exits import BAD_CONFIG, OK, UNAVAILABLE, USAGE

#: Seconds before the first restart; doubled with every further failure.
FIRST_DELAY: Final = 0.2
LONGEST_DELAY: Final = 5.0
#: A companion that lived this long (seconds) begins anew with the first delay.
STEADY: Final = 10.0

#: Starting again would give the same result: somebody must change something first.
NEVER_RETRIED: Final = {
    USAGE: "it does not understand its command line",
    UNAVAILABLE: "something it needs is missing",
    BAD_CONFIG: "its configuration is wrong",
}

IDLE, RUNNING, WAITING, STOPPING, ENDED = "idle", "running", "waiting", "stopping", "ended"


class State(NamedTuple):
    """Where a companion is in its life; `at` is when something is due (waiting, stopping) or began (running)."""

    phase: str = IDLE
    failures: int = 0
    at: float = 0.0


class Clock(NamedTuple):
    """Time has passed."""


class Spawned(NamedTuple):
    """The process exists."""


class SpawnFailed(NamedTuple):
    """The process could not be made."""

    reason: str


class Exited(NamedTuple):
    """The process has ended; `code` is its exit code, or minus the signal that killed it."""

    code: int


class StopAsked(NamedTuple):
    """It shall end, and is killed after `mercy` seconds."""

    mercy: float


Event = Clock | Spawned | SpawnFailed | Exited | StopAsked


class Start(NamedTuple):
    """Make the process."""


class Send(NamedTuple):
    """Send a signal to the process."""

    signum: int


class Say(NamedTuple):
    """Tell the operator, after the companion's name."""

    text: str


Action = Start | Send | Say


def decide(state: State, event: Event, now: float) -> tuple[State, list[Action]]:
    """What an event at monotonic time `now` makes of a companion, and what is to be done."""
    match event:
        case Clock():
            return _time_passed(state, now)
        case Spawned():
            return state._replace(phase=RUNNING, at=now), []
        case SpawnFailed(reason):
            return _failed(state, now, f"cannot be started: {reason}")
        case Exited(code):
            return _exited(state, code, now)
        case StopAsked(mercy):
            if state.phase == RUNNING:
                return state._replace(phase=STOPPING, at=now + mercy), [Send(signal.SIGTERM)]
            return (state if state.phase == STOPPING else state._replace(phase=ENDED)), []


def due(state: State) -> float | None:
    """When `Clock` would do something; None if only another event can."""
    if state.phase == IDLE:
        return 0.0
    return state.at if state.phase in {WAITING, STOPPING} else None


def _time_passed(state: State, now: float) -> tuple[State, list[Action]]:
    at = due(state)
    if at is None or now < at:
        return state, []
    if state.phase == STOPPING:
        return state._replace(at=float("inf")), [Say("did not stop in time: killed"), Send(signal.SIGKILL)]
    return state, [Start()]


def _exited(state: State, code: int, now: float) -> tuple[State, list[Action]]:
    if state.phase == STOPPING:
        return State(ENDED), []
    if code == OK:
        return State(ENDED), [Say("has ended as it was told to, and stays so")]
    if code in NEVER_RETRIED:
        why = f"gave up with exit code {code}: {NEVER_RETRIED[code]}; not started again"
        return State(ENDED, state.failures + 1), [Say(why)]
    if state.phase == RUNNING and now - state.at >= STEADY:
        state = state._replace(failures=0)
    return _failed(state, now, f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}")


def _failed(state: State, now: float, what: str) -> tuple[State, list[Action]]:
    delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(state.failures, 10))
    return State(WAITING, state.failures + 1, now + delay), [Say(f"{what}; started again in {delay:g} s")]
