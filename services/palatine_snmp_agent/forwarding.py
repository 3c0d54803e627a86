"""Datagrams on an app's `--udp` socket that are not SNMP go back to the app's log; must never hold up the socket.

The agent reads the socket, so it is the agent that hands them on: one request `udp.datagram` each, in order, to the
instance's `ctl`. It says whom it is for, so that an app whose `ctl` is a link cannot have its neighbour log it. What
the instance does not take in time is dropped and counted, as UDP itself would.
"""

from pathlib import Path
from typing import Any, Final

import structlog
import trio

from palatine.bus import open_client
from palatine.errors import PeerError
from palatine_snmp_agent.tally import Tally

#: Datagrams waiting for their instance.
MAX_WAITING: Final = 256
#: Octets of a datagram that are handed on. uWSGI reads 4,096 of them (its buffer-size); JSON may need six for one.
MAX_PAYLOAD: Final = 16_384
#: Seconds an instance has to take one.
TIMEOUT: Final = 2.0

_log = structlog.get_logger()


class Forwarder:
    """Hands on datagrams to one instance."""

    def __init__(self, name: str, ctl: Path, tally: Tally) -> None:
        self._name = name
        self._ctl = ctl
        self._tally = tally
        self._send, self._receive = trio.open_memory_channel[dict[str, Any]](MAX_WAITING)
        self._refused = False

    def put(self, peer: str, payload: bytes) -> None:
        """Hand on one datagram from `peer` (`ip:port`); drops it when too many wait."""
        body = {"instance": self._name, "peer": peer, "payload": payload[:MAX_PAYLOAD].decode("latin-1")}
        try:
            self._send.send_nowait(body)
        except trio.WouldBlock:
            self._tally.add("udp_dropped")

    async def run(self) -> None:
        """Do the handing on, until cancelled. The connection is made when there is a first datagram."""
        first = await self._receive.receive()
        async with open_client(self._ctl) as client:
            await self._ask(client.request, first)
            async for body in self._receive:
                await self._ask(client.request, body)

    async def _ask(self, request: Any, body: dict[str, Any]) -> None:
        try:
            await request("udp.datagram", body, timeout=TIMEOUT)
        except PeerError as error:
            self._tally.add("udp_dropped")
            if not self._refused:
                _log.warning("udp.not_taken", instance=self._name, reason=str(error))
            self._refused = True
        else:
            self._tally.add("udp_forwarded")
            self._refused = False
