"""When signals and commands are due, as pure functions: timers on the monotonic clock, crons on the wall's. No clock.

Cron fields are uWSGI's: -1 is any, -N every N, week 0 and 7 are Sunday; a day and a week that are both given are ORed.
"""

from typing import Final, NamedTuple

#: A cron runs once a minute at most (uWSGI's rule), whatever the clock does.
CRON_PAUSE_SECONDS: Final = 60


class Moment(NamedTuple):
    """A minute of local time; `weekday` 0 is Sunday."""

    minute: int
    hour: int
    day: int
    month: int
    weekday: int


class CronTime(NamedTuple):
    """The five fields of a cron."""

    minute: int
    hour: int
    day: int
    month: int
    week: int


class Timer(NamedTuple):
    """Signal `number` every `seconds`; `iterations` times, or for ever (0)."""

    number: int
    seconds: float
    iterations: int = 0


class Armed(NamedTuple):
    """A timer that runs: next at `due` on the monotonic clock, `left` more times (0: no end)."""

    timer: Timer
    due: float
    left: int


def arm(timer: Timer, now: float) -> Armed:
    """The timer, started now."""
    return Armed(timer, now + timer.seconds, timer.iterations)


def fire(armed: Armed, now: float) -> tuple[bool, Armed | None]:
    """Whether its signal is due, and the timer after that: None when it has run out.

    Rounds that were missed (a suspended machine) are not made up for.
    """
    if now < armed.due:
        return False, armed
    if armed.left == 1:
        return True, None
    missed = int((now - armed.due) / armed.timer.seconds) if armed.timer.seconds else 0
    due = armed.due + (missed + 1) * armed.timer.seconds
    return True, armed._replace(due=due, left=armed.left - 1 if armed.left else 0)


def matches(cron: CronTime, moment: Moment) -> bool:
    """Whether a cron is due in the minute of `moment`."""
    on_day = _field(cron.day, moment.day)
    on_week = _field(0 if cron.week == 7 else cron.week, moment.weekday)
    days = on_day or on_week if cron.day >= 0 and cron.week >= 0 else on_day and on_week
    return (
        days
        and _field(cron.minute, moment.minute)
        and _field(cron.hour, moment.hour)
        and _field(cron.month, moment.month)
    )


def _field(wanted: int, actual: int) -> bool:
    return actual % -wanted == 0 if wanted < 0 else actual == wanted
