"""`uwsgi.wait_fd_read` and its kin for threads: descriptors are noted, `suspend` waits, `ready_fd` says which it was.

uWSGI does this in asynchronous engines only; apps written for those run here with a thread for each request.
"""

import errno
import select
import socket
import time
from typing import Any

from palatine_app_server.uwsgi_module import arguments


class Waiting:
    """What one thread waits for next."""

    def __init__(self) -> None:
        self._wanted: dict[int, int] = {}  # descriptor → events of poll(2)
        self._until = 0.0  # on the monotonic clock; 0: without end
        self.ready = -1

    def want(self, fd: int, events: int, seconds: float) -> None:
        """The next `suspend` ends when `fd` is ready, or after `seconds` where they are not 0."""
        if fd < 0:
            raise OSError(f"unable to call wait_fd on {fd}")
        self._wanted[fd] = self._wanted.get(fd, 0) | events
        self.sleep(seconds)

    def sleep(self, seconds: float) -> None:
        """The next `suspend` ends after so long, or sooner."""
        if seconds > 0:
            until = time.monotonic() + seconds
            self._until = min(self._until, until) if self._until else until

    def suspend(self) -> bool:
        """Wait for what is wanted; at once where nothing is."""
        wanted, until = self._wanted, self._until
        self._wanted, self._until, self.ready = {}, 0.0, -1
        if wanted or until:
            poll = select.poll()
            for fd, events in wanted.items():
                poll.register(fd, events)
            found = poll.poll(max(0.0, until - time.monotonic()) * 1000 if until else None)
            if found:
                self.ready = found[0][0]
        return True


def connect_now(address: Any) -> int:
    """A descriptor that is being connected to host:port or a UNIX socket's path; -1 where that cannot be."""
    text = arguments.text(address, "async_connect")
    host, colon, port = text.rpartition(":")
    if colon:
        family, kind, protocol, _, place = socket.getaddrinfo(host or "127.0.0.1", int(port), 0, socket.SOCK_STREAM)[0]
        peer = socket.socket(family, kind, protocol)
    else:
        peer, place = socket.socket(socket.AF_UNIX), text  # type: ignore[assignment]  # a path is an address, too
    peer.setblocking(False)
    failed = peer.connect_ex(place)
    if failed not in {0, errno.EINPROGRESS, errno.EAGAIN}:
        peer.close()
        return -1
    return peer.detach()
