"""Pass a request on to another server, by HTTP or the uwsgi protocol, and its answer back, piece by piece.

The thread that serves the request waits with it, every time for at most so many seconds; nothing is held but a piece.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any, Final

from palatine.codec import http_upstream, uwsgi_packet
from palatine.codec.http_upstream import UpstreamHead
from palatine.errors import PalatineError, ProtocolError
from palatine_app_server.routing.upstream_address import Upstream
from palatine_app_server.serving.clients import ClientGoneError
from palatine_app_server.system.dialling import dial

_PIECE_BYTES: Final = 65536
_LONGEST_BLOCK: Final = 65535


class UpstreamError(PalatineError):
    """The other server cannot be asked, or does not answer; `status` is what the client is told.

    `reached`: it may have seen the request, so no other is to be asked.
    """

    def __init__(self, status: str, message: str, *, reached: bool) -> None:
        super().__init__(message)
        self.status = status
        self.reached = reached


class Answer:
    """What came back: `head`, and the body's pieces, to be read once and closed."""

    def __init__(self, peer: socket.socket, head: UpstreamHead, begun: bytes, *, bodiless: bool) -> None:
        self.head = head
        self._peer = peer
        self._begun = begun
        self._left = 0 if bodiless else head.length

    def __iter__(self) -> Iterator[bytes]:
        data, self._begun = self._begun, b""
        while self._left:
            if not data:
                try:
                    data = self._peer.recv(_PIECE_BYTES)
                except OSError as error:
                    raise ClientGoneError(f"the server behind stopped answering: {error}") from error
                if not data and self._left < 0:
                    return
                if not data:
                    raise ClientGoneError("the server behind ended its answer early")
            if self._left > 0:
                data = data[: self._left]
                self._left -= len(data)
            yield data
            data = b""

    def close(self) -> None:
        """The rest is not wanted."""
        self._peer.close()


def ask(upstream: Upstream, environ: Mapping[str, Any], body: IO[bytes], seconds: float) -> Answer:
    """Send a request, wait for the head of its answer. UpstreamError."""
    peer = _connected(upstream.address, seconds)
    try:
        try:
            _send(peer, upstream, environ, body)
            head, rest = _head(peer, time.monotonic() + seconds)
            peer.settimeout(seconds)
        except TimeoutError as error:
            raise UpstreamError("504 Gateway Timeout", f"{upstream.address} takes too long", reached=True) from error
        except (OSError, ProtocolError) as error:
            raise UpstreamError("502 Bad Gateway", f"{upstream.address}: {error}", reached=True) from error
    except BaseException:
        peer.close()
        raise
    bodiless = environ.get("REQUEST_METHOD") == "HEAD" or head.status.startswith(("204", "304"))
    return Answer(peer, head, rest, bodiless=bodiless)


def _connected(address: str, seconds: float) -> socket.socket:
    try:
        return dial(address, seconds)
    except TimeoutError as error:
        raise UpstreamError("504 Gateway Timeout", f"{address} does not accept", reached=False) from error
    except (OSError, ValueError) as error:  # the last: a name with a NUL, or too long for DNS
        raise UpstreamError("502 Bad Gateway", f"{address}: {error}", reached=False) from error


def _send(peer: socket.socket, upstream: Upstream, environ: Mapping[str, Any], body: IO[bytes]) -> None:
    length = body.seek(0, os.SEEK_END)
    body.seek(0)
    if upstream.protocol == "uwsgi":
        head = _packet(upstream, environ, length)
    else:
        head = http_upstream.request(environ, length, upstream.host, upstream.uri)
    peer.sendall(head)
    while piece := body.read(_PIECE_BYTES):
        peer.sendall(piece)


def _packet(upstream: Upstream, environ: Mapping[str, Any], length: int) -> bytes:
    sent = {key: value for key, value in environ.items() if isinstance(value, str) and "." not in key}
    if length or "CONTENT_LENGTH" in sent:
        sent["CONTENT_LENGTH"] = str(length)
    if upstream.app:
        sent["UWSGI_APPID"] = upstream.app
    try:
        block = uwsgi_packet.encode_vars(sent)
    except (ValueError, OverflowError) as error:
        raise ProtocolError("variables the uwsgi protocol cannot carry") from error
    if len(block) > _LONGEST_BLOCK:
        raise ProtocolError(f"variables of more than {_LONGEST_BLOCK} bytes")
    first, second = upstream.modifiers
    return uwsgi_packet.encode_header(uwsgi_packet.PacketHeader(first, len(block), second)) + block


def _head(peer: socket.socket, until: float) -> tuple[UpstreamHead, bytes]:
    """The head of an answer, all of it there at a moment of the monotonic clock, and what is behind it already."""
    data = b""
    while True:
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            head = http_upstream.parse_head(data[:end])
            data = data[end + 4 :]
            if not head.status.startswith("1"):
                return head, data
            continue
        if len(data) > http_upstream.HEAD_BYTES:
            raise ProtocolError(f"a head of more than {http_upstream.HEAD_BYTES} bytes")
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        peer.settimeout(left)
        piece = b""
        with contextlib.suppress(ConnectionResetError):  # as good as an end
            piece = peer.recv(_PIECE_BYTES)
        if not piece:
            raise ProtocolError("no answer")
        data += piece
