"""The emperor's stats socket: bound with the emperor's rights, served by the stats-exporter it is handed to."""

import socket
from pathlib import Path

import trio

from palatine.errors import ConfigError
from palatine.handoff import Giver, Offer
from palatine_emperor.on_demand import bind_socket
from palatine_emperor.settings import Settings

#: uWSGI's own for its stats sockets.
_BACKLOG = 64


class StatsSocket:
    """`emperor-stats`: stays open here, so that an exporter's restart is a delay and never a refusal."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        """ConfigError if the address cannot be bound."""
        address = settings.emperor_stats
        try:
            self._listener = bind_socket(address, _BACKLOG)
        except OSError as error:
            raise ConfigError(f"emperor-stats cannot be bound: {error.strerror}", address) from error
        options = {"http": settings.stats_http, "minified": settings.stats_minified}
        self._offer = Offer("emperor-stats", address, options, self._listener.fileno())
        self._giver = Giver(directory / "handoff", lambda: [self._offer])

    @property
    def announcement(self) -> str:
        """What uWSGI says of it at start."""
        return f"*** Emperor stats server enabled on {self._offer.name} fd: {self._offer.fd} ***"

    async def serve(self) -> None:
        """Hand it to whoever asks, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    await trio.lowlevel.wait_readable(self._giver.listener)
                    connection = self._giver.accept()
                    if connection is not None:
                        nursery.start_soon(self._attend, connection)
        finally:
            self._giver.close()
            self._listener.close()

    async def _attend(self, connection: socket.socket) -> None:
        with connection:
            while True:
                await trio.lowlevel.wait_readable(connection)
                if self._giver.answer(connection) is None:
                    return
