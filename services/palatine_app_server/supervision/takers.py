"""The daemons that serve an instance's stats and SNMP sockets: given them, and missed when none comes."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from palatine.handoff import Giver, Offer
from palatine_app_server.config.settings import AppSettings
from palatine_app_server.supervision.push_offers import PushOffers
from palatine_app_server.system.loop import Loop
from palatine_app_server.system.sockets import Bound

#: Which daemon serves which kind of socket.
SERVED_BY: Final = {"stats": "stats-exporter", "snmp": "snmp-agent", "udp": "snmp-agent"}


#: A daemon that has not fetched its socket by then is missing, and one warning says so.
FETCH_SECONDS: Final = 10.0


class Takers:
    """Gives `bound` to whoever may have it, with what the `settings` in force say about each.

    `community` is SNMP's, until an app changes it.
    """

    def __init__(
        self,
        path: Path,
        bound: tuple[Bound, ...],
        loop: Loop,
        pushes: PushOffers,
        *,
        settings: Callable[[], AppSettings],
        community: str,
        say: Callable[[str], None],
    ) -> None:
        self._bound = bound
        self._loop = loop
        self._pushes = pushes
        self._settings = settings
        self._community = community
        self._say = say
        self._fetch_by = 0.0
        self._giver = Giver(path, self._offers)
        self._connections: dict[int, socket.socket] = {}
        self._missing = {  # daemons whose sockets nobody has fetched yet
            SERVED_BY[one.kind] for one in bound
        }

    def watch(self, now: float) -> None:
        """Answer from now on."""
        self._fetch_by = now + FETCH_SECONDS
        if self._pushes.wishes():
            self._missing.add(SERVED_BY["stats"])
        self._loop.watch(self._giver.listener.fileno(), self._welcome)

    def tick(self, now: float) -> None:
        """Once: say which daemons are missing."""
        if self._missing and now >= self._fetch_by:
            for daemon in sorted(self._missing):
                self._say(f"*** WARNING: no {daemon} has come for its sockets; they are served once one runs ***")
            self._missing.clear()

    def change_community(self, community: str) -> None:
        """An app has another word for who may ask by SNMP."""
        self._community = community
        self.send_away()

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
            self._missing.discard(wanted.daemon)

    def _part(self, fd: int) -> None:
        self._loop.forget(fd)
        self._connections.pop(fd).close()

    def _options(self, kind: str) -> dict[str, Any]:
        settings = self._settings()
        if kind == "stats":
            return settings.stats_options
        return {"community": self._community, "snmp": settings.snmp, "null_unset": settings.snmp_null_unset}

    def _offers(self) -> list[Offer]:
        bound = [Offer(one.kind, one.name, self._options(one.kind), one.socket.fileno()) for one in self._bound]
        return [*bound, *self._pushes.offers()]
