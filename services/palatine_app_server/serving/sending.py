"""The sending half of a client connection over a raw descriptor; no thread waits for a slow reader.

What a client has not taken is `unsent`: left to the worker's drainer while the app is at work, and to its epoll set
when the response is complete. Only where there is too much of it, or no room, does a thread wait, and never longer than
the socket timeout without progress.
"""

import os
import select
import socket
import time
from typing import Final

from palatine_app_server.serving.clients import READ_BYTES, ClientGoneError, Limits
from palatine_app_server.serving.drainer import Drainer
from palatine_app_server.serving.file_parts import BURST_BYTES, FilePart, UnsentFile
from palatine_app_server.serving.overflow import MEMORY_BYTES, Overflow

#: What a slow reader has not taken of a response waits up to this many bytes a connection, the most of it in a file
#: without a name.
KEPT_BYTES: Final = 256 * 1024 * 1024


class Sender:
    """Sends on `fd`, a socket that does not block.

    While it is `taken`, `unsent` is the drainer's, who says with `lost` that the client is; without a `drainer` the
    caller of `send` waits.
    """

    __slots__ = ("_limits", "drainer", "fd", "lost", "taken", "unsent", "write_wait")

    def __init__(self, fd: int, limits: Limits) -> None:
        self.fd = fd
        self._limits = limits
        self.write_wait = 0.0  # seconds a thread has waited in this request for the client to take what was sent
        self.unsent: memoryview | UnsentFile | Overflow | None = None
        self.drainer: Drainer | None = None
        self.taken = False
        self.lost = False

    def send(self, data: bytes) -> None:
        """Send all of `data`, now or later; ClientGoneError when the client is gone or does not read."""
        if self.taken or self.lost:
            self._hold(memoryview(data))
            return
        rest = self._write(data)
        if rest is not None:
            self._hold(rest)

    def send_last(self, data: bytes) -> None:
        """Send the end of a response: what the client does not take at once becomes `unsent`."""
        if self.taken:
            self.retake()
        if self.unsent is None and not self.lost:
            rest = self._write(data)
            if rest is None:
                return
        else:
            rest = memoryview(data)
        if not self._append(rest):
            self.unsent = self._send_slowly(rest, MEMORY_BYTES) or None

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
        rest = memoryview(head) if self.taken or self.lost else self._write(head)
        if rest is not None:
            self._send_slowly(rest, 0)
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
        if self.taken:
            self.retake()
        if self.unsent is not None and not isinstance(self.unsent, memoryview):
            self.unsent.close()
        os.close(self.fd)

    @property
    def pending(self) -> bool:
        """Whether the client has yet to take something."""
        return self.unsent is not None

    def retake(self) -> None:
        """What is `unsent` is no longer the drainer's."""
        if self.drainer is not None:
            self.drainer.leave(self)

    def write_now(self, data: memoryview) -> memoryview | None:
        """What the client does not take now; None when it took everything. ClientGoneError."""
        return self._write(data)

    def pass_on(self) -> bool:
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

    def _hold(self, rest: memoryview) -> None:
        """Have `rest` passed on while the app goes on; where that cannot be, wait for the client."""
        drainer = self.drainer
        if drainer is not None:
            with drainer.lock:
                if self._append(rest):
                    drainer.take(self)
                    return
        self._send_slowly(rest, 0)

    def _append(self, rest: memoryview) -> bool:
        """Put `rest` behind what is `unsent`; whether there is room. ClientGoneError."""
        if self.lost:
            raise ClientGoneError("the client does not read")
        unsent = self.unsent
        if unsent is None and len(rest) <= MEMORY_BYTES:
            self.unsent = rest or None
            return True
        if len(rest) + (0 if unsent is None else len(unsent)) > KEPT_BYTES:
            return False
        overflow = unsent if isinstance(unsent, Overflow) else Overflow()
        try:
            if isinstance(unsent, memoryview):
                overflow.append(unsent)
            overflow.append(rest)
        except OSError:  # no room for the file
            if overflow is not unsent:
                overflow.close()
            return False
        self.unsent = overflow
        return True

    def _send_slowly(self, rest: memoryview, most: int) -> memoryview:
        """Send what is `unsent`, then of `rest` until at most `most` bytes are left, and return those."""
        if self.taken:
            self.retake()
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        began = time.monotonic()
        try:
            while self.unsent is not None or len(rest) > most:
                if self.lost or not poll.poll(self._limits.write_seconds * 1000):
                    raise ClientGoneError("the client does not read")
                if self.unsent is not None:
                    self.pass_on()
                else:
                    rest = self._write(rest) or rest[:0]
        finally:
            self.write_wait += time.monotonic() - began
        return rest
