import pytest

from palatine.companions_policy import (
    ENDED,
    FIRST_DELAY,
    IDLE,
    LONGEST_DELAY,
    RUNNING,
    STEADY,
    STOPPING,
    WAITING,
    Clock,
    Event,
    Exited,
    Say,
    Send,
    Spawned,
    SpawnFailed,
    Start,
    State,
    StopAsked,
    decide,
    due,
)

TABLE: list[tuple[State, Event, float, State, list[object]]] = [
    (State(), Clock(), 5.0, State(), [Start()]),
    (State(), Spawned(), 5.0, State(RUNNING, 0, 5.0), []),
    (State(RUNNING, 0, 5.0), Clock(), 99.0, State(RUNNING, 0, 5.0), []),
    (State(RUNNING, 0, 5.0), Exited(0), 6.0, State(ENDED), [Say]),
    (State(RUNNING, 0, 5.0), Exited(-9), 6.0, State(WAITING, 1, 6.0 + FIRST_DELAY), [Say]),
    (State(RUNNING, 3, 5.0), Exited(1), 6.0, State(WAITING, 4, 6.0 + FIRST_DELAY * 8), [Say]),
    (State(RUNNING, 30, 5.0), Exited(1), 6.0, State(WAITING, 31, 6.0 + LONGEST_DELAY), [Say]),
    (State(RUNNING, 9, 5.0), Exited(1), 5.0 + STEADY, State(WAITING, 1, 5.0 + STEADY + FIRST_DELAY), [Say]),
    (State(IDLE), SpawnFailed("no memory"), 1.0, State(WAITING, 1, 1.0 + FIRST_DELAY), [Say]),
    (State(WAITING, 1, 7.0), Clock(), 6.9, State(WAITING, 1, 7.0), []),
    (State(WAITING, 1, 7.0), Clock(), 7.0, State(WAITING, 1, 7.0), [Start()]),
    (State(WAITING, 1, 7.0), StopAsked(9), 6.0, State(ENDED, 1, 7.0), []),
    (State(RUNNING, 0, 5.0), StopAsked(9), 6.0, State(STOPPING, 0, 15.0), [Send(15)]),
    (State(STOPPING, 0, 15.0), StopAsked(9), 7.0, State(STOPPING, 0, 15.0), []),
    (State(STOPPING, 0, 15.0), Clock(), 14.9, State(STOPPING, 0, 15.0), []),
    (State(STOPPING, 0, 15.0), Clock(), 15.0, State(STOPPING, 0, float("inf")), [Say, Send(9)]),
    (State(STOPPING, 0, 15.0), Exited(-15), 7.0, State(ENDED), []),
    (State(ENDED), Clock(), 99.0, State(ENDED), []),
    (State(RUNNING, 0, 5.0), Exited(2), 6.0, State(ENDED, 1), [Say]),
    (State(RUNNING, 0, 5.0), Exited(69), 6.0, State(ENDED, 1), [Say]),
    (State(RUNNING, 0, 5.0), Exited(78), 6.0, State(ENDED, 1), [Say]),
]


@pytest.mark.parametrize(("state", "event", "now", "after", "actions"), TABLE)
def test_decisions(state: State, event: Event, now: float, after: State, actions: list[object]) -> None:
    got, done = decide(state, event, now)
    assert got == after
    assert [type(action) if isinstance(action, Say) else action for action in done] == actions


def test_delays_double_up_to_the_longest() -> None:
    state, delays = State(RUNNING), []
    for _ in range(8):
        state, _ = decide(state._replace(phase=RUNNING, at=0.0), Exited(1), 0.0)
        delays.append(state.at)
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_only_idle_waiting_and_stopping_have_something_due() -> None:
    assert due(State()) == 0.0
    assert due(State(WAITING, 1, 3.0)) == due(State(STOPPING, 0, 3.0)) == 3.0
    assert due(State(RUNNING, 0, 3.0)) is due(State(ENDED)) is None


def test_the_reason_is_told() -> None:
    _, (said,) = decide(State(RUNNING), Exited(78), 1.0)
    assert said == Say("gave up with exit code 78: its configuration is wrong; not started again")
    _, (said,) = decide(State(RUNNING), Exited(-9), 1.0)
    assert said == Say("was killed by signal 9; started again in 0.2 s")
