"""Who is pushed to at present; a changed configuration is taken up without a restart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from palatine_stats_exporter.board import Look
from palatine_stats_exporter.push.app_pushes import AppPushes, One
from palatine_stats_exporter.push.record import Tally
from palatine_stats_exporter.push.settings import Push
from palatine_stats_exporter.push.turns import ToAsyncio

if TYPE_CHECKING:
    from palatine_stats_exporter.push.pushing import Pusher

__all__ = ["Pushing", "Tally"]


class Pushing:
    """All targets of the configuration; `change` takes up another one."""

    def __init__(self, look: Look, state: Path, runtime: Path, one: One, to_asyncio: ToAsyncio) -> None:
        """`look` reads all instances and `one` one of them; `state` and `runtime` are the daemon's directories."""
        self.tally = Tally()
        self._apps = AppPushes(runtime, one, to_asyncio, self.tally)
        self._look = look
        self._state = state
        self._pushers: list[Pusher] = []
        self._changed = trio.Event()

    def statistics(self) -> list[dict[str, Any]]:
        """How each target does."""
        return [*(pusher.statistics() for pusher in self._pushers), *self._apps.statistics()]

    def change(self, settings: Push | None) -> None:
        """Push as `settings` say from now on."""
        self._pushers = []
        if settings and (targets := list(settings.targets())):
            from palatine_stats_exporter.push.pushing import Pusher  # httpx costs 100 ms: only whoever pushes pays

            self._pushers = [Pusher(target, self._look, self._state, self.tally) for target in targets]
        self._changed.set()

    async def run(self) -> None:
        """Push until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._apps.run)
            await self._run_targets()

    async def _run_targets(self) -> None:
        while True:
            self._changed = trio.Event()
            async with trio.open_nursery() as nursery:
                for pusher in self._pushers:
                    nursery.start_soon(pusher.run)
                await self._changed.wait()
                nursery.cancel_scope.cancel()
