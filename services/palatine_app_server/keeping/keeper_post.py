"""The keeper's connection with the emperor of the moment; plain; must never block, however slowly an emperor reads."""

import os
import select
import socket
from collections import deque
from collections.abc import Sequence
from typing import Final

from palatine.codec.keeper import MOST_PARTS, RECORD_BYTES, Failed, Record, decode, encode
from palatine.errors import ProtocolError
from palatine.handoff import peer_credentials

_SEND_BUFFER: Final = 2 * RECORD_BYTES


class Post:
    """Accepts one emperor at a time, the newest winning; passes on its orders, queues what it is told."""

    def __init__(self, listener: socket.socket, poll: select.epoll) -> None:
        self._listener = listener
        self._poll = poll
        self._emperor: socket.socket | None = None
        self._outbox: deque[tuple[bytes, list[int]]] = deque()
        listener.setblocking(False)
        listener.set_inheritable(False)  # whoever held it after our death would take the next keeper's callers
        poll.register(listener.fileno(), select.EPOLLIN)

    @property
    def door(self) -> int:
        """Descriptor that becomes readable when an emperor calls."""
        return self._listener.fileno()

    @property
    def line(self) -> int:
        """Descriptor of the connection, -1 without one."""
        return -1 if self._emperor is None else self._emperor.fileno()

    def accept(self) -> None:
        """Take a caller of the right user in the place of the one before."""
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it gave up before we looked
            return
        if peer_credentials(connection)[1] not in {0, os.geteuid()}:
            connection.close()
            return
        self._hang_up()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._emperor = connection
        self._poll.register(connection.fileno(), select.EPOLLIN)

    def receive(self) -> tuple[Record, list[int]] | None:
        """The next order and the descriptors beside it (the caller's to close); None where there is none to obey."""
        if self._emperor is None:
            return None
        try:
            data, descriptors, _, _ = socket.recv_fds(self._emperor, RECORD_BYTES, MOST_PARTS)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            data, descriptors = b"", []
        if not data:
            self._hang_up()
            return None
        try:
            order = decode(data)
        except ProtocolError as error:
            for descriptor in descriptors:
                os.close(descriptor)
            self.say(Failed("", str(error)))
            return None
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        return order, descriptors

    def say(self, record: Record, descriptors: Sequence[int] = ()) -> None:
        """Send or queue; works on duplicates of the descriptors, so their owner may drop its own meanwhile."""
        if self._emperor is None:
            return
        self._outbox.append((encode(record), [os.dup(descriptor) for descriptor in descriptors]))
        self.flush()

    def flush(self) -> None:
        """Send what the connection takes; it is watched for room as long as something waits."""
        if self._emperor is None:
            return
        while self._outbox:
            data, descriptors = self._outbox[0]
            try:
                socket.send_fds(self._emperor, [data], descriptors)
            except BlockingIOError:
                break
            except OSError:  # it went: the connection becomes readable, and that is where it is noticed
                self._drop_outbox()
                break
            self._outbox.popleft()
            for descriptor in descriptors:
                os.close(descriptor)
        self._poll.modify(self._emperor.fileno(), select.EPOLLIN | (select.EPOLLOUT if self._outbox else 0))

    def close(self) -> None:
        """Close the connection and the listening socket."""
        self._drop_outbox()
        if self._emperor is not None:
            self._emperor.close()
        self._listener.close()

    def _hang_up(self) -> None:
        self._drop_outbox()
        if self._emperor is not None:
            self._poll.unregister(self._emperor.fileno())
            self._emperor.close()
            self._emperor = None

    def _drop_outbox(self) -> None:
        for _, descriptors in self._outbox:
            for descriptor in descriptors:
                os.close(descriptor)
        self._outbox.clear()
