"""A TCP connection whose last answer and end leave in one segment: a sixth less of kernel work than two of them.

It must never hold an answer back where anything may take long between that answer and the end of the connection.
"""

import socket
from typing import Final

from palatine_app_server.serving.clients import ClientGoneError, Listener
from palatine_app_server.serving.connection import Connection

_PROTOCOLS: Final = frozenset({"http", "uwsgi"})
_FAMILIES: Final = frozenset({socket.AF_INET, socket.AF_INET6})
#: send(2): more will follow. It does with close(2), or else the kernel sends what it has after 200 ms (tcp(7)).
_HELD_BACK: Final = socket.MSG_MORE | socket.MSG_DONTWAIT


def suits(listener: Listener) -> bool:
    """Whether the connections of a listener can be such."""
    return listener.protocol in _PROTOCOLS and listener.socket.family in _FAMILIES


class PartingConnection(Connection):
    """See the module; for workers of one thread in which nobody has anything to do after a request."""

    __slots__ = ()

    def send_parting(self, data: bytes) -> None:
        """As `Sender.send_parting`, together with the end where the client has said that it asks for nothing more.

        Of a client that has not, or that has sent a body, something may be there unread: closing resets such a
        connection, and what was held back would be lost (RFC 9112 9.6).
        """
        head = self.head
        if head is None or head.keep_alive or self.body is not None or self._buffer:
            self.send_last(data)
            return
        out = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, 0, self.fd)  # os.write knows no flags
        try:
            sent = out.send(data, _HELD_BACK)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientGoneError(error.errno, error.strerror) from error
        finally:
            out.detach()
        if sent < len(data):
            self.send_last(data[sent:])
