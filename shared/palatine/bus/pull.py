"""The emperor's uWSGI-compatible `zmq://` monitor: a PULL socket to push commands to; it acknowledges nothing."""

import contextlib
from collections.abc import AsyncIterator
from typing import Final, Self

import structlog
import trio
import zmq

from palatine.bus import _libzmq, pump
from palatine.errors import ConfigError

#: uWSGI's monitor takes 2 to 6 parts; a vassal's config has at most 65,535 bytes.
PARTS: Final = 8
LOOPBACK: Final = ("tcp://127.", "tcp://localhost:", "tcp://[::1]:", "ipc://", "inproc://")

log = structlog.get_logger("palatine.bus")


class Pull:
    """Messages as lists of their parts. One consumer; cancelling its wait loses nothing."""

    def __init__(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        self.endpoint = endpoint
        self._socket = socket
        self._waker = pump.Waker()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[bytes]:
        """The next message of at most `PARTS` parts; longer ones are logged and skipped."""
        await trio.lowlevel.checkpoint()
        descriptor = self._socket.getsockopt(zmq.FD)
        assert isinstance(descriptor, int)
        while True:
            message = pump.receive(self._socket)
            if message is None:
                await self._waker.wait_readable(descriptor)
            elif len(message.parts) > PARTS:
                log.warning("bus.pull.refused", endpoint=self.endpoint, parts=len(message.parts))
                await trio.lowlevel.checkpoint()
            else:
                return message.parts


@contextlib.asynccontextmanager
async def open_pull(endpoint: str, *, curve_secret: bytes = b"") -> AsyncIterator[Pull]:
    """Bind a PULL socket on a zmq address as configured ("tcp://127.0.0.1:5252"; a port "*" is picked).

    `curve_secret` is the server's secret key (40 characters of Z85): with it only clients that know the public key get
    through. Without it an address off loopback is taken with a warning, as uWSGI takes it in silence.
    """
    async with _libzmq.open_context() as context:
        with _libzmq.open_socket(context, zmq.PULL) as socket:
            try:
                if curve_secret:
                    socket.setsockopt(zmq.CURVE_SERVER, 1)
                    socket.setsockopt(zmq.CURVE_SECRETKEY, curve_secret)
                elif not endpoint.startswith(LOOPBACK):
                    log.warning("bus.pull.open", endpoint=endpoint, hint="anyone who reaches it commands this emperor")
                socket.bind(endpoint)
            except OSError as error:  # zmq.ZMQError is one
                raise ConfigError(f"cannot be bound: {error.strerror}", endpoint) from error
            bound = socket.getsockopt(zmq.LAST_ENDPOINT)
            assert isinstance(bound, bytes)
            yield Pull(socket, bound.rstrip(b"\0").decode())
