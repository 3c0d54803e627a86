"""uWSGI's blacklist as arithmetic: how long a vassal that keeps failing is held back; must never look at a clock.

Measured on a real Emperor with `emperor-freq` 3 (alarm_emperor sample 01): a broken config is started at t, +3, +3, +3,
+3, +6, +6, +6 seconds. The level grows by `emperor-throttle` with each failure, and a start happens at the first scan
at which the whole seconds of the level have passed.
"""

import math

import attrs


@attrs.frozen
class Blame:
    """An entry of the blacklist; times are seconds of the monotonic clock, `level` is in milliseconds."""

    level: int
    attempt: int
    first: float
    last: float
    #: Listed as uWSGI does, but not held back: it was removed before it had served anything.
    listed_only: bool = False


@attrs.frozen
class Throttle:
    """The settings: scan interval in seconds, increment and ceiling in milliseconds, and whether to blacklist."""

    freq: float = 3
    step: int = 1000
    ceiling: int = 180_000
    enabled: bool = True


#: From this attempt on a vassal counts as badly behaving; uWSGI says so once, at exactly this one.
BAD_BEHAVIOUR_ATTEMPT = 2


def blamed(before: Blame | None, throttle: Throttle, now: float) -> tuple[Blame, bool]:
    """The entry after one more failure, and whether the ceiling made it halve."""
    if before is None or before.listed_only:
        return Blame(level=1, attempt=0, first=now, last=now), False
    halved = before.level >= throttle.ceiling
    level = before.level // 2 if halved else before.level + throttle.step
    return Blame(level, before.attempt + 1, before.first, now), halved


def retry_at(blame: Blame | None, throttle: Throttle, now: float) -> float:
    """When a vassal may be started again: at a scan, the next one at the earliest."""
    if blame is None or not throttle.enabled:
        return now + throttle.freq
    if blame.listed_only:
        return now
    scans = math.ceil(blame.level // 1000 / throttle.freq)
    return blame.last + max(1, scans) * throttle.freq
