"""The daemon's parts put together; a new configuration is taken up by all of them or by none. Must know no protocol."""

import os
from collections.abc import Mapping
from contextlib import closing
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Final

import trio

from palatine import places
from palatine.bus import Request, Role
from palatine.bus.journal import Journal, open_journal
from palatine.codec import ber
from palatine.daemon import Context
from palatine.errors import PeerError
from palatine_snmp_agent.desk import Desk
from palatine_snmp_agent.doors import HostDoor
from palatine_snmp_agent.engine import parse_engine_id, start_engine
from palatine_snmp_agent.host_scalars import Facts
from palatine_snmp_agent.host_views import HostViews
from palatine_snmp_agent.inform_policy import Strangers
from palatine_snmp_agent.instances import Instances
from palatine_snmp_agent.lingering import Lingering
from palatine_snmp_agent.listening import HostSockets, inherited_sockets
from palatine_snmp_agent.notices import AUTHENTICATION_FAILURE, COLD_START, WARM_START, Notice
from palatine_snmp_agent.notifier import Notifier, NotKeptError
from palatine_snmp_agent.scheduling import Scheduling
from palatine_snmp_agent.settings import Settings
from palatine_snmp_agent.tally import Tally
from palatine_snmp_agent.targets import targets_of
from palatine_snmp_agent.usm_gate import UsmGate
from palatine_snmp_agent.watching import Watch

#: What an alarm that is to be told must say.
_ALARM_WORDS: Final = ("instance", "alarm", "message")


async def serve(ctx: Context) -> None:
    """The daemon's main."""
    async with open_journal(ctx.state_dir / "journal.db") as journal, trio.open_nursery() as nursery:
        service = Service(ctx, journal, nursery)
        with closing(service):
            await service.start()
            await ctx.draining.wait()
            nursery.cancel_scope.cancel()


