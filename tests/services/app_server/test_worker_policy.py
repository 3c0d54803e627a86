"""Every phase of a worker's life met by every event."""

import signal
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palatine_app_server.supervision.worker_policy import (
    HARAKIRI_GRACE_SECONDS,
    RESPAWN_DELAYS,
    START_SECONDS,
    Accepting,
    Action,
    Alone,
    Cheapen,
    Died,
    Event,
    Fork,
    Kill,
    Leave,
    Life,
    Note,
    Overdue,
    Phase,
    Recycle,
    Signal,
    Spawned,
    Tick,
    Unforked,
    Wake,
    decide,
    next_due,
    respawn_delay,
)

NOW = 1000.0
PID = 77
WAITING = Life(1, 2, Phase.WAITING, 0, 900.0, NOW)
ASKED = Life(1, 2, Phase.STARTING, 0, 990.0)
STARTING = Life(1, 2, Phase.STARTING, PID, 990.0)
HASTY = Life(1, 2, Phase.SERVING, 0, 990.0)  # "accepting" was heard before "spawned"
SERVING = Life(1, 2, Phase.SERVING, PID, 900.0)
LEAVING = Life(1, 2, Phase.LEAVING, PID, 900.0, 1060.0, last=True)
UNBORN = Life(1, 2, Phase.LEAVING, 0, 990.0, 1060.0, last=True)
CONDEMNED = Life(1, 2, Phase.CONDEMNED, PID, 900.0, 1020.0)
DOOMED = CONDEMNED._replace(last=True)  # condemned and told to leave
GONE = Life(1, 2, Phase.GONE, last=True)
RECYCLED = LEAVING._replace(last=False)
CHEAPENED = RECYCLED._replace(cheap=True)
CHEAP = Life(1, 2, Phase.CHEAP, 0, 900.0, cheap=True)
ALL = (WAITING, ASKED, STARTING, HASTY, SERVING, LEAVING, UNBORN, CONDEMNED, DOOMED, GONE, RECYCLED, CHEAPENED, CHEAP)

HUP, INT, USR2, KILL = (Signal(n) for n in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR2, signal.SIGKILL))
DIED = Died(9, "worker 1 died")
RESPAWN = Note("worker 1 died :( trying respawn ...")
SLEEP = Note("worker respawning too fast !!! i have to sleep a bit (0.5 seconds)...")

