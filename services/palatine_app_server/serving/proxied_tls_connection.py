"""TLS behind a PROXY header: see `proxied_connection`."""

from palatine.codec.http_head import HeadError, HeadParser
from palatine_app_server.serving.clients import Limits, Listener, Next
from palatine_app_server.serving.proxied_connection import Introduction
from palatine_app_server.serving.tls_connection import TlsConnection


class ProxiedTlsConnection(TlsConnection):
    """See the module."""

    __slots__ = ("_introduction", "_peer_port")

    def __init__(
        self, fd: int, peer: str, listener: Listener, limits: Limits, now: float, heads: HeadParser | None = None
    ) -> None:
        super().__init__(fd, peer, listener, limits, now, heads)
        self._introduction: Introduction | None = Introduction()
        self._peer_port = ""

    def receive(self, now: float) -> Next:
        """As `TlsConnection.receive`, once it is known who the client is."""
        introduction = self._introduction
        if introduction is not None:
            try:
                if not introduction.read(self.fd):
                    return Next.WAIT
            except BlockingIOError:
                return Next.WAIT
            except (EOFError, HeadError):  # nothing can be said before TLS
                return Next.CLOSE
            if introduction.held:
                return Next.CLOSE  # the beginning of a header, but no header: and no TLS either
            self._introduction = None
            if introduction.address:
                self.peer, self._peer_port = introduction.address, str(introduction.port)
        return super().receive(now)

    def advance(self, data: bytes = b"") -> Next:
        """As `TlsConnection.advance`, with the client's port."""
        step = super().advance(data)
        if step is Next.SERVE and self._peer_port:
            self.environ["REMOTE_PORT"] = self._peer_port
        return step
