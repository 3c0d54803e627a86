"""What operators ask of an emperor on its ctl socket: list, touch, destroy; every change goes through the policy."""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import trio

from palatine.bus import Handler, Request, Role
from palatine.errors import PeerError
from palatine_emperor import vassal as life
from palatine_emperor.board import state_of
from palatine_emperor.deploy_journal import DeployJournal
from palatine_emperor.deploy_policy import Destroy, Refusal, read_message
from palatine_emperor.monitors import Report
from palatine_emperor.settings import Settings
from palatine_emperor.supervisor import Supervisor
from palatine_emperor.vassal import Phase, Vassal
from palatine_emperor.vassal_note import split_key

#: The monitor of vassals that were deployed by a request.
DESK = "ctl:"


class Desk:
    """Answers requests about vassals."""

    def __init__(
        self,
        supervisor: Supervisor,
        journal: DeployJournal,
        settings: Settings,
        directory: str,
        url_of: Callable[[str], str],
        instance_of: Callable[[str], str],
        offset: float,
    ) -> None:
        self.settings = settings
        self._supervisor = supervisor
        self._journal = journal
        self._directory = directory
        self._url_of = url_of
        self._instance_of = instance_of
        self._offset = offset

    def handlers(self) -> dict[str, tuple[Role, Handler]]:
        """The requests by type, with the least role each needs."""
        return {
            "vassal.list": (Role.VIEWER, self._list),
            "vassal.touch": (Role.DEPLOYER, self._touch),
            "vassal.destroy": (Role.DEPLOYER, self._destroy),
        }

    async def restore(self) -> None:
        """Want again what was deployed here before this emperor started."""
        known = await trio.to_thread.run_sync(self._journal.vassals, DESK, self._directory)
        self._supervisor.report(DESK, Report(known, complete=True))

    async def _list(self, _: Request) -> dict[str, Any]:
        known = sorted(self._supervisor.vassals)
        vassals = [(key, self._supervisor.vassals[key]) for key in known]
        return {"vassals": [self.describe(key, vassal) for key, vassal in vassals if vassal.phase is not Phase.ABSENT]}

    def describe(self, key: str, vassal: Vassal) -> dict[str, Any]:
        """One vassal, JSON-able; times are unix seconds, 0 for never."""
        monitor, name = split_key(key)
        wanted = vassal.wanted or vassal.started
        times = vassal.times
        return {
            "name": name,
            "state": state_of(vassal),
            "pid": vassal.pid,
            "uid": wanted.uid if wanted and wanted.uid is not None else os.geteuid(),
            "respawns": vassal.respawns,
            "monitor": self._url_of(monitor),
            "instance": self._instance_of(key),
            "on_demand": wanted.socket if wanted else "",
            "reason": vassal.reason,
            "last_exit_status": vassal.status,
            "adopted": vassal.adopted,
            "blacklist_level_ms": vassal.blame.level if vassal.blame else 0,
            "attempts": vassal.blame.attempt if vassal.blame else 0,
            **{
                field: int(at + self._offset) if at else 0
                for field, at in (
                    ("born", times.born),
                    ("last_run", times.last_run),
                    ("last_accepting", times.last_accepting),
                    ("last_loyal", times.last_loyal),
                )
            },
        }

    async def _touch(self, request: Request) -> dict[str, Any]:
        name, config = _text(request.body, "name"), _text(request.body, "config", "")
        if config:
            return await self._deploy(name, config)
        keys = self._keys(name, request.body)
        for key in keys:
            self._supervisor.happened(key, life.Reload(insist=True))
        return {"touched": len(keys)}

    async def _deploy(self, name: str, config: str) -> dict[str, Any]:
        """A vassal whose config came with the request; answered when it is durable."""
        command = read_message([b"touch", name.encode(errors="surrogateescape"), config.encode()], self.settings)
        if isinstance(command, Refusal | Destroy):
            raise PeerError(getattr(command, "text", "refused"), "value")
        (wanted,) = await trio.to_thread.run_sync(
            self._journal.record, DESK, self._directory, [(command, time.time_ns())]
        )
        assert isinstance(wanted, life.Wanted)
        self._supervisor.report(DESK, Report((wanted,)))
        return {"touched": 1}

    async def _destroy(self, request: Request) -> dict[str, Any]:
        """Stop a vassal: for good if a message or request made it, until its config changes if a file did."""
        name = _text(request.body, "name")
        keys = self._keys(name, request.body)
        for key in keys:
            monitor = split_key(key)[0]
            gone = await trio.to_thread.run_sync(
                self._journal.record, monitor, self._directory, [(Destroy(name), time.time_ns())]
            )
            self._supervisor.happened(key, life.Unwant() if gone[0] else life.Stop(hold=True))
        return {"destroyed": len(keys)}

    def _keys(self, name: str, body: Any) -> list[str]:
        """Vassals of this name, of the monitor named in the request if there is one."""
        monitor = _text(body, "monitor", "")
        keys = [key for key in self._supervisor.named(name) if monitor in {"", self._url_of(split_key(key)[0])}]
        if not keys:
            raise PeerError(f"no vassal is called {name!r}", "unknown-vassal")
        return keys


def _text(body: Any, name: str, default: str | None = None) -> str:
    value = body.get(name, default) if isinstance(body, Mapping) else default
    if not isinstance(value, str):
        raise PeerError(f"{name!r} must be a text", "value")
    return value
