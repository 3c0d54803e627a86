"""Deliver line protocol to InfluxDB: `/write` as telegraf does it, `/api/v2/write`, a UNIX socket, UDP.

A sink never keeps a batch and never retries: it says what became of one attempt.
"""

import errno
import gzip
from collections.abc import Iterator
from typing import Final, Protocol
from urllib.parse import urlsplit

import httpx
import structlog
import trio

from palatine.udp import open_udp
from palatine_stats_exporter.push.http import Http
from palatine_stats_exporter.push.retry_policy import Failed, Outcome, Sent
from palatine_stats_exporter.push.settings import UDP_BYTES, Influx, InfluxV2

_NO_DATABASE: Final = "database not found"
_TEXT: Final = "text/plain; charset=utf-8"

_log = structlog.get_logger()


class Sink(Protocol):
    """Somewhere a batch is delivered to."""

    async def send(self, batch: bytes) -> Outcome:
        """One attempt to deliver a batch, which is gzip."""

    async def aclose(self) -> None:
        """Let go of connections."""


class InfluxSink:
    """InfluxDB 1.x by HTTP: makes the database when it does not know of it."""

    def __init__(self, target: Influx) -> None:
        self._target = target
        auth = httpx.BasicAuth(target.user, target.password.value) if target.user else None
        self._http = Http(target.url, target.timeout, {}, auth)
        self._params = {"db": target.database}
        if target.retention_policy:
            self._params["rp"] = target.retention_policy
        self._known = not target.create_database

    async def send(self, batch: bytes) -> Outcome:
        """Write a batch, the database made before the first one and again when the server has lost it."""
        if not self._known:
            made = await self._create()
            if isinstance(made, Failed) and not made.lasting and "answered" not in made.reason:
                return made  # nobody there
            if isinstance(made, Failed):  # telegraf goes on too: the user may be allowed to write and no more
                _log.warning("push.database_not_made", database=self._target.database, reason=made.reason)
            self._known = True
        outcome = await self._http.post_gzip("/write", self._params, batch, _TEXT, compressed=self._target.gzip)
        if isinstance(outcome, Failed) and _NO_DATABASE in outcome.reason and self._target.create_database:
            self._known = False
        return outcome

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _create(self) -> Outcome:
        name = self._target.database.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self._http.post("/query", {"q": f'CREATE DATABASE "{name}"'}, b"", headers)


class InfluxV2Sink:
    """InfluxDB 2.x by HTTP."""

    def __init__(self, target: InfluxV2) -> None:
        self._gzip = target.gzip
        self._params = {"org": target.org, "bucket": target.bucket, "precision": "ns"}
        self._http = Http(target.url, target.timeout, {"Authorization": f"Token {target.token.value}"})

    async def send(self, batch: bytes) -> Outcome:
        """Write a batch."""
        return await self._http.post_gzip("/api/v2/write", self._params, batch, _TEXT, compressed=self._gzip)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


class UdpSink:
    """InfluxDB's UDP listener; the server's configuration names the database. Nobody says what arrived."""

    def __init__(self, target: Influx) -> None:
        found = urlsplit(target.url)
        self._address = (found.hostname or "", found.port or 0)
        self._socket: trio.socket.SocketType | None = None

    async def send(self, batch: bytes) -> Outcome:
        """Send a batch, whole lines to a datagram; what the kernel refuses is tried again from its beginning."""
        try:
            if self._socket is None:
                self._socket = await open_udp(*self._address)
            for datagram in datagrams(gzip.decompress(batch), UDP_BYTES):
                await self._socket.send(datagram)
        except OSError as error:
            await self.aclose()
            return Failed(error.strerror or str(error), lasting=error.errno == errno.EMSGSIZE)
        return Sent()

    async def aclose(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def datagrams(lines: bytes, limit: int) -> Iterator[bytes]:
    """Whole lines in pieces of at most `limit` bytes; a longer line goes alone."""
    piece = b""
    for line in lines.splitlines(keepends=True):
        if piece and len(piece) + len(line) > limit:
            yield piece
            piece = b""
        piece += line
    if piece:
        yield piece
