import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine_alarm_daemon.delivery_policy import (
    Action,
    Attempt,
    Backoff,
    Due,
    Event,
    Failed,
    Finish,
    Presence,
    State,
    Succeeded,
    Wait,
    decide,
)

BACKOFF = Backoff(first=1.0, longest=8.0)
EVEN = 255 // 2  # as good as no spread
HERE = State(expires_at=1000.0, wants_peer=True)
GONE = attrs.evolve(HERE, present=False)
WEB = State(expires_at=1000.0, wants_peer=False, present=False)
TRIED = attrs.evolve(HERE, attempts=1, reason="no answer", until=101.0)

CASES = [
    # state, event, now -> action
    (HERE, Due(), 100.0, Attempt()),
    (WEB, Due(), 100.0, Attempt()),
    (GONE, Due(), 100.0, Wait(1000.0, "the instance is gone")),
    (HERE, Due(), 1000.0, Finish("expired", "its turn never came")),
    (GONE, Due(), 1000.0, Finish("expired", "the instance is gone")),
    (TRIED, Due(), 1000.0, Finish("expired", "no answer")),
    (TRIED, Succeeded("fine"), 2000.0, Finish("delivered", "fine")),
    (TRIED, Failed("never", lasting=True), 100.0, Finish("failed", "never")),
    (TRIED, Failed("late"), 1000.0, Finish("expired", "late")),
    (TRIED, Presence(present=True), 100.0, Wait(101.0, "no answer")),
    (TRIED, Presence(present=False), 100.0, Wait(1000.0, "the instance is gone")),
    (GONE, Presence(present=True), 100.0, Attempt()),
    (GONE, Presence(present=True), 1000.0, Finish("expired", "its turn never came")),
    (GONE, Presence(present=False), 100.0, Wait(1000.0, "the instance is gone")),
]


@pytest.mark.parametrize(("state", "event", "now", "action"), CASES)
def test_the_next_thing_to_do(state: State, event: Event, now: float, action: Action) -> None:
    assert decide(state, event, now, BACKOFF)[1] == action


def test_waits_double_up_to_the_longest_and_end_at_expiry() -> None:
    state, now, waits = attrs.evolve(HERE, expires_at=30.0, seed=EVEN), 0.0, []
    event: Event = Due()
    while True:
        state, action = decide(state, event, now, BACKOFF)
        if isinstance(action, Finish):
            break
        if isinstance(action, Wait):
            waits.append(round(action.until - now, 1))
            now, event = action.until, Due()
        else:
            event = Failed("no answer")
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0, 7.0]
    assert action == Finish("expired", "no answer")
    assert state.attempts == 6


def test_waiting_for_an_instance_is_no_attempt() -> None:
    state, _ = decide(HERE, Due(), 0.0, BACKOFF)
    state, wait = decide(attrs.evolve(state, attempts=5), Failed("stopping"), 1.0, BACKOFF)
    assert isinstance(wait, Wait)
    state, wait = decide(state, Presence(present=False), 2.0, BACKOFF)
    assert wait == Wait(1000.0, "the instance is gone")
    state, action = decide(state, Presence(present=True), 500.0, BACKOFF)
    assert action == Attempt()
    assert state.attempts == 6


events = st.one_of(
    st.just(Due()),
    st.just(Succeeded()),
    st.builds(Failed, st.just("x"), st.booleans()),
    st.builds(Presence, st.booleans()),
)


@given(
    wants_peer=st.booleans(),
    steps=st.lists(st.tuples(events, st.floats(0, 50)), max_size=40),
    seed=st.integers(0, 255),
)
def test_whatever_happens_nothing_is_attempted_late_nor_lost(
    wants_peer: bool,  # noqa: FBT001 - drawn
    steps: list[tuple[Event, float]],
    seed: int,
) -> None:
    state, now = State(expires_at=200.0, wants_peer=wants_peer, seed=seed), 0.0
    for event, pause in steps:
        now += pause
        state, action = decide(state, event, now, BACKOFF)
        if isinstance(action, Finish):
            assert isinstance(event, Succeeded) or (isinstance(event, Failed) and event.lasting) or now >= 200.0
            return
        assert now < 200.0
        if isinstance(action, Attempt):
            assert state.present or not wants_peer
        else:
            assert state.until <= 200.0


@given(attempts=st.integers(1, 10_000), seed=st.integers(0, 255))
def test_delays_are_bounded(attempts: int, seed: int) -> None:
    assert 0.8 <= BACKOFF.delay(attempts, seed) <= 9.6001
