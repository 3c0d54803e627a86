"""Under `palatine --emperor` with no host daemons: those the vassals need, as children that end with the emperor.

Every instance says in its segment which daemons its config needs (stats, SNMP, alarms). One of a kind serves them all.
"""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import trio

from palatine import companions_policy as policy
from palatine.companions import command, missing
from palatine.counters import SegmentView
from palatine.discovery import watch_instances
from palatine.errors import PalatineError
from palatine_emperor.second_place import is_locked

#: Seconds between TERM and KILL.
MERCY: Final = 10.0
#: The daemon that serves `emperor-stats`.
STATS_EXPORTER: Final = "stats-exporter"


class Entourage:
    """Starts each daemon somebody needs, once; those a host runs already are left alone."""

    def __init__(self, runtime_dir: Path, words: Sequence[str], say: Callable[[str], None]) -> None:
        self._runtime_dir = runtime_dir
        self._words = ("--runtime-dir", str(runtime_dir), *words)
        self._say = say
        self._begun: set[str] = set()

    async def attend(self, *needed: str) -> None:
        """Attend to `needed` and to what instances turn out to need, until cancelled; then end what was started."""
        async with trio.open_nursery() as nursery:
            for daemon in needed:
                self._begin(nursery, daemon)
            async with watch_instances(self._runtime_dir) as changes:
                async for change in changes:
                    if change.kind != "vanished":
                        for daemon in _needs(change.ref.path):
                            self._begin(nursery, daemon)

    def _begin(self, nursery: trio.Nursery, daemon: str) -> None:
        if daemon in self._begun or is_locked(self._runtime_dir / daemon / "ctl.lock"):
            return
        self._begun.add(daemon)
        problem = missing(daemon)
        if problem:
            self._say(problem)
            return
        nursery.start_soon(self._keep, daemon)

    async def _keep(self, daemon: str) -> None:
        state = policy.State()
        while state.phase != policy.ENDED:
            at = policy.due(state) or 0.0
            await trio.sleep(max(0.0, at - time.monotonic()))
            state = self._told(daemon, policy.decide(state, policy.Clock(), time.monotonic()))
            try:
                process = await self._start(daemon)
            except OSError as error:
                state = self._told(daemon, policy.decide(state, policy.SpawnFailed(str(error)), time.monotonic()))
                continue
            state = self._told(daemon, policy.decide(state, policy.Spawned(), time.monotonic()))
            try:
                code = await process.wait()
            except trio.Cancelled:
                await _end(process)
                raise
            state = self._told(daemon, policy.decide(state, policy.Exited(code), time.monotonic()))

    async def _start(self, daemon: str) -> trio.Process:
        environ = {**os.environ, "PALATINE_PARENT": str(os.getpid())}
        environ.pop("NOTIFY_SOCKET", None)
        return await trio.lowlevel.open_process(
            command(daemon, *self._words), stdin=subprocess.DEVNULL, env=environ, start_new_session=True
        )

    def _told(self, daemon: str, decided: tuple[policy.State, list[policy.Action]]) -> policy.State:
        state, actions = decided
        for action in actions:
            if isinstance(action, policy.Say):
                self._say(f"{daemon} {action.text}")
        return state


async def _end(process: trio.Process) -> None:
    with trio.CancelScope(shield=True):
        process.terminate()
        with trio.move_on_after(MERCY):
            await process.wait()
        process.kill()
        await process.wait()


def _needs(directory: Path) -> list[str]:
    """The daemons an instance's segment names; none while it cannot be read."""
    try:
        with SegmentView.open(directory / "seg") as view:
            needs = view.labels.get("needs")
    except (OSError, PalatineError):
        return []
    return [daemon for daemon in needs if isinstance(daemon, str)] if isinstance(needs, list) else []
