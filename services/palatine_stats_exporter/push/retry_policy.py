"""What becomes of a batch after an attempt to deliver it; pure: `decide(attempts, outcome, spread, backoff)`.

A batch waits for a database that is away for as long as the buffer keeps it. Only what can never be accepted is given
up, because everything behind it would wait for ever.
"""

from typing import Final

import attrs

#: Waits are spread by this share around their value, so that many hosts do not come back to a database in step.
SPREAD: Final = 0.2


@attrs.frozen
class Backoff:
    """Seconds before the second attempt; doubled for each further one up to `longest`."""

    first: float = 1.0
    longest: float = 60.0


@attrs.frozen
class Sent:
    """The peer has it; `note` says what was less than perfect."""

    note: str = ""


@attrs.frozen
class Failed:
    """The attempt came to nothing; `lasting` where another one could do no better."""

    reason: str
    lasting: bool = False


@attrs.frozen
class Forget:
    """The batch is delivered, or will never be (`lost`)."""

    lost: bool = False


@attrs.frozen
class Wait:
    """Try again after so many seconds."""

    seconds: float


Outcome = Sent | Failed
Action = Forget | Wait


def decide(attempts: int, outcome: Outcome, spread: float, backoff: Backoff) -> Action:
    """The next thing to do after `attempts` attempts; `spread` (0 to 1) places the wait within its jitter."""
    match outcome:
        case Sent():
            return Forget()
        case Failed(lasting=True):
            return Forget(lost=True)
        case Failed():
            plain = min(backoff.first * 2.0 ** min(attempts - 1, 60), backoff.longest)
            return Wait(plain * (1 - SPREAD + 2 * SPREAD * spread))


def outcome_of_status(status: int, reason: str) -> Outcome:
    """What an HTTP answer to a write means. A client error is lasting, but for those an operator or time can mend.

    401 and 403 are mended by a password, 404 by making the database, 408, 425 and 429 by time.
    """
    if 200 <= status < 300:
        return Sent()
    mendable = status >= 500 or status in {401, 403, 404, 408, 425, 429}
    return Failed(f"answered {status}: {reason}" if reason else f"answered {status}", lasting=not mendable)
