"""A reload as a pure function: the new generation must serve before the old one may go. No clock, no I/O.

A third generation waits until nothing is left of the first: they share a bank of counters, and ending the first early
would drop what it is still serving. The workers' mercy bounds the wait.

`decide(state, event) -> (state, actions)`; the master carries the actions out and never reloads any other way.
"""

import enum
from typing import NamedTuple


class Stage(enum.Enum):
    """How far a generation change has come."""

    LOADING = "loading"  # the first generation, or one beside the old: its zygote imports the app
    STARTING = "starting"  # its workers are being forked
    RETIRING = "retiring"  # it serves; the one before finishes what it is serving
    STEADY = "steady"


class State(NamedTuple):
    """`serving` is the generation that answers (0: none yet), `coming` the one being brought up (0: none)."""

    serving: int = 0
    coming: int = 0
    stage: Stage = Stage.STEADY
    last: int = 0  # the highest number ever given: a number is never used twice
    again: bool = False  # another reload was asked for meanwhile


class How(enum.Enum):
    """How the workers of one generation make room for those of the next."""

    TOGETHER = "all of the new ones serve, then the old ones finish what they are serving"
    CHAIN = "one by one, each when the new one in its place serves: there is never more than one too many"
    BRUTAL = "all of the new ones serve, then the old ones drop what they are serving"


class Do(enum.Enum):
    """What the master must do."""

    START_ZYGOTE = "fork a zygote for `coming`"
    START_WORKERS = "fork the workers of `coming`"
    RETIRE_OLD = "let the workers and the zygote of the generation before leave"
    ABANDON = "end the zygote and workers of the generation that failed"
    GIVE_UP = "the first generation cannot be loaded: exit"


class Event(enum.Enum):
    """What happened."""

    REQUESTED = "requested"
    LOADED = "loaded"
    FAILED = "failed"  # to load, or a worker of it to become ready
    READY = "ready"  # every worker of `coming` accepts
    OLD_GONE = "old gone"  # nothing is left of the generations before `serving`


def decide(state: State, event: Event) -> tuple[State, list[Do]]:
    """The next state and what to do, in order."""
    if event is Event.REQUESTED:
        if state.stage is not Stage.STEADY:
            return state._replace(again=True), []
        coming = state.last + 1 if (state.last + 1 - state.serving) % 2 else state.last + 2  # the other bank
        return State(state.serving, coming, Stage.LOADING, coming), [Do.START_ZYGOTE]
    if event is Event.LOADED and state.stage is Stage.LOADING:
        return state._replace(stage=Stage.STARTING), [Do.START_WORKERS]
    if event is Event.READY and state.stage is Stage.STARTING:
        if state.serving:
            return State(state.coming, 0, Stage.RETIRING, state.last, again=state.again), [Do.RETIRE_OLD]
        return _and_again(State(serving=state.coming, last=state.last), [], again=state.again)
    if event is Event.FAILED and state.stage in {Stage.LOADING, Stage.STARTING}:
        if not state.serving:
            return state, [Do.GIVE_UP]
        return State(state.serving, 0, Stage.RETIRING, state.last, again=state.again), [Do.ABANDON]
    if event is Event.OLD_GONE and state.stage is Stage.RETIRING:
        return _and_again(State(serving=state.serving, last=state.last), [], again=state.again)
    return state, []


def _and_again(state: State, actions: list[Do], *, again: bool) -> tuple[State, list[Do]]:
    if not again:
        return state, actions
    following, more = decide(state, Event.REQUESTED)
    return following, [*actions, *more]