class Service:
    """The agent's parts; to be closed."""

    def __init__(self, ctx: Context, journal: Journal, nursery: trio.Nursery) -> None:
        settings: Settings = ctx.settings
        self._ctx = ctx
        self._nursery = nursery
        #: The agent of one app that was started beside it: the host's sockets are the host's agent's.
        self._private = places.is_private(ctx.runtime_dir)
        self._engine = start_engine(ctx.state_dir / "engine.json", _engine_id(settings))
        self._scheduling = Scheduling()
        Lingering.of_this_loop().look = self._scheduling.look
        self._tally = Tally(ctx.segment.cells("agent"), lambda field: ctx.segment.word("agent", field))
        self._tally.add("engine_boots", self._engine.boots)
        self._tally.on_stranger = self._stranger
        self._strangers = Strangers()
        self._gate = UsmGate(self._engine, {})
        self._views = HostViews(ctx.runtime_dir, *_shown(settings))
        self._instances = Instances(
            ctx.runtime_dir,
            self._tally,
            max_reply=settings.max_reply,
            on_change=self._changed,
            gate=self._gate,
            contexts=self._views,
        )
        self._door = HostDoor({}, self._gate, Desk(self._views.view, settings.max_reply))
        self.host = HostSockets(nursery, self._tally, self._door)
        self._notifier = Notifier(journal, self._tally)
        emperor = ctx.runtime_dir / "emperor" / "seg"
        self._watch = Watch(self._views.segments, emperor, self._tell, self._notifier.wanted)

    async def start(self) -> None:
        """Serve, from here on until the nursery is cancelled. ConfigError for what cannot be."""
        ctx = self._ctx
        self.host.inherit(inherited_sockets(os.environ))
        await self._take_up()
        ctx.on_statistics(self._statistics)
        ctx.on_reload(self._reload)
        ctx.handlers["notify"] = (Role.OPERATOR, self._notify)
        await self._nursery.start(self._notifier.run)
        self._nursery.start_soon(self._instances.run)
        self._nursery.start_soon(self._watch.run)
        ctx.ready("serving instances as they come")
        self._tell(COLD_START, {})

    def close(self) -> None:
        """Leave the host's sockets, and the lead: Python's own end may take longer than the fuse."""
        self.host.close()
        self._scheduling.use(0.0)

    def _changed(self) -> None:
        self._ctx.store("instances", len(self._instances))
        self._watch.meet()

    async def _take_up(self) -> None:
        """Let the settings as they are now be in force; ConfigError if they cannot be."""
        settings: Settings = self._ctx.settings
        users = await trio.to_thread.run_sync(settings.v3_users, _engine_id(settings) or self._engine.id)
        await self.host.listen(self._ctx.document, () if self._private else settings.listen)
        await self._become(_engine_id(settings))
        targets = await trio.to_thread.run_sync(targets_of, settings, self._engine, self._gate)
        self._gate.replace(self._engine, users)
        self._views.use(*_shown(settings))
        self._door.replace(settings.community_grants(), Desk(self._views.view, settings.max_reply))
        self._tally.sources.rate = settings.buckets()
        self._scheduling.use(settings.realtime_share)
        self._notifier.use(targets)

    async def _become(self, engine_id: bytes) -> None:
        """Go on as another engine, if one is configured, which is on disk before anybody hears of it. ConfigError."""
        if engine_id in {b"", self._engine.id}:
            return
        before = self._engine
        start = partial(start_engine, self._ctx.state_dir / "engine.json", engine_id, before.up_since)
        self._engine = await trio.to_thread.run_sync(start)
        self._tally.add("engine_boots", self._engine.boots - before.boots)

    async def _reload(self) -> None:
        await self._take_up()
        self._instances.renew(self._ctx.settings.max_reply)
        self._tell(WARM_START, {})

    def _tell(self, name: str, values: Mapping[str, str | int]) -> None:
        self._notifier.tell(Notice(name, values, self._engine.ticks()))

    def _stranger(self, host: str) -> None:
        if self._strangers.worth_telling(host, trio.current_time()):
            self._tell(AUTHENTICATION_FAILURE, {"message": f"from {host}"})

    async def _notify(self, request: Request) -> dict[str, Any]:
        """An alarm of the alarm-daemon's: told, or in the journal, when this is answered."""
        body = request.body if isinstance(request.body, dict) else {}
        values = {word: body[word] for word in _ALARM_WORDS if isinstance(body.get(word), str)}
        only = body.get("targets", [])
        if len(values) < len(_ALARM_WORDS) or not isinstance(only, list):
            raise PeerError(f"notify takes texts {', '.join(_ALARM_WORDS)}, and a list `targets`", "invalid")
        try:
            told = await self._notifier.accept(Notice("alarmRaised", values, self._engine.ticks()), only)
        except NotKeptError as error:
            raise PeerError(str(error), "busy") from error
        if not told:
            named = f" called {', '.join(map(str, only))}" if only else ""
            raise PeerError(f"no target{named} in snmp-agent.yaml takes alarmRaised", "invalid")
        return {"accepted": True, "targets": told}

    def _statistics(self) -> dict[str, Any]:
        engine, sources = self._engine, self._tally.sources
        return {
            "engine": {"id": engine.id.hex(), "boots": engine.boots, "time": engine.time()},
            "scheduling": self._scheduling.statistics(),
            "sockets": [*self.host.statistics(), *self._instances.statistics()],
            "targets": self._notifier.statistics(),
            "sources": sources.statistics(),
            "sources_forgotten": sources.forgotten,
        }


def _engine_id(settings: Settings) -> bytes:
    return parse_engine_id(settings.engine_id) if settings.engine_id else b""


def _shown(settings: Settings) -> tuple[ber.Oid, Facts]:
    """The base of the host's tables, and what its system group says."""
    traps = any(fnmatchcase(AUTHENTICATION_FAILURE, one) for target in settings.targets for one in target.events)
    system = settings.system
    return ber.oid_arcs(ber.parse_oid(settings.base)), Facts(system.name, system.contact, system.location, traps)
