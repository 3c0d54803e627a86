"""The sending half of a client connection over a raw descriptor; no thread waits for the last of what is sent.

Only `send` may wait, and never longer than the socket timeout without progress; what a slow client has not taken of the
end of a response is `unsent`, and left to the worker's epoll set.
"""

import os
import select
import socket
import time
from typing import Final

from palatine_app_server.serving.clients import READ_BYTES, ClientGoneError, Limits
from palatine_app_server.serving.file_parts import BURST_BYTES, FilePart, UnsentFile

#: What a slow reader has not taken of a response waits in memory, up to this many bytes a connection, and no thread
#: waits with it.
UNSENT_BYTES: Final = 1024 * 1024


class Sender:
    """Sends on `fd`, a socket that does not block."""

    __slots__ = ("_limits", "fd", "unsent", "write_wait")

    def __init__(self, fd: int, limits: Limits) -> None:
        self.fd = fd
        self._limits = limits
        self.write_wait = 0.0  # seconds a thread has waited in this request for the client to take what was sent
        self.unsent: memoryview | UnsentFile | None = None

    def send(self, data: bytes) -> None:
        """Send all of `data`; ClientGoneError when the client is gone or does not read."""
        rest = self._write(data)
        if rest is not None:
            self._send_slowly(rest, 0)

    def send_last(self, data: bytes) -> None:
        """Send the end of a response: what the client does not take at once becomes `unsent`, within limits."""
        rest = self._write(data)
        if rest is not None:
            self.unsent = self._send_slowly(rest, UNSENT_BYTES) or None

    def send_parting(self, data: bytes) -> None:
        """Send a whole response behind which nothing follows: the connection is closed next."""
        self.send_last(data)

    def send_file(self, head: bytes, part: FilePart) -> None:
        """Send a head and a part of a file; whatever the client does not take at once becomes `unsent`."""
        if part.length <= READ_BYTES:
            body = os.pread(part.fd, part.length, part.start)
            if len(body) < part.length:
                raise ClientGoneError(f"the file ended {part.length - len(body)} bytes early")
            self.send_last(head + body)
            return
        self.send(head)
        sent = self.send_from(part.fd, part.start, min(part.length, BURST_BYTES))
        if sent < part.length:  # only what has to wait needs a descriptor of its own
            self.unsent = UnsentFile(FilePart(part.fd, part.start + sent, part.length - sent))

    def send_from(self, fd: int, start: int, length: int) -> int:
        """Send of a file what the client takes now: how many bytes; ClientGoneError."""
        try:
            sent = os.sendfile(self.fd, fd, start, length)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ClientGoneError(error.errno, error.strerror) from error
        if not sent:
            raise ClientGoneError("the file became shorter while it was sent")
        return sent

    def interject(self, data: bytes) -> None:
        """Send what fits, from a signal handler: the last words of a request that took too long. OSError."""
        os.write(self.fd, data)

    def end(self) -> None:
        """Say no more, and let the client know. OSError when it is gone."""
        end = socket.socket(fileno=os.dup(self.fd))
        try:
            end.shutdown(socket.SHUT_WR)
        finally:
            end.close()

    def close(self) -> None:
        """Close the descriptor; what is unsent is dropped."""
        if isinstance(self.unsent, UnsentFile):
            self.unsent.close()
        os.close(self.fd)

    def _pass_on(self) -> bool:
        """Send of `unsent` what the client takes now; whether it took any. ClientGoneError."""
        unsent = self.unsent
        assert unsent is not None
        left = len(unsent)
        rest = self._write(unsent) if isinstance(unsent, memoryview) else unsent.pass_on(self)
        self.unsent = rest
        return rest is None or len(rest) < left

    def _write(self, data: bytes | memoryview) -> memoryview | None:
        """What the kernel did not take; None when it took everything."""
        try:
            sent = os.write(self.fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientGoneError(error.errno, error.strerror) from error
        return None if sent == len(data) else memoryview(data)[sent:]

    def _send_slowly(self, rest: memoryview, most: int) -> memoryview:
        """Send until at most `most` bytes are left, and return those."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        began = time.monotonic()
        try:
            while len(rest) > most:
                if not poll.poll(self._limits.write_seconds * 1000):
                    raise ClientGoneError("the client does not read")
                rest = self._write(rest) or rest[:0]
        finally:
            self.write_wait += time.monotonic() - began
        return rest
