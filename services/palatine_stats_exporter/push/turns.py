"""What one attempt of a pusher has to work with; a tenant's descriptors must never hold up more than its own pushes."""

import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import trio

from palatine.discovery import InstanceRef
from palatine.errors import PalatineError, ProtocolError
from palatine_stats_exporter.board import Facts
from palatine_stats_exporter.document import Form
from palatine_stats_exporter.push.retry_policy import Failed, Outcome
from palatine_stats_exporter.push.uwsgi_formats import Wish
from palatine_stats_exporter.sources import instance_source

#: Gives a descriptor of the kind the pusher needs, fresh from the app's master; the pusher closes it.
Descriptor = Callable[[], Awaitable[int]]
#: Runs a coroutine function in the daemon's asyncio loop: `Context.to_asyncio`.
ToAsyncio = Callable[..., Awaitable[Any]]

_MOST_SECONDS: Final = 30


@attrs.frozen
class Turn:
    """What one attempt has.

    Attributes:
        ref, facts: the instance, and what it stands at.
        descriptor: gives descriptors of its master's.
        to_asyncio: runs coroutine functions of asyncio.
        limiter: the threads this instance may hold up.
    """

    ref: InstanceRef
    facts: Facts
    descriptor: Descriptor
    to_asyncio: ToAsyncio
    limiter: trio.CapacityLimiter

    def document(self, wish: Wish) -> bytes:
        """The instance's stats document; PalatineError or OSError if it cannot be made."""
        form = Form(minified=wish.minified, no_cores=wish.no_cores, no_metrics=wish.no_metrics)
        source = instance_source(self.ref.path / "seg", self.ref.uid, form, http=False)
        try:
            return source.render()
        finally:
            source.close()


class _Talk:
    """A connection in a thread of its own: the app shares the socket, and could make it blocking."""

    def __init__(self, sock: socket.socket, where: Any, timeout: float) -> None:
        self._socket = sock
        self._where = where
        self._timeout = timeout
        self._begun = False

    def run(self, message: bytes, hear: Callable[[socket.socket], Outcome]) -> Outcome:
        """Connect, say the message, hear the answer, part."""
        self._begun = True
        with self._socket as sock:
            sock.settimeout(self._timeout)
            sock.connect(self._where)
            sock.sendall(message)
            return hear(sock)

    def close(self) -> None:
        """For when no thread has begun."""
        if not self._begun:
            self._socket.close()


async def conversation(wish: Wish, turn: Turn, message: bytes, hear: Callable[[socket.socket], Outcome]) -> Outcome:
    """Say a message over a connection of the app's master, and hear the answer, within the wish's timeout."""
    timeout = min(wish.timeout, _MOST_SECONDS)
    try:
        with trio.fail_after(timeout):
            given, where = await given_socket(await turn.descriptor(), wish, socket.SOCK_STREAM)
            talk = _Talk(given, where, timeout)
            try:
                return await trio.to_thread.run_sync(
                    talk.run, message, hear, abandon_on_cancel=True, limiter=turn.limiter
                )
            finally:
                talk.close()
    except (trio.TooSlowError, TimeoutError):
        return Failed(f"no end after {timeout} s")
    except (OSError, PalatineError) as error:
        return Failed(reason_of(error))


async def given_socket(fd: int, wish: Wish, kind: socket.SocketKind) -> tuple[socket.socket, Any]:
    """The master's socket and where it is to connect; ProtocolError, it closed, if it is not what it must be."""
    try:
        given = socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        raise
    try:
        if given.type != kind:
            raise ProtocolError(f"{wish.pusher}: the master's descriptor is another kind of socket")
        host, _, port = wish.address.rpartition(":")
        found = await trio.socket.getaddrinfo(host.strip("[]"), int(port), family=given.family, type=kind)
    except BaseException:
        given.close()
        raise
    return given, found[0][4]


def reason_of(error: BaseException) -> str:
    """An error in the system's words."""
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or type(error).__name__
