"""Every app-server instance served by a task of its own, on the sockets its master hands over.

An instance's life as the agent sees it: its segment is published, its master hands over sockets; they are served until
the master is gone or publishes another segment. Then the agent drops them and looks again. The master keeps its copies
of the sockets, so managers see a delay and never a refusal. One instance's faults must never touch another's service.
"""

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import attrs
import structlog
import trio

from palatine.counters import SegmentView
from palatine.discovery import InstanceRef, watch_instances
from palatine.errors import PeerError, ProtocolError
from palatine.handoff import Offer
from palatine.handoff_client import fetch_offers
from palatine_snmp_agent.desk import Desk
from palatine_snmp_agent.doors import AppDoor
from palatine_snmp_agent.forwarding import Forwarder
from palatine_snmp_agent.host_views import HostViews
from palatine_snmp_agent.responder import MAX_REPLY, Responder
from palatine_snmp_agent.sockets import Endpoint
from palatine_snmp_agent.tally import Tally
from palatine_snmp_agent.usm_gate import UsmGate
from palatine_snmp_agent.uwsgi_tree import instance_view

DAEMON: Final = "snmp-agent"
KINDS: Final = ("snmp", "udp")
#: Octets of a community that count: uWSGI cuts longer ones with a warning, and managers are configured accordingly.
MAX_COMMUNITY: Final = 72
#: An instance that cannot be served is looked at again after news of it, or so many seconds: first, longest.
RETRY_SECONDS: Final = (0.05, 2.0)

_log = structlog.get_logger()


@attrs.define(eq=False)
class Served:
    """An instance being served, or waited for; `endpoints` is empty meanwhile."""

    ref: InstanceRef
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    news: trio.Event = attrs.field(factory=trio.Event)
    endpoints: list[Endpoint] = attrs.field(factory=list)
    #: Why it cannot be served; said once.
    refusal: str = ""


