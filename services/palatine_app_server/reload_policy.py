"""A reload as a pure function: the new generation must serve before the old one may go. No clock, no I/O.

`decide(state, event) -> (state, actions)`; the master carries the actions out and never reloads any other way.
"""

import enum
from typing import NamedTuple


class Stage(enum.Enum):
    """How far a generation change has come."""

    LOADING = "loading"  # the first generation, or one beside the old: its zygote imports the app
    STARTING = "starting"  # its workers are being forked
    STEADY = "steady"


class State(NamedTuple):
    """`serving` is the generation that answers (0: none yet), `coming` the one being brought up (0: none)."""

    serving: int = 0
    coming: int = 0
    stage: Stage = Stage.STEADY
    last: int = 0  # the highest number ever given: a number is never used twice
    again: bool = False  # another reload was asked for meanwhile


class Do(enum.Enum):
    """What the master must do."""

    START_ZYGOTE = "fork a zygote for `coming`"
    START_WORKERS = "fork the workers of `coming`"
    RETIRE_OLD = "let the workers and the zygote of the generation before leave"
    END_ELDEST = "end at once what is left of the generation that used this bank before"
    ABANDON = "end the zygote and workers of the generation that failed"
    GIVE_UP = "the first generation cannot be loaded: exit"


class Event(enum.Enum):
    """What happened."""

    REQUESTED = "requested"
    LOADED = "loaded"
    FAILED = "failed"  # to load, or a worker of it to become ready
    READY = "ready"  # every worker of `coming` accepts


def decide(state: State, event: Event) -> tuple[State, list[Do]]:
    """The next state and what to do, in order."""
    if event is Event.REQUESTED:
        if state.stage is not Stage.STEADY:
            return state._replace(again=True), []
        coming = state.last + 1 if (state.last + 1 - state.serving) % 2 else state.last + 2  # the other bank
        return State(state.serving, coming, Stage.LOADING, coming), [Do.END_ELDEST, Do.START_ZYGOTE]
    if event is Event.LOADED and state.stage is Stage.LOADING:
        return state._replace(stage=Stage.STARTING), [Do.START_WORKERS]
    if event is Event.READY and state.stage is Stage.STARTING:
        done = State(serving=state.coming, last=state.last)
        return _and_again(done, [Do.RETIRE_OLD] if state.serving else [], again=state.again)
    if event is Event.FAILED and state.stage is not Stage.STEADY:
        if not state.serving:
            return state, [Do.GIVE_UP]
        return _and_again(State(serving=state.serving, last=state.last), [Do.ABANDON], again=state.again)
    return state, []


def _and_again(state: State, actions: list[Do], *, again: bool) -> tuple[State, list[Do]]:
    if not again:
        return state, actions
    following, more = decide(state, Event.REQUESTED)
    return following, [*actions, *more]
