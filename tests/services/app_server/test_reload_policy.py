"""Every stage of a generation change met by every event."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palatine_app_server.supervision.reload_policy import Do, Event, Stage, State, decide

NEW = State()
FIRST_LOADING = State(0, 1, Stage.LOADING, 1)
FIRST_STARTING = State(0, 1, Stage.STARTING, 1)
STEADY = State(1, 0, Stage.STEADY, 1)
LOADING = State(1, 2, Stage.LOADING, 2)
STARTING = State(1, 2, Stage.STARTING, 2)
RETIRING = State(2, 0, Stage.RETIRING, 2)
ABANDONED = State(1, 0, Stage.RETIRING, 2)  # 2 failed: what is left of it goes

#: (state, event, next state, what to do); everything not here changes nothing.
TABLE: list[tuple[State, Event, State, list[Do]]] = [
    (NEW, Event.REQUESTED, FIRST_LOADING, [Do.START_ZYGOTE]),
    (FIRST_LOADING, Event.LOADED, FIRST_STARTING, [Do.START_WORKERS]),
    (FIRST_LOADING, Event.FAILED, FIRST_LOADING, [Do.GIVE_UP]),
    (FIRST_LOADING, Event.REQUESTED, FIRST_LOADING._replace(again=True), []),
    (FIRST_STARTING, Event.READY, STEADY, []),
    (FIRST_STARTING, Event.FAILED, FIRST_STARTING, [Do.GIVE_UP]),
    (FIRST_STARTING, Event.REQUESTED, FIRST_STARTING._replace(again=True), []),
    (FIRST_STARTING._replace(again=True), Event.READY, LOADING, [Do.START_ZYGOTE]),
    (STEADY, Event.REQUESTED, LOADING, [Do.START_ZYGOTE]),
    (State(1, 0, Stage.STEADY, 2), Event.REQUESTED, State(1, 4, Stage.LOADING, 4), [Do.START_ZYGOTE]),  # the other bank
    (LOADING, Event.LOADED, STARTING, [Do.START_WORKERS]),
    (LOADING, Event.FAILED, ABANDONED, [Do.ABANDON]),
    (LOADING, Event.REQUESTED, LOADING._replace(again=True), []),
    (STARTING, Event.READY, RETIRING, [Do.RETIRE_OLD]),
    (STARTING, Event.FAILED, ABANDONED, [Do.ABANDON]),
    (STARTING, Event.REQUESTED, STARTING._replace(again=True), []),
    (STARTING._replace(again=True), Event.READY, RETIRING._replace(again=True), [Do.RETIRE_OLD]),
    (STARTING._replace(again=True), Event.FAILED, ABANDONED._replace(again=True), [Do.ABANDON]),
    (RETIRING, Event.OLD_GONE, State(2, 0, Stage.STEADY, 2), []),
    (RETIRING, Event.REQUESTED, RETIRING._replace(again=True), []),
    (RETIRING._replace(again=True), Event.OLD_GONE, State(2, 3, Stage.LOADING, 3), [Do.START_ZYGOTE]),
    (ABANDONED, Event.REQUESTED, ABANDONED._replace(again=True), []),
    (ABANDONED, Event.OLD_GONE, State(1, 0, Stage.STEADY, 2), []),
    (ABANDONED._replace(again=True), Event.OLD_GONE, State(1, 4, Stage.LOADING, 4), [Do.START_ZYGOTE]),
]
LISTED = {(state, event) for state, event, _, _ in TABLE}


@pytest.mark.parametrize(("state", "event", "after", "actions"), TABLE)
def test_what_happens(state: State, event: Event, after: State, actions: list[Do]) -> None:
    assert decide(state, event) == (after, actions)


@pytest.mark.parametrize(
    "state", [NEW, FIRST_LOADING, FIRST_STARTING, STEADY, LOADING, STARTING, RETIRING, ABANDONED], ids=repr
)
@pytest.mark.parametrize("event", list(Event))
def test_nothing_else_happens(state: State, event: Event) -> None:
    if (state, event) not in LISTED:
        assert decide(state, event) == (state, [])


@settings(deadline=None)
@given(st.lists(st.sampled_from(list(Event)), max_size=60))
def test_whatever_happens(events: list[Event]) -> None:
    """What serves goes on serving until its successor is ready, and no number or bank is shared by two generations."""
    state, given_out = State(), set[int]()
    for event in [Event.REQUESTED, *events]:
        before = state
        state, actions = decide(before, event)
        if state.serving != before.serving:
            assert event is Event.READY
            assert before.stage is Stage.STARTING
            assert state.serving == before.coming > before.serving
        if event is Event.FAILED:
            assert state.serving == before.serving
        assert (Do.GIVE_UP in actions) <= (before.serving == 0)
        assert (Do.RETIRE_OLD in actions) <= (state.serving != before.serving and before.serving > 0)
        if Do.START_ZYGOTE in actions:
            assert state.coming not in given_out
            assert (state.coming - state.serving) % 2 == 1
            given_out.add(state.coming)
        assert (state.coming > 0) == (state.stage in {Stage.LOADING, Stage.STARTING})
