"""One UDP socket: wait once, then drain; must never block for long, and never let one socket starve the others.

The descriptor is shared with the master that bound it, so its flags are left alone: every call says MSG_DONTWAIT.
Waiting once per datagram instead of draining costs twice the CPU under load (21 against 59 thousand a second).
"""

import errno
import select
import socket
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, Self

import trio

from palatine_snmp_agent.datagrams import Received, datagrams_of
from palatine_snmp_agent.lingering import Lingering
from palatine_snmp_agent.rate_policy import source_of
from palatine_snmp_agent.responder import Verdict
from palatine_snmp_agent.tally import Tally

#: Datagrams handled before other sockets get their turn.
DRAIN: Final = 64

#: Takes a datagram that is not SNMP: the peer as `ip:port`, and the payload.
Forward = Callable[[str, bytes], None]


class Door(Protocol):
    """Decides about datagrams."""

    def answer(self, datagram: bytes, host: str) -> Verdict:
        """The verdict on one datagram of `host`."""

    def proves(self, datagram: bytes, host: str) -> bool:
        """Whether it is of somebody we know; cheaper than an answer."""


class Endpoint:
    """A bound UDP socket and what answers on it.

    Without a `door` no datagram is SNMP; without `forward` every datagram is. Owns the socket. `name` is the
    address as the app's config has it.
    """

    def __init__(
        self, sock: socket.socket, name: str, tally: Tally, door: Door | None, forward: Forward | None = None
    ) -> None:
        self.name = name
        self._socket = sock
        self._datagrams = datagrams_of(sock)
        self._tally = tally
        self._door = door
        self._forward = forward
        self._lingering: Lingering | None = None
        self.received = 0
        self.replied = 0
        self.unsent = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()
        self._socket.close()

    def statistics(self) -> dict[str, Any]:
        """How it does, JSON-able."""
        return {
            "address": self.name,
            "snmp": self._door is not None,
            "received": self.received,
            "replied": self.replied,
            "unsent": self.unsent,
        }

    async def serve(self) -> None:
        """Answer until cancelled.

        Raises:
            OSError: the socket is of no use any more.
        """
        self._lingering = lingering = Lingering.of_this_loop()
        lingering.add(self._socket.fileno())
        try:
            while True:
                await trio.lowlevel.wait_readable(self._socket)
                await self._stint(lingering)
        finally:
            self._leave()

    def _leave(self) -> None:
        """Linger no more; before the socket is closed."""
        if self._lingering is not None:
            self._lingering.remove(self._socket.fileno())
            self._lingering = None

    async def _stint(self, lingering: Lingering) -> None:
        """Answer what there is and what follows at once; OSError as `serve`."""
        before, fd = self.received, self._socket.fileno()
        lingering.begin()
        while True:
            so_far = self.received
            while self.drain():
                lingering.look()
                await trio.lowlevel.checkpoint()
            if self.received == so_far or not lingering.more(fd):
                break
        if self.received == before:
            self._check_open()

    def drain(self) -> bool:
        """Handle what has arrived, at most `DRAIN` datagrams; True if there may be more. OSError as `serve`."""
        now = time.time()
        for _ in range(DRAIN):
            try:
                received = self._datagrams.receive()
            except BlockingIOError:
                return False
            self.received += 1
            if self._forward is not None and (self._door is None or received.data[:1] != b"\x30"):
                self._forward(_peer(received.sender), received.data)
            elif self._door is not None:
                self._answer(self._door, received, now)
        return True

    def _check_open(self) -> None:
        """OSError if its owner shut the socket down: it would be ready, with nothing to read, for ever."""
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
        if poll.poll(0):
            raise OSError(errno.ESHUTDOWN, "the socket has been shut down")

    def _answer(self, door: Door, received: Received, now: float) -> None:
        host, data = received.sender[0], received.data
        source = source_of(host)
        if not self._tally.admit(source, now, lambda: door.proves(data, host)):
            return
        verdict = door.answer(data, host)
        self._tally.note(source, verdict, now)
        if verdict.reply is None:
            return
        try:
            self._datagrams.reply(verdict.reply, received)
            self.replied += 1
        except OSError:  # a full buffer, no route back, a port of 0: the manager will ask again
            self.unsent += 1
            self._tally.add("send_failures")


def _peer(address: tuple[Any, ...]) -> str:
    host, port = address[:2]
    host = host.removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
