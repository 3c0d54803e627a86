"""The one door to libzmq: its version, contexts and sockets with bounded memory and linger; never in a forked child."""

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import trio
import zmq

from palatine.bus.endpoint import address
from palatine.codec.frames import FRAME_BYTES
from palatine.errors import ConfigError

#: 4.3.5 is the first with the peer's uid on ipc in a release we tested, and with the fixes for reconnecting ROUTERs.
OLDEST_LIBZMQ: Final = (4, 3, 5)
#: What a stopping owner gives its last replies to leave, in ms: the bound of `Context.term`.
LINGER_MS: Final = 500
#: A client that opens the socket and never says ZMTP is put out after this, in ms.
HANDSHAKE_MS: Final = 5_000
RECONNECT_MS: Final = 20
RECONNECT_MAX_MS: Final = 500
#: Unsent or unread messages a connection may hold; each is 1 MiB at most.
HIGH_WATER: Final = 64
MAX_SOCKETS: Final = 16_384


def require(found: tuple[int, ...]) -> None:
    """ConfigError unless `found` is a libzmq this package was tested with."""
    if found < OLDEST_LIBZMQ:
        wanted, got = (".".join(map(str, version)) for version in (OLDEST_LIBZMQ, found))
        raise ConfigError(f"pyzmq is linked with libzmq {got}: palatine needs {wanted} or later (pip install -U pyzmq)")


@contextlib.asynccontextmanager
async def open_context() -> AsyncIterator[zmq.Context[zmq.Socket[bytes]]]:
    """A zmq context, terminated at the end in a thread that waits `LINGER_MS` at most. Close the sockets first."""
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
    try:
        yield context
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(context.term)


@contextlib.contextmanager
def open_socket(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, *, send_high_water: int = HIGH_WATER, linger: int = LINGER_MS
) -> Iterator[zmq.Socket[bytes]]:
    """A socket with this house's limits."""
    socket = context.socket(kind)
    try:
        socket.setsockopt(zmq.LINGER, linger)
        socket.setsockopt(zmq.MAXMSGSIZE, FRAME_BYTES)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        socket.setsockopt(zmq.SNDHWM, send_high_water)
        socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        yield socket
    finally:
        socket.close()


def bind(socket: zmq.Socket[bytes], endpoint: Path, mode: int) -> None:
    """Bind on a path already claimed; ConfigError if it cannot be. The directory and `mode` say who may connect."""
    try:
        socket.bind(address(endpoint))
        os.chmod(endpoint, mode)
    except OSError as error:  # zmq.ZMQError is one
        raise ConfigError(f"cannot be bound: {error.strerror}", str(endpoint)) from error


def connect(socket: zmq.Socket[bytes], where: str) -> None:
    """Connect a DEALER so that each connection, also a later one, begins with a probe, and nothing queues for none."""
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.PROBE_ROUTER, 1)
    socket.connect(where)


require(zmq.zmq_version_info())