#: (life, event, what changes, actions)
TABLE: list[tuple[Life, Event, dict[str, object], Sequence[Action]]] = [
    (WAITING, Tick(), {"phase": Phase.STARTING, "since": NOW}, [Fork()]),
    (WAITING._replace(due=NOW + 1), Tick(), {}, []),
    (WAITING, Leave(60), {"phase": Phase.GONE}, []),
    (WAITING, Overdue(5), {}, []),
    (ASKED, Spawned(PID), {"pid": PID, "since": NOW}, []),
    (ASKED, Accepting(), {"phase": Phase.SERVING}, []),
    (ASKED, Tick(), {}, []),
    (
        ASKED._replace(since=NOW - START_SECONDS),
        Tick(),
        {"since": NOW},
        [Note("worker 1 did not start within 300 seconds")],
    ),
    (ASKED, Unforked(), {"since": NOW}, []),
    (ASKED, Leave(60), {"phase": Phase.LEAVING, "due": NOW + 60, "last": True}, []),
    (STARTING, Accepting(), {"phase": Phase.SERVING}, []),
    (STARTING, Unforked(), {}, []),
    (STARTING, Overdue(5), {}, []),
    (
        STARTING._replace(since=NOW - START_SECONDS),
        Tick(),
        {"since": NOW},
        [Note("worker 1 (pid: 77) did not start within 300 seconds"), KILL],
    ),
    (STARTING, DIED, {"phase": Phase.WAITING, "pid": 0, "due": NOW}, [RESPAWN]),
    (STARTING, Leave(60), {"phase": Phase.LEAVING, "due": NOW + 60, "last": True}, [HUP]),
    (HASTY, Spawned(PID), {"pid": PID, "since": NOW}, []),
    (HASTY, Overdue(5), {}, []),  # a signal to pid 0 would reach the whole process group
    (HASTY, Leave(60), {"phase": Phase.LEAVING, "due": NOW + 60, "last": True}, []),
    (SERVING, Tick(), {}, []),
    (SERVING, Accepting(), {}, []),
    (SERVING, DIED, {"phase": Phase.WAITING, "pid": 0, "due": NOW}, [RESPAWN]),
    (
        SERVING._replace(since=NOW - 0.1),
        DIED,
        {"phase": Phase.WAITING, "pid": 0, "due": NOW + 0.5, "quick_deaths": 1},
        [RESPAWN, SLEEP],
    ),
    (
        SERVING._replace(quick_deaths=5),
        DIED,
        {"phase": Phase.WAITING, "pid": 0, "due": NOW, "quick_deaths": 0},
        [RESPAWN],
    ),
    (SERVING, Leave(60), {"phase": Phase.LEAVING, "due": NOW + 60, "last": True}, [HUP]),
    (SERVING, Leave(3, brutal=True), {"phase": Phase.LEAVING, "due": NOW + 3, "last": True}, [INT]),
    (SERVING, Overdue(5), {"phase": Phase.CONDEMNED, "due": NOW + 5, "waits": True}, [USR2]),
    (SERVING, Overdue(0), {"phase": Phase.CONDEMNED, "due": NOW + HARAKIRI_GRACE_SECONDS}, [USR2]),
    (SERVING, Alone(), {}, []),
    (LEAVING, Tick(), {}, []),
    (
        LEAVING._replace(due=NOW),
        Tick(),
        {"due": NOW + 1},
        [Note("worker 1 (pid: 77) is taking too much time to die...NO MERCY !!!"), KILL],
    ),
    (LEAVING, DIED, {"phase": Phase.GONE, "pid": 0}, []),
    (LEAVING, Leave(600), {}, [HUP]),  # asked again: no reprieve
    (LEAVING, Leave(0, brutal=True), {"due": NOW}, [INT]),
    (SERVING, Recycle(60), {"phase": Phase.LEAVING, "due": NOW + 60}, [HUP]),
    (SERVING, Recycle(60, told=False), {"phase": Phase.LEAVING, "due": NOW + 60}, []),
    (SERVING, Cheapen(60), {"phase": Phase.LEAVING, "due": NOW + 60, "cheap": True}, [HUP]),
    (SERVING, Kill("too large"), {}, [Note("too large"), KILL]),
    (SERVING, Wake(), {}, []),
    (WAITING, Cheapen(60), {"phase": Phase.CHEAP}, []),
    (WAITING, Recycle(60), {}, []),
    (STARTING, Recycle(60), {}, []),
    (STARTING, Kill("too large"), {}, []),
    (HASTY, Cheapen(60), {}, []),
    (HASTY, Recycle(60, told=False), {"phase": Phase.LEAVING, "due": NOW + 60}, []),
    (RECYCLED, DIED, {"phase": Phase.WAITING, "pid": 0, "due": NOW}, []),
    (RECYCLED, Overdue(0), {"phase": Phase.CONDEMNED, "due": NOW + HARAKIRI_GRACE_SECONDS}, [USR2]),
    (RECYCLED, Leave(60), {"last": True}, [HUP]),
    (CHEAPENED, DIED, {"phase": Phase.CHEAP, "pid": 0}, [Note("uWSGI worker 1 cheaped.")]),
    (CHEAPENED, Wake(), {"cheap": False}, []),  # it ends, and another one comes
    (CHEAP, Tick(), {}, []),
    (CHEAP, Wake(), {"phase": Phase.WAITING, "cheap": False, "due": NOW}, []),
    (CHEAP, Cheapen(60), {}, []),
    (CHEAP, Leave(60), {"phase": Phase.GONE}, []),
    (LEAVING, Recycle(600), {}, []),
    (LEAVING, Overdue(5), {"phase": Phase.CONDEMNED, "due": NOW + 5, "waits": True}, [USR2]),
    (LEAVING, Overdue(500), {"phase": Phase.CONDEMNED, "waits": True}, [USR2]),
    (UNBORN, Spawned(PID), {"pid": PID, "since": NOW}, [HUP]),
    (UNBORN._replace(due=NOW), Tick(), {}, []),
    (UNBORN, Unforked(), {"phase": Phase.GONE, "since": NOW}, []),
    (UNBORN, Overdue(5), {}, []),
    (UNBORN, Leave(0, brutal=True), {"due": NOW}, []),
    (CONDEMNED, Tick(), {}, []),
    (CONDEMNED._replace(due=NOW), Tick(), {"due": NOW + 1}, [KILL]),
    (CONDEMNED._replace(waits=True), Alone(), {"due": NOW + HARAKIRI_GRACE_SECONDS, "waits": False}, [USR2]),
    (CONDEMNED, Alone(), {}, []),
    (CONDEMNED, Overdue(500), {}, []),
    (CONDEMNED, DIED, {"phase": Phase.WAITING, "pid": 0, "due": NOW}, [RESPAWN]),
    (CONDEMNED, Leave(60), {"last": True}, [HUP]),
    (CONDEMNED, Leave(3, brutal=True), {"last": True, "due": NOW + 3}, [INT]),
    (DOOMED, DIED, {"phase": Phase.GONE, "pid": 0}, []),
    (GONE, Tick(), {}, []),
    (GONE, Leave(0), {}, []),
    (GONE, Accepting(), {}, []),
]


