"""Connections of `http-to-https`: every request is told to come again by HTTPS, and no app hears of it."""

import re
import time
from typing import Final

from palatine.codec.http_head import HeadError
from palatine_app_server.serving.clients import Next
from palatine_app_server.serving.connection import Connection
from palatine_app_server.serving.proxied_connection import ProxiedConnection

_HOST: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_ORIGIN: Final = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


class RedirectConnection(Connection):
    """Answers 301 and ends, as uWSGI's router does."""

    __slots__ = ()

    def advance(self, data: bytes = b"") -> Next:
        """As `Connection.advance`, but never SERVE."""
        step = super().advance(data)
        return _send_away(self) if step is Next.SERVE else step

    def _expect_body(self, data: bytes) -> Next:
        """Nobody wants it."""
        del data
        return Next.SERVE


class ProxiedRedirect(ProxiedConnection):
    """The same behind a proxy that says who the client is."""

    __slots__ = ()

    def advance(self, data: bytes = b"") -> Next:
        """As `Connection.advance`, but never SERVE."""
        step = super().advance(data)
        return _send_away(self) if step is Next.SERVE else step

    def _expect_body(self, data: bytes) -> Next:
        """Nobody wants it."""
        del data
        return Next.SERVE


def _send_away(connection: Connection) -> Next:
    host = _HOST.fullmatch(connection.environ.get("HTTP_HOST", ""))
    if host is None:
        raise HeadError(400, "no host to redirect to")
    port = connection.listener.redirect_port
    target = _ORIGIN.sub("", connection.environ["REQUEST_URI"], count=1)
    if not target.startswith("/"):
        target = f"/{target}" if target != "*" else "/"
    place = f"https://{host[1]}{f':{port}' if port else ''}{target}"
    head = f"HTTP/1.1 301 Moved Permanently\r\nLocation: {place}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert connection.head is not None
    connection.send(head.encode("latin-1"))
    if not connection.head.length:
        return Next.CLOSE
    connection.linger(time.monotonic())  # a body is on its way: closing now might cost the client the answer
    return Next.WAIT
