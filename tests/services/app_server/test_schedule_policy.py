"""When timers and crons are due."""

import pytest

from palatine_app_server.scheduling.schedule_policy import Armed, CronTime, Moment, Timer, arm, fire, matches

SUNDAY = Moment(30, 12, 15, 11, 0)
ANY = CronTime(-1, -1, -1, -1, -1)


@pytest.mark.parametrize(
    ("cron", "moment", "due"),
    [
        (ANY, SUNDAY, True),
        (ANY._replace(minute=30), SUNDAY, True),
        (ANY._replace(minute=31), SUNDAY, False),
        (ANY._replace(minute=-5), SUNDAY, True),
        (ANY._replace(minute=-7), SUNDAY, False),
        (ANY._replace(minute=-7), SUNDAY._replace(minute=0), True),
        (ANY._replace(hour=12), SUNDAY, True),
        (ANY._replace(hour=-5), SUNDAY, False),
        (ANY._replace(month=11), SUNDAY, True),
        (ANY._replace(month=10), SUNDAY, False),
        (ANY._replace(day=15), SUNDAY, True),
        (ANY._replace(day=14), SUNDAY, False),
        (ANY._replace(week=0), SUNDAY, True),
        (ANY._replace(week=7), SUNDAY, True),
        (ANY._replace(week=1), SUNDAY, False),
        (ANY._replace(week=1), SUNDAY._replace(weekday=1), True),
        # a day and a week that are both given: either will do
        (ANY._replace(day=14, week=0), SUNDAY, True),
        (ANY._replace(day=15, week=3), SUNDAY, True),
        (ANY._replace(day=14, week=3), SUNDAY, False),
        (ANY._replace(day=15, week=-2), SUNDAY._replace(weekday=1), False),
    ],
)
def test_crons(cron: CronTime, moment: Moment, due: bool) -> None:  # noqa: FBT001 - a column of the table
    assert matches(cron, moment) is due


def test_a_timer_goes_on_and_keeps_its_pace() -> None:
    armed = arm(Timer(7, 2.0), 10.0)
    assert fire(armed, 11.9) == (False, armed)
    fired, after = fire(armed, 12.3)
    assert fired
    assert after == Armed(Timer(7, 2.0), 14.0, 0)


def test_missed_rounds_are_not_made_up_for() -> None:
    _, after = fire(arm(Timer(7, 2.0), 10.0), 19.0)
    assert after is not None
    assert after.due == 20.0


def test_a_red_black_timer_ends_after_its_iterations() -> None:
    armed: Armed | None = arm(Timer(7, 1.0, 3), 0.0)
    rounds = 0
    while armed is not None:
        fired, armed = fire(armed, armed.due)
        rounds += fired
    assert rounds == 3


def test_a_timer_of_no_seconds() -> None:
    fired, after = fire(arm(Timer(7, 0.0), 5.0), 5.0)
    assert fired
    assert after is not None
