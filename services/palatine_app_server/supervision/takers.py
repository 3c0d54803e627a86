"""The daemons that serve an instance's stats and SNMP sockets: given them, and missed when none comes."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from palatine.handoff import Giver, Offer
from palatine_app_server.supervision.push_offers import PushOffers
from palatine_app_server.system.loop import Loop
from palatine_app_server.system.sockets import Bound

#: Which daemon serves which kind of socket.
SERVED_BY: Final = {"stats": "stats-exporter", "snmp": "snmp-agent", "udp": "snmp-agent"}


class Takers:
    """Gives `bound` to whoever may have it; `options` says at that moment what the config says about a kind."""

    def __init__(
        self,
        path: Path,
        bound: tuple[Bound, ...],
        loop: Loop,
        options: Callable[[str], dict[str, Any]],
        pushes: PushOffers,
    ) -> None:
        self._bound = bound
        self._loop = loop
        self._options = options
        self._pushes = pushes
        self._giver = Giver(path, self._offers)
        self._connections: dict[int, socket.socket] = {}
        #: Daemons whose sockets nobody has fetched yet.
        self.missing = {SERVED_BY[one.kind] for one in bound}

    def watch(self) -> None:
        """Answer from now on."""
        if self._pushes.wishes():
            self.missing.add(SERVED_BY["stats"])
        self._loop.watch(self._giver.listener.fileno(), self._welcome)

    def send_away(self) -> None:
        """Whoever holds our sockets comes back at once and hears what has changed."""
        for fd in list(self._connections):
            self._part(fd)

    def close(self) -> None:
        """Answer nobody any more."""
        self.send_away()
        self._giver.close()

    def close_in_child(self) -> None:
        """In a forked child: none of this is its business."""
        self._giver.listener.close()
        for connection in self._connections.values():
            connection.close()
        for one in self._bound:
            one.socket.close()

    def _welcome(self) -> None:
        connection = self._giver.accept()
        if connection is not None:
            fd = connection.fileno()
            self._connections[fd] = connection
            self._loop.watch(fd, lambda: self._serve(fd))

    def _serve(self, fd: int) -> None:
        wanted = self._giver.answer(self._connections[fd])
        self._pushes.release()
        if wanted is None:
            self._part(fd)
        else:
            self.missing.discard(wanted.daemon)

    def _part(self, fd: int) -> None:
        self._loop.forget(fd)
        self._connections.pop(fd).close()

    def _offers(self) -> list[Offer]:
        bound = [Offer(one.kind, one.name, self._options(one.kind), one.socket.fileno()) for one in self._bound]
        return [*bound, *self._pushes.offers()]
