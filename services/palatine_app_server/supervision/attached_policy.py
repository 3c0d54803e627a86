"""How an attached daemon is started, and when again after its end, as pure functions. No clock, no I/O."""

import re
from typing import Final, NamedTuple

#: A daemon that ends sooner is throttled: each time its life is added to the wait before the next start.
QUICK_SECONDS: Final = 3.0
DEFAULT_MOST_THROTTLE: Final = 180

#: A program and words in which a shell would find nothing to do.
_PLAIN: Final = re.compile(r"[\w./@%+,:-]+( +[\w./@%+,:=-]+)*")


class Wait(NamedTuple):
    """Seconds before the next start; `throttle` is what the next quick end adds to."""

    throttle: int = 0
    seconds: float = 0.0


def after_end(lived: float, throttle: int, most: int = DEFAULT_MOST_THROTTLE) -> Wait:
    """What to do about one that lived for so many seconds, as uWSGI does."""
    if lived > QUICK_SECONDS:
        return Wait()
    throttle = min(most, throttle + max(1, int(lived)))
    return Wait(throttle, float(throttle))


def shell_line(command: str) -> str:
    """What the shell is given: of one plain program it becomes that program, so that signals reach it and nobody else.

    dash would stay beside it, die of the first signal the program takes for a request, and leave it behind.
    """
    return f"exec {command}" if _PLAIN.fullmatch(command) else command


def stopped_by(now: float, since: float, mercy: float) -> bool:
    """Whether one that was asked to end at `since` must be killed."""
    return now - since >= mercy