@pytest.mark.parametrize(("life", "event", "changes", "actions"), TABLE, ids=lambda value: repr(value)[:60])
def test_what_happens(life: Life, event: Event, changes: dict[str, object], actions: Sequence[Action]) -> None:
    assert decide(life, event, NOW) == (life._replace(**changes), list(actions))  # type: ignore[arg-type] # fields by name


@pytest.mark.parametrize("life", ALL, ids=lambda life: f"{life.phase.value}-{life.pid}-{life.last}")
@pytest.mark.parametrize(
    "event",
    [
        Spawned(99), Accepting(), DIED, Tick(), Unforked(), Leave(9), Leave(0, brutal=True), Overdue(9), Alone(),
        Recycle(9), Cheapen(9), Wake(), Kill("it"),
    ],
)  # fmt: skip
def test_no_pair_of_phase_and_event_is_forgotten(life: Life, event: Event) -> None:
    after, actions = decide(life, event, NOW)
    assert (after.worker, after.generation) == (life.worker, life.generation)
    assert not life.last or after.last
    for action in actions:
        assert not isinstance(action, Signal) or after.pid


@pytest.mark.parametrize("unit", [2.0, 10.0])
def test_respawns_wait_longer_and_longer(unit: float) -> None:
    life, delays = SERVING._replace(since=NOW), []
    for _ in range(8):
        life, _ = decide(life, DIED._replace(unit=unit), NOW)
        delays.append(life.due - NOW)
        life = life._replace(phase=Phase.SERVING, pid=PID, since=NOW)
    assert delays == [unit * waits for waits in (*RESPAWN_DELAYS[1:], 4.0, 4.0, 4.0)]
    assert respawn_delay(0) == 0


EVENTS = st.one_of(
    st.builds(Spawned, st.integers(2, 9)),
    st.just(Accepting()),
    st.just(DIED),
    st.just(Tick()),
    st.just(Unforked()),
    st.builds(Leave, st.sampled_from([0.0, 3.0, 60.0]), st.booleans()),
    st.builds(Overdue, st.sampled_from([0.0, 5.0])),
    st.just(Alone()),
    st.builds(Recycle, st.just(5.0), st.booleans()),
    st.just(Cheapen(5.0)),
    st.just(Wake()),
    st.just(Kill("too large")),
)


@settings(deadline=None)
@given(st.lists(st.tuples(EVENTS, st.sampled_from([0.0, 0.1, 1.0, 30.0])), max_size=40))
def test_whatever_happens(events: list[tuple[Event, float]]) -> None:
    """No signal without a process, no wait without an end, and who was told to leave leaves and never comes back."""
    life, now, told = Life(1, 1), 0.0, False
    for event, pause in events:
        now += pause
        if isinstance(event, Spawned) and (life.pid or life.phase in {Phase.WAITING, Phase.CHEAP, Phase.GONE}):
            continue  # cannot be: the master forks one at a time and kills strangers
        if isinstance(event, Died) and not life.pid:
            continue
        before = life
        life, actions = decide(life, event, now)
        told = told or isinstance(event, Leave)
        assert all(life.pid or not isinstance(action, Signal) for action in actions)
        assert sum(isinstance(action, Fork) for action in actions) == (
            before.phase is Phase.WAITING and life.phase is Phase.STARTING
        )
        due = next_due(life)
        after, _ = decide(life, Tick(), max(now, due or now))
        assert due is None or next_due(after) != due, "a tick that changes nothing would be asked for for ever"
        if told:
            assert life.phase in {Phase.LEAVING, Phase.CONDEMNED, Phase.GONE}
            assert not any(isinstance(action, Fork) for action in actions)
    if told:
        life, _ = decide(life, DIED if life.pid else Unforked(), now)
        assert life.phase is Phase.GONE
