"""Connections that may begin with a PROXY header: the load balancer in front says who its client is.

A header is read to its last byte and no further, because TLS may begin behind it. Without one, the connection is the
client's own, as in uWSGI: whoever can connect is believed, so such a socket belongs behind its balancer.
"""

import socket

from palatine.codec import proxy_protocol
from palatine.codec.http_head import HeadError, HeadParser
from palatine.errors import ProtocolError
from palatine_app_server.serving.clients import Limits, Listener, Next
from palatine_app_server.serving.connection import Connection


class Introduction:
    """The first bytes of one connection: `read` them until somebody is known."""

    __slots__ = ("address", "held", "port")

    def __init__(self) -> None:
        self.held = b""  # of a header that is not all there; in the end, what is none
        self.address = ""
        self.port = 0

    def read(self, fd: int) -> bool:
        """Whether it is over. BlockingIOError while nothing comes, EOFError at the end, HeadError for a bad one."""
        peer = socket.socket(fileno=fd)
        try:
            fresh = peer.recv(proxy_protocol.MOST_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            if not fresh:
                raise EOFError
            try:
                header = proxy_protocol.parse(self.held + fresh)
            except ProtocolError as error:
                raise HeadError(400, str(error)) from error
            if header is None:  # taken off the socket, or it would wake us for ever
                self.held += peer.recv(len(fresh), socket.MSG_DONTWAIT)
                return False
            if header.size:
                peer.recv(header.size - len(self.held), socket.MSG_DONTWAIT)
                self.held = b""
            self.address, self.port = header.address, header.port
        finally:
            peer.detach()
        return True


class ProxiedConnection(Connection):
    """See the module."""

    __slots__ = ("_introduction", "_peer_port")

    def __init__(
        self, fd: int, peer: str, listener: Listener, limits: Limits, now: float, heads: HeadParser | None = None
    ) -> None:
        super().__init__(fd, peer, listener, limits, now, heads)
        self._introduction: Introduction | None = Introduction()
        self._peer_port = ""

    def receive(self, now: float) -> Next:
        """As `Connection.receive`, once it is known who the client is."""
        introduction = self._introduction
        if introduction is not None:
            try:
                if not introduction.read(self.fd):
                    return Next.WAIT
            except BlockingIOError:
                return Next.WAIT
            except EOFError:
                return Next.CLOSE
            self._introduction = None
            self._buffer = introduction.held
            if introduction.address:
                self.peer, self._peer_port = introduction.address, str(introduction.port)
        return super().receive(now)

    def advance(self, data: bytes = b"") -> Next:
        """As `Connection.advance`, with the client's port, which only a balancer tells."""
        step = super().advance(data)
        if step is Next.SERVE and self._peer_port:
            self.environ["REMOTE_PORT"] = self._peer_port
        return step
