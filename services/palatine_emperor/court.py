"""The monitors at work: each in a task of its own, reporting through one ear; one that is gone takes nobody with it."""

from collections.abc import Callable

import trio

from palatine_emperor.control import DESK
from palatine_emperor.deploy_journal import DeployJournal
from palatine_emperor.monitors import Monitor, Report, open_monitor
from palatine_emperor.settings import Settings


class Court:
    """Opens the monitors the settings name, and opens them anew when the settings change."""

    def __init__(
        self, settings: Settings, journal: DeployJournal, cwd: str, report: Callable[[str, Report], None]
    ) -> None:
        self._journal = journal
        self._cwd = cwd
        self._report = report
        self._monitors = self._opened(settings)
        self._nursery: trio.Nursery | None = None
        self._scopes: list[trio.CancelScope] = []

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all monitors."""
        return frozenset(self._monitors)

    def url_of(self, key: str) -> str:
        """What a monitor was configured as, without its scheme, as uWSGI shows it; its key where it is no more."""
        monitor = self._monitors.get(key)
        return monitor.url if monitor else DESK if key == DESK else key

    def open(self, nursery: trio.Nursery) -> None:
        """Begin to watch; a monitor that cannot raises ConfigError through `nursery`."""
        self._nursery = nursery
        for monitor in self._monitors.values():
            self._scopes.append(trio.CancelScope())
            nursery.start_soon(self._attend, monitor, self._scopes[-1])

    def reform(self, settings: Settings) -> None:
        """Go on with other settings; ConfigError, and all is as before, if one of their monitors makes no sense."""
        monitors = self._opened(settings)
        self.close()
        self._monitors = monitors
        if self._nursery is not None:
            self.open(self._nursery)

    def rescan(self) -> None:
        """Have every monitor look again now."""
        for monitor in self._monitors.values():
            monitor.rescan()

    def close(self) -> None:
        """Watch no more."""
        for scope in self._scopes:
            scope.cancel()
        self._scopes.clear()

    def _opened(self, settings: Settings) -> dict[str, Monitor]:
        monitors = (open_monitor(url, settings, self._journal, self._cwd) for url in settings.emperors)
        return {monitor.key: monitor for monitor in monitors}

    async def _attend(self, monitor: Monitor, scope: trio.CancelScope) -> None:
        send, receive = trio.open_memory_channel[Report](float("inf"))
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(monitor.watch, send)
                async for report in receive:
                    self._report(monitor.key, report)
