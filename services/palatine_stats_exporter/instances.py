"""Every app-server instance and the emperor of the host, their stats sockets fetched and served.

An instance's task asks its master for stats sockets, gives them to the serving thread, and waits until the master is
gone: then the sockets must be dropped at once, because a new master could not bind them while we hold them. One
instance's faults must never touch another's service.
"""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs
import structlog
import trio

from palatine.discovery import InstanceRef, watch_instances
from palatine.errors import PalatineError, ProtocolError
from palatine.handoff import Offer
from palatine.handoff_client import fetch_offers
from palatine_stats_exporter.document import Form
from palatine_stats_exporter.serving import StatsServer
from palatine_stats_exporter.sources import SegmentSource, emperor_source, instance_source

DAEMON: Final = "stats-exporter"
EMPEROR: Final = "emperor"
#: Seconds after which an instance that could not be served is looked at again without news of it: first, longest.
RETRY_SECONDS: Final = (0.05, 3.0)
_SOURCES: Final = {"stats": instance_source, "emperor-stats": emperor_source}

_log = structlog.get_logger()


@attrs.define(eq=False)
class Served:
    """One instance or emperor as the exporter serves it.

    Attributes:
        ref: who it is.
        kind: the kind of sockets it is asked for.
        addresses: where its stats are served, as `tcp://`, `http://` or `unix://` addresses.
        sources: what renders for these.
        news: set when its segment was replaced.
        refusal: why it cannot be served at present.
    """

    ref: InstanceRef
    kind: str = "stats"
    addresses: list[str] = attrs.field(factory=list)
    sources: list[SegmentSource] = attrs.field(factory=list)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    news: trio.Event = attrs.field(factory=trio.Event)
    refusal: str = ""


class Instances:
    """All instances under one runtime directory; `served` has them by name."""

    def __init__(self, runtime: Path, server: StatsServer, on_change: Callable[[], None] = lambda: None) -> None:
        self.served: dict[str, Served] = {}
        self.emperor: Served | None = None
        self._runtime = runtime
        self._server = server
        self._on_change = on_change

    async def run(self) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery, watch_instances(self._runtime) as changes:
            nursery.start_soon(self._serve_emperor)
            async for change in changes:
                name = change.ref.name
                if change.kind == "changed" and name in self.served:
                    self._renew(self.served[name])
                    continue
                if (gone := self.served.pop(name, None)) is not None:
                    gone.scope.cancel()
                if change.kind != "vanished":
                    served = self.served[name] = Served(change.ref)
                    nursery.start_soon(self._keep_serving, served)
                self._on_change()

    def statistics(self) -> list[dict[str, Any]]:
        """What is served, for `ctl status`."""
        return [
            {"instance": one.ref.name, "addresses": one.addresses, "waiting": one.refusal or None}
            for one in (*self.served.values(), *([self.emperor] if self.emperor else []))
        ]

    def _renew(self, served: Served) -> None:
        """Its segment is another one: documents must come from the new one, and maybe there is a new master."""
        for source in served.sources:
            self._server.call(source.close)
        served.news.set()

    async def _serve_emperor(self) -> None:
        """The host's emperor is a daemon and no instance, so discovery does not find it: look now and then."""
        path = self._runtime / EMPEROR
        while True:
            try:
                uid = os.stat(path / "handoff", follow_symlinks=False).st_uid
                self.emperor = Served(InstanceRef(EMPEROR, path, uid), "emperor-stats")
                await self._serve(self.emperor)
            except (PalatineError, OSError) as error:
                _log.debug("emperor.waiting", reason=str(error))
            self.emperor = None
            await trio.sleep(RETRY_SECONDS[1])

    async def _keep_serving(self, served: Served) -> None:
        pause, longest = RETRY_SECONDS
        with served.scope:
            while True:
                served.news = trio.Event()
                try:
                    await self._serve(served)
                    pause = RETRY_SECONDS[0]
                except (PalatineError, OSError) as error:
                    self._refuse(served, error)
                with trio.move_on_after(pause):
                    await served.news.wait()
                pause = min(2 * pause, longest)

    async def _serve(self, served: Served) -> None:
        """Serve one giver until it closes the handoff; PalatineError or OSError if it cannot be served now."""
        with await fetch_offers(served.ref.path, DAEMON, [served.kind]) as handoff:
            try:
                while handoff.offers:
                    self._take(served, handoff.offers.pop(0))
                served.refusal = ""
                if served.sources:
                    _log.info("instance.serving", instance=served.ref.name, addresses=served.addresses)
                    self._on_change()
                await handoff.wait_closed()
            finally:
                self._drop(served)

    def _take(self, served: Served, offer: Offer) -> None:
        """Take an offered listener over and have it served; ProtocolError if it is not one."""
        listener = listening_socket(offer)
        form, http = Form.from_options(offer.options), bool(offer.options.get("http"))
        source = _SOURCES[served.kind](served.ref.path / "seg", served.ref.uid, form, http=http)
        served.sources.append(source)
        served.addresses.append(address_of(listener, offer.name, http=http))
        self._server.add(listener, source)

    def _drop(self, served: Served) -> None:
        """A listener we still hold is one that its next owner cannot bind."""
        for source in served.sources:
            self._server.remove(source)
        if served.sources:
            _log.info("instance.dropped", instance=served.ref.name)
        served.sources.clear()
        served.addresses.clear()
        self._on_change()

    def _refuse(self, served: Served, error: Exception) -> None:
        """Note why an instance is not served; a master that does not listen yet, or any more, is ordinary."""
        reason = str(error)
        if reason != served.refusal:
            ordinary = getattr(error, "code", "") in {"unavailable", "closed"}
            (_log.debug if ordinary else _log.warning)("instance.waiting", instance=served.ref.name, reason=reason)
        served.refusal = reason


def listening_socket(offer: Offer) -> socket.socket:
    """The offer's descriptor as a listening stream socket; ProtocolError, the descriptor closed, if it is none."""
    try:
        sock = socket.socket(fileno=offer.fd)
    except OSError as error:
        os.close(offer.fd)
        raise ProtocolError(f"{offer.name}: not a socket: {error.strerror}") from error
    fits = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not fits:
        sock.close()
        raise ProtocolError(f"{offer.name}: not a listening stream socket")
    return sock


def address_of(listener: socket.socket, name: str, *, http: bool) -> str:
    """Where a client finds a stats socket, as telegraf and uwsgi_exporter write it."""
    if listener.family == socket.AF_UNIX:
        return f"unix://{name}"
    if name.startswith(":"):
        name = f"127.0.0.1{name}"
    return f"{'http' if http else 'tcp'}://{name}"