class Instances:
    """All instances under one runtime directory."""

    def __init__(
        self,
        runtime: Path,
        tally: Tally,
        *,
        max_reply: int = MAX_REPLY,
        on_change: Callable[[], None] = lambda: None,
        gate: UsmGate | None = None,
        contexts: HostViews | None = None,
    ) -> None:
        self._runtime = runtime
        self._tally = tally
        self._gate = gate
        self.contexts = HostViews(runtime) if contexts is None else contexts
        self._max_reply = max_reply
        self._on_change = on_change
        self._served: dict[str, Served] = {}

    def __len__(self) -> int:
        return len(self._served)

    async def run(self) -> None:
        """Serve until cancelled."""
        with closing(self.contexts):
            await self._run()

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery, watch_instances(self._runtime) as changes:
            nursery.start_soon(self.contexts.sweep)
            async for change in changes:
                name = change.ref.name
                if change.kind == "vanished":
                    self.contexts.vanish(name)
                else:
                    self.contexts.appear(change.ref)
                if change.kind == "changed" and name in self._served:
                    self._served[name].news.set()
                    continue
                if (gone := self._served.pop(name, None)) is not None:
                    gone.scope.cancel()
                if change.kind != "vanished":
                    served = self._served[name] = Served(change.ref)
                    nursery.start_soon(self._keep_serving, served)
                self._on_change()

    def renew(self, max_reply: int) -> None:
        """Serve all instances anew with another longest reply; what is asked meanwhile waits in their sockets."""
        self._max_reply = max_reply
        for served in self._served.values():
            served.news.set()

    def statistics(self) -> list[dict[str, Any]]:
        """What is served, for `ctl status`: an object for each socket, or for an instance that has none."""
        return [
            {"instance": served.ref.name, **facts}
            for served in self._served.values()
            for facts in [endpoint.statistics() for endpoint in served.endpoints] or [{"waiting": served.refusal}]
        ]

    async def _keep_serving(self, served: Served) -> None:
        patience, longest = RETRY_SECONDS
        with served.scope:
            while True:
                served.news = trio.Event()
                try:
                    await self._serve(served)
                    patience = RETRY_SECONDS[0]
                except* (PeerError, ProtocolError, OSError) as errors:
                    self._refuse(served, errors)
                with trio.move_on_after(patience):
                    await served.news.wait()
                patience = min(2 * patience, longest)

    async def _serve(self, served: Served) -> None:
        """Serve one instance until its master closes the handoff or there is news of it.

        Raises:
            PeerError, ProtocolError, OSError: alone or in groups; it cannot be served, at least not now.
        """
        ref = served.ref
        with ExitStack() as stack:
            segment = stack.enter_context(SegmentView.open(ref.path / "seg", owner=ref.uid))
            handoff = stack.enter_context(await fetch_offers(ref.path, DAEMON, KINDS))
            forwarder = Forwarder(ref.name, ref.path / "ctl", self._tally)
            stack.callback(self._drop, served)
            while handoff.offers:
                endpoint = self._endpoint(ref.name, handoff.offers.pop(0), segment, forwarder)
                served.endpoints.append(stack.enter_context(endpoint))
                self._tally.add("endpoints")
            served.refusal = ""
            if served.endpoints:
                _log.info("instance.serving", instance=ref.name, sockets=[one.name for one in served.endpoints])
            self._on_change()
            async with trio.open_nursery() as nursery:
                for endpoint in served.endpoints:
                    nursery.start_soon(endpoint.serve)
                nursery.start_soon(forwarder.run)
                nursery.start_soon(_cancel_at, served.news, nursery.cancel_scope)
                await handoff.wait_closed()
                nursery.cancel_scope.cancel()

    def _endpoint(self, name: str, offer: Offer, segment: SegmentView, forwarder: Forwarder) -> Endpoint:
        """The offer's socket, taken over, with what answers on it; the offer's descriptor is closed if that fails."""
        try:
            sock = socket.socket(fileno=offer.fd)
        except OSError:
            os.close(offer.fd)
            raise
        with ExitStack() as stack:
            stack.enter_context(sock)
            if sock.type != socket.SOCK_DGRAM or sock.family not in {socket.AF_INET, socket.AF_INET6}:
                raise ProtocolError(f"{offer.name}: not a UDP socket")
            door = None
            if offer.kind == "snmp" or offer.options.get("snmp") is True:
                view = instance_view(segment, null_unset=offer.options.get("null_unset") is True)
                responder = Responder(view, _community(offer), self._max_reply)
                desk = Desk({name: view}.get, self._max_reply, own=name)
                door = AppDoor(responder, self._gate, desk)
            forward = forwarder.put if offer.kind == "udp" else None
            endpoint = Endpoint(sock, offer.name, self._tally, door, forward)
            stack.pop_all()
        return endpoint

    def _drop(self, served: Served) -> None:
        if served.endpoints:
            self._tally.add("endpoints", -len(served.endpoints))
            _log.info("instance.dropped", instance=served.ref.name)
        served.endpoints.clear()
        self._on_change()

    def _refuse(self, served: Served, errors: BaseExceptionGroup[BaseException]) -> None:
        """Note why an instance is not served; a master that does not listen yet, or any more, is ordinary."""
        error: BaseException = errors
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        reason = str(error)
        if reason != served.refusal:
            ordinary = isinstance(error, FileNotFoundError) or getattr(error, "code", "") in {"unavailable", "closed"}
            say = _log.debug if ordinary else _log.warning
            say("instance.waiting", instance=served.ref.name, reason=reason)
        served.refusal = reason


async def _cancel_at(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _community(offer: Offer) -> bytes:
    community = offer.options.get("community", "")
    if not isinstance(community, str):
        raise ProtocolError(f"{offer.name}: its community is no text")
    octets = community.encode("utf-8", "surrogateescape")
    if not octets:
        _log.warning("endpoint.no_community", address=offer.name, effect="no manager will be answered")
    return octets[:MAX_COMMUNITY]
