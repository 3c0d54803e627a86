"""The life of mules and spoolers."""

import signal

from palatine_app_server.crews.crew_policy import (
    HARAKIRI_GRACE_SECONDS,
    START_SECONDS,
    Action,
    Died,
    Event,
    Fork,
    Leave,
    Life,
    Merciless,
    Overdue,
    Phase,
    Signal,
    Spawned,
    Tick,
    Unforked,
    decide,
    next_due,
)


def lived(*events: tuple[float, Event]) -> tuple[Life, list[Action]]:
    life, actions = Life(), []
    for now, event in events:
        life, more = decide(life, event, now)
        actions += more
    return life, actions


RUNNING = ((0.0, Tick()), (0.1, Spawned(77)))


def test_it_is_forked_once_and_runs() -> None:
    life, actions = lived(*RUNNING, (0.2, Tick()))
    assert (life.phase, life.pid, actions) == (Phase.RUNNING, 77, [Fork()])
    assert next_due(life) is None


def test_who_dies_is_replaced_and_who_dies_quickly_later() -> None:
    life, _ = lived(*RUNNING, (50.0, Died()))
    assert (life.phase, life.due) == (Phase.WAITING, 50.0)
    life, _ = lived(*RUNNING, (0.2, Died()), (0.3, Tick()))
    assert life.due > 0.3
    assert life.quick_deaths == 1
    life, _ = lived(*RUNNING, (0.2, Died()), (0.3, Tick()), (0.4, Spawned(78)), (0.5, Died(done=True)))
    assert (life.due, life.quick_deaths) == (0.5, 0)


def test_a_replaced_one_gets_a_successor_after_its_end_only() -> None:
    life, actions = lived(*RUNNING, (5.0, Leave(60.0, last=False)), (6.0, Tick()))
    assert (life.phase, actions) == (Phase.LEAVING, [Fork(), Signal(signal.SIGHUP)])
    life, actions = decide(life, Died(), 7.0)
    assert (life.phase, life.quick_deaths) == (Phase.WAITING, 0)
    assert decide(life, Tick(), 7.0)[1] == [Fork()]


def test_mercy_ends() -> None:
    life, actions = lived(*RUNNING, (5.0, Leave(2.0)), (7.0, Tick()))
    assert actions[-2:] == [Merciless(), Signal(signal.SIGKILL)]
    assert decide(life, Died(), 7.1)[0].phase is Phase.GONE


def test_being_asked_again_is_no_reprieve() -> None:
    life, _ = lived(*RUNNING, (5.0, Leave(2.0)), (6.0, Leave(60.0)))
    assert life.due == 7.0
    life, actions = lived(*RUNNING, (5.0, Leave(60.0)), (6.0, Leave(3.0, brutal=True)))
    assert life.due == 9.0
    assert actions[-1] == Signal(signal.SIGTERM)


def test_an_overdue_one_shows_its_traceback_and_is_killed_and_replaced() -> None:
    life, actions = lived(*RUNNING, (5.0, Overdue()), (5.0 + HARAKIRI_GRACE_SECONDS, Tick()))
    assert actions[-2:] == [Signal(signal.SIGUSR2), Signal(signal.SIGKILL)]
    assert decide(life, Died(), 6.0)[0].phase is Phase.WAITING


def test_one_that_is_not_forked_is_asked_for_again() -> None:
    life, _ = lived((0.0, Tick()), (0.0, Unforked()))
    assert life.phase is Phase.WAITING
    life, _ = lived((0.0, Tick()), (START_SECONDS, Tick()))
    assert life.phase is Phase.WAITING


def test_told_to_go_before_it_has_come() -> None:
    life, actions = lived((0.0, Tick()), (0.1, Leave(3.0)), (0.2, Spawned(77)))
    assert (life.phase, actions[-1]) == (Phase.LEAVING, Signal(signal.SIGHUP))
    assert lived((0.0, Tick()), (0.1, Leave(3.0)), (0.2, Unforked()))[0].phase is Phase.GONE
    assert lived((0.1, Leave(3.0)))[0].phase is Phase.GONE
