"""Connections of `fastcgi-socket` and `scgi-socket`: other ways for a front end to say the same; one request each."""

import io
import os
from typing import Final

from palatine.codec import fastcgi
from palatine.codec.http_head import Head, HeadError, HeadParser
from palatine.errors import ProtocolError
from palatine_app_server.serving.clients import ClientGoneError, Limits, Listener, Next
from palatine_app_server.serving.connection import TOO_BIG, Connection
from palatine_app_server.serving.file_parts import FilePart

_DIGITS_MOST: Final = 18
#: Behind `HTTP/1.1 `.
_STATUS_AT: Final = 9


class ScgiConnection(Connection):
    """SCGI: a netstring of variables, a body of CONTENT_LENGTH bytes, an answer up to the end of the connection."""

    __slots__ = ("_begun",)

    def __init__(
        self, fd: int, peer: str, listener: Listener, limits: Limits, now: float, heads: HeadParser | None = None
    ) -> None:
        super().__init__(fd, peer, listener, limits, now, heads)
        self.framed = False
        self._begun = listener.protocol.endswith("-nph")  # the answer's first line has gone, or may go as it is

    def send(self, data: bytes) -> None:
        """As `Sender.send`."""
        super().send(self._told(data))

    def send_last(self, data: bytes) -> None:
        """As `Sender.send_last`."""
        super().send_last(self._told(data))

    def interject(self, data: bytes) -> None:
        """As `Sender.interject`."""
        super().interject(self._told(data))

    def _told(self, data: bytes) -> bytes:
        """`data` with the status as a header, where it is the beginning of an answer (RFC 3875 6.3.3)."""
        if self._begun or not data:
            return data
        self._begun = True
        return b"Status: " + data[_STATUS_AT:] if data.startswith(b"HTTP/1.") else data

    def _read_packet(self) -> Next:
        try:
            found = fastcgi.scgi_head(self._buffer, self._limits.head_bytes)
        except ProtocolError as error:
            raise HeadError(0, str(error)) from error
        if found is None:
            return Next.WAIT
        received, size = found
        rest, self._buffer = self._buffer[size:], b""
        length = self._begin(received)
        return self._expect_body(rest) if length else Next.SERVE

    def _begin(self, received: dict[str, str]) -> int:
        """Take over the variables; how long the body will be, -1 where nobody said. HeadError."""
        declared = received.get("CONTENT_LENGTH", "")
        if declared and not (declared.isascii() and declared.isdigit() and len(declared) <= _DIGITS_MOST):
            raise HeadError(400, "malformed Content-Length")
        self.environ = self._cgi_environ(received)
        length = int(declared) if declared else -1
        http11 = self.environ.get("SERVER_PROTOCOL") == "HTTP/1.1"
        self.head = Head(max(length, 0), keep_alive=False, expects_continue=False, http11=http11)
        return length

    def _cgi_environ(self, received: dict[str, str]) -> dict[str, str]:
        allowed = self._limits.uwsgi_variables
        environ = {key: value for key, value in received.items() if allowed or not key.startswith("UWSGI_")}
        environ.pop("wsgi.version", None)  # by it a request is known that has the server's own variables
        if "PATH_INFO" not in environ and "SCRIPT_NAME" not in environ and "DOCUMENT_URI" in environ:
            environ["PATH_INFO"] = environ["DOCUMENT_URI"]  # nginx's scgi_params say no more
        for key, value in (("SCRIPT_NAME", ""), ("PATH_INFO", ""), ("REQUEST_METHOD", "GET")):
            environ.setdefault(key, value)
        return environ


class FastcgiConnection(ScgiConnection):
    """FastCGI: everything in records, the end of an answer, too."""

    __slots__ = ("_ended", "_reader", "_size")

    def __init__(
        self, fd: int, peer: str, listener: Listener, limits: Limits, now: float, heads: HeadParser | None = None
    ) -> None:
        super().__init__(fd, peer, listener, limits, now, heads)
        self._reader = fastcgi.Reader(limits.head_bytes)
        self._size = 0
        self._ended = False

    def advance(self, data: bytes = b"") -> Next:
        """As `Connection.advance`."""
        reader = self._reader
        try:
            reader.feed(data)
        except ProtocolError as error:
            raise HeadError(0, str(error)) from error
        if reader.replies:
            Connection.send(self, reader.replies)
        if reader.params is None:
            self._buffer = data  # something has come: the clock for the rest of the head runs
            return Next.WAIT
        if self.head is None:
            self._buffer = b""
            self._begin(reader.params)
            self.body = io.BytesIO()
        if reader.body:
            self._keep(reader.body)
        if not reader.done:
            return Next.WAIT
        return self._whole()

    def send(self, data: bytes) -> None:
        """As `Sender.send`, in records."""
        Connection.send(self, fastcgi.output(self._reader.request, self._told(data)))

    def send_last(self, data: bytes) -> None:
        """As `Sender.send_last`, with the end of the answer."""
        self._ended = True
        request = self._reader.request
        Connection.send_last(self, fastcgi.output(request, self._told(data)) + fastcgi.end(request))

    def send_file(self, head: bytes, part: FilePart) -> None:
        """As `Sender.send_file`; the bytes have to pass through here, and the front end takes them as they come."""
        self.send(head)
        at, left = part.start, part.length
        while left:
            piece = os.pread(part.fd, min(left, fastcgi.MOST_BYTES), at)
            if not piece:
                raise ClientGoneError("the file became shorter while it was sent")
            self.send(piece)
            at, left = at + len(piece), left - len(piece)

    def ending(self) -> Next:
        """As `Connection.ending`, when the front end knows that this was all."""
        if not self._ended:
            self.send_last(b"")
        return super().ending()

    def interject(self, data: bytes) -> None:
        """As `Sender.interject`."""
        request = self._reader.request
        Connection.interject(self, fastcgi.output(request, self._told(data)) + fastcgi.end(request))

    def linger(self, now: float) -> None:
        """As `Connection.linger`."""
        Connection.send(self, fastcgi.end(self._reader.request))
        super().linger(now)

    def _keep(self, data: bytes) -> None:
        assert self.body is not None
        limit = self._limits.body_bytes
        self._size += len(data)
        if limit and self._size > limit:
            raise HeadError(413, TOO_BIG)
        self.body.write(data)
        if not self._spooled and self._size > self._limits.body_memory_bytes:
            self._spool()

    def _whole(self) -> Next:
        declared = self.environ.get("CONTENT_LENGTH", "")
        if declared and int(declared) != self._size:
            raise HeadError(400, "a body of another length than announced")
        if self._size:
            self.environ["CONTENT_LENGTH"] = str(self._size)
        return self._body_ready()
