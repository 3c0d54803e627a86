"""When to send an inform again, and of whom to say that he was refused; pure."""

from collections import OrderedDict
from typing import Final

import attrs

#: Seconds between two tries of an inform, at most.
LONGEST_PAUSE: Final = 60.0
#: Seconds in which one source is told of once, and in which so many sources are told of.
QUIET_SECONDS: Final = 60.0
MOST_STRANGERS: Final = 20


def pause(attempts: int, timeout: float) -> float:
    """Seconds to wait after so many tries, each of which waited `timeout`: none, then that, doubled each time."""
    return 0.0 if attempts < 2 else min(timeout * 2.0 ** min(attempts - 2, 10), LONGEST_PAUSE)


@attrs.define
class Strangers:
    """Limits authenticationFailure: a flood from forged addresses must not become a flood of traps."""

    _told: "OrderedDict[str, float]" = attrs.field(factory=OrderedDict)

    def worth_telling(self, host: str, now: float) -> bool:
        """Whether to tell of a wrong community, user or key of `host` at `now` (monotonic seconds)."""
        while self._told and next(iter(self._told.values())) <= now - QUIET_SECONDS:
            self._told.popitem(last=False)
        if host in self._told or len(self._told) >= MOST_STRANGERS:
            return False
        self._told[host] = now
        return True
