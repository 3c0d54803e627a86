"""The one interface of monitors; it must stay small enough for a file, a database and a queue alike."""

from typing import Protocol

import attrs
import trio

from palatine_emperor.vassal import Wanted


@attrs.frozen
class Report:
    """What a monitor found.

    Attributes:
        wanted: vassals as they should be.
        complete: whether those are all: then any other vassal of this monitor is to go.
        gone: vassals to go, in a report that is not complete.
        error: why the source could not be read; nothing else then holds, and the vassals stay as they are.
        said: lines for the log, as uWSGI has them or of its kind.
    """

    wanted: tuple[Wanted, ...] = ()
    complete: bool = False
    gone: tuple[str, ...] = ()
    error: str = ""
    said: tuple[str, ...] = ()


class Monitor(Protocol):
    """Watches one source of vassals.

    Attributes:
        url: as configured, for stats and logs, without secrets.
        key: names the source for good: the same after a restart, different for every other one.
    """

    url: str
    key: str

    async def watch(self, reports: trio.MemorySendChannel[Report]) -> None:
        """Report until cancelled; never waits for the reader, the channel has room for all."""

    def rescan(self) -> None:
        """Look again now."""
