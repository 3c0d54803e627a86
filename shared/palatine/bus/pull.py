"""A bound PULL socket for uWSGI's zmq:// protocol: no acknowledgement, no rights; never for anything of our own."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import trio
import zmq

from palatine.bus import _libzmq, pump
from palatine.bus.endpoint import claim
from palatine.errors import ConfigError

_IPC: Final = "ipc://"


class Pull:
    """Batches of multipart messages; one task at a time may ask for them, and that task owns the socket."""

    def __init__(self, socket: zmq.Socket[bytes], address: str) -> None:
        #: Where it is bound, with the port the kernel chose for `tcp://...:0`.
        self.address = address
        self._socket = socket
        self._waker = pump.Waker()
        descriptor = socket.getsockopt(zmq.FD)
        assert isinstance(descriptor, int)
        self._descriptor = descriptor
        self._busy = False

    async def receive(self) -> list[list[bytes]]:
        """The next messages, at least one and at most `pump.DRAIN`, each as its parts.

        Cancelling loses none: nothing is taken before the last point where it could be cancelled.
        """
        if self._busy:
            raise trio.BusyResourceError("another task receives from this socket")
        self._busy = True
        try:
            await trio.lowlevel.checkpoint()
            while not (batch := self._take()):
                await self._waker.wait_readable(self._descriptor)
            return batch
        finally:
            self._busy = False

    def _take(self) -> list[list[bytes]]:
        batch: list[list[bytes]] = []
        while len(batch) < pump.DRAIN and (message := pump.receive(self._socket)) is not None:
            batch.append(message.parts)
        return batch


@contextlib.asynccontextmanager
async def open_pull(where: str, *, curve_secret: bytes = b"") -> AsyncIterator[Pull]:
    """Bind a PULL socket at a zmq address (`tcp://HOST:PORT`, `ipc://PATH`).

    With the server's secret key (40 characters of Z85) only those get through who know its public key.
    Frames are limited to `FRAME_BYTES` and unread messages to the house's high water; a sender beyond that waits.
    Raises ConfigError if it cannot be bound, AlreadyRunningError if a live process owns the ipc path.
    """
    with _claimed(where):
        async with _libzmq.open_context() as context:
            with _libzmq.open_socket(context, zmq.PULL) as socket:
                try:
                    if curve_secret:
                        socket.setsockopt(zmq.CURVE_SERVER, 1)
                        socket.setsockopt(zmq.CURVE_SECRETKEY, curve_secret)
                    socket.bind(where)
                except zmq.ZMQError as error:
                    raise ConfigError(f"cannot be bound: {error.strerror}", where) from error
                address = socket.getsockopt(zmq.LAST_ENDPOINT)
                assert isinstance(address, bytes)
                yield Pull(socket, address.rstrip(b"\0").decode())


@contextlib.contextmanager
def _claimed(where: str) -> Iterator[None]:
    """A second bind on an ipc path would succeed and steal it."""
    if not where.startswith(f"{_IPC}/"):
        yield
        return
    with claim(Path(where.removeprefix(_IPC))):
        yield
