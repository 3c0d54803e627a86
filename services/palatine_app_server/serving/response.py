"""One WSGI response (PEP 3333): from `start_response` to bytes, framed for HTTP/1.1 or for a uwsgi front end.

It must never hold more of a streamed body than the piece in hand, and never block longer than the socket timeout.
"""

import functools
import re
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Protocol

from palatine.errors import PalatineError
from palatine_app_server.serving.clients import ClientGoneError
from palatine_app_server.serving.file_parts import FilePart
from palatine_app_server.serving.file_wrapper import FileWrapper

ExcInfo = tuple[type[BaseException], BaseException, TracebackType]
#: A piece of a body. PEP 3333 says bytes; whatever else goes over the wire as it is was never refused.
Piece = bytes | bytearray | memoryview

_STATUS = re.compile(r"([1-9][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")
_LENGTH_LINE = re.compile(r"^content-length: [^\r]*\r\n", re.IGNORECASE | re.MULTILINE)
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_HARMLESS: Final = 0
_LENGTH: Final = 1
_DATE: Final = 2
_CONNECTION: Final = 3
_CODING: Final = 4
#: Headers whose presence changes the framing.
_KINDS: Final = {
    "content-length": _LENGTH,
    "date": _DATE,
    "connection": _CONNECTION,
    "transfer-encoding": _CODING,
}
#: `HTTP/1.1 ` before the status, the line's CRLF and that of the empty line behind the head.
_HEAD_OVERHEAD: Final = 13


class ResponseError(PalatineError):
    """The app broke PEP 3333: a malformed status, header or body."""


class Output(Protocol):
    """Where a response goes: takes everything or raises OSError."""

    def send(self, data: bytes) -> None:
        """Write all of `data`, waiting for a slow reader up to the socket timeout."""

    def send_last(self, data: bytes) -> None:
        """The same for the end of the response, without waiting for a slow reader."""

    def send_parting(self, data: bytes) -> None:
        """The same for a whole response, after which nothing is left to do but to close."""

    def send_file(self, head: bytes, part: FilePart) -> None:
        """Write the head and a part of a file, the end of the response, likewise."""


class Response:
    """The state of one response; `start_response` and `write` are what the app is given.

    `body_bytes` counts what the app produced, `header_count` and `header_bytes` are the figures of uWSGI's request
    line: the app's own headers and the size uWSGI would have sent them in.
    """

    __slots__ = (
        "_close",
        "_content_length",
        "_date",
        "_excess",
        "_framed",
        "_has_date",
        "_head_only",
        "_headers",
        "_http11",
        "_may_keep",
        "_output",
        "_status",
        "_version",
        "_without_body",
        "body_bytes",
        "chunked",
        "head_sent",
        "header_bytes",
        "header_count",
        "keep_alive",
        "status",
        "switches",
    )

    def __init__(
        self,
        output: Output,
        may_keep: Callable[[], bool],
        date: str,
        framed: bool,  # noqa: FBT001 - once a request, and keywords cost a tenth of all it costs
        http11: bool,  # noqa: FBT001
        keep_alive: bool,  # noqa: FBT001
        head_only: bool,  # noqa: FBT001
    ) -> None:
        self._output = output
        self._framed = framed
        self._version = "HTTP/1.1" if framed or http11 else "HTTP/1.0"  # what uWSGI's front ends are used to
        self._http11 = http11
        self._head_only = head_only
        self._without_body = False  # decided with the head
        self._excess = 0
        self._date = date
        self._may_keep = may_keep
        self._headers: str | None = None
        self._status = ""
        self._content_length = -1
        self._has_date = False
        self._close = False
        self.keep_alive = keep_alive
        self.head_sent = False
        self.chunked = False
        self.status = 0
        self.switches = 0
        self.body_bytes = 0
        self.header_count = 0
        self.header_bytes = 0

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333's callable; replaces an unsent head when `exc_info` is given, re-raises it once the head is out."""
        if exc_info is not None:
            if self.head_sent:
                raise exc_info[1].with_traceback(exc_info[2])
        elif self._headers is not None:
            raise ResponseError("start_response called twice")
        self.status = _status_code(status)
        self._content_length = -1
        self._has_date = self._close = False
        text = ""
        for name, value in headers:
            line, kind = _header(name, value)
            text += line
            if kind != _HARMLESS:
                self._note_framing(kind, value)
        wrong = self._content_length >= 0 and (self.status == 204 or self.status < 200)  # RFC 9110 8.6
        self._headers = _LENGTH_LINE.sub("", text) if wrong else text
        self._status = status
        self.header_count = len(headers)
        self.header_bytes = len(status) + len(text) + _HEAD_OVERHEAD
        return self.write

    def write(self, data: Piece) -> None:
        """PEP 3333's imperative way to send a piece of the body."""
        head = b"" if self.head_sent else self._head(-1)
        piece = self._piece(data if isinstance(data, bytes) else b"".join([data]))
        piece = head + piece if head else piece
        if piece:
            self.head_sent = True
            self._output.send(piece)
        if self._excess:
            raise self._wrong_length()

    def send_result(self, result: Iterable[Piece]) -> None:
        """Send what the app returned and finish the response."""
        if isinstance(result, (list, tuple)) and not self.head_sent:
            # an empty text is what many apps redirect with, and uWSGI sends as nothing
            body = (result[0] or b"") if len(result) == 1 else b"".join(filter(None, result))
            self.switches = len(result)
            self._send_whole(body, closing=type(result) is list)  # a list has no close() the app could work in
            return
        if isinstance(result, FileWrapper) and not self.head_sent and self._send_file(result):
            return
        counted = not isinstance(result, FileWrapper)
        for piece in result:
            self.switches += counted
            if piece:
                self.write(piece)
        if not self.head_sent:
            self._send_whole(b"")
        elif self.chunked:
            self._output.send_last(b"0\r\n\r\n")
        elif self.body_bytes < self._content_length and not self._without_body:
            raise self._wrong_length()

    def send_plain(self, status: str, text: str) -> None:
        """A short plain-text answer of the server itself, replacing an unsent head."""
        self._headers = None
        body = text.encode()
        self.start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        self._send_whole(body)

    def without_body(self) -> None:
        """Whatever the headers say, no body follows: the answer to HEAD over a protocol that does not tell."""
        self._head_only = True

    def abandon(self) -> None:
        """Somebody else answered this request: whatever the app still sends goes nowhere."""
        self.head_sent = True
        self.keep_alive = False
        self._output = _Nowhere()

    def _send_file(self, wrapper: FileWrapper) -> bool:
        """Send a regular file without reading it; whether that could be done."""
        part = wrapper.part()
        if part is None or self._content_length > part.length:
            return False
        if self._content_length >= 0:
            part = part._replace(length=self._content_length)
        head = self._head(part.length)
        self.head_sent = wrapper.sent = True
        self.body_bytes = part.length
        if self._without_body or not part.length:
            self._output.send_last(head)
        else:
            self._output.send_file(head, part)
        return True

    def _send_whole(self, body: Piece, *, closing: bool = False) -> None:
        data = self._head(len(body))
        wrong = 0 <= self._content_length != len(body) and not self._without_body
        if not self._without_body:
            data += body[: self._content_length] if wrong else body
        self.body_bytes = len(body)
        self.head_sent = True
        if closing and not self.keep_alive:
            self._output.send_parting(data)
        else:
            self._output.send_last(data)
        if wrong:
            raise self._wrong_length()

    def _piece(self, data: bytes) -> bytes:
        """`data` as it goes over the wire: nothing behind the declared length, where a next response would be read."""
        self.body_bytes += len(data)
        if self._without_body or not data:
            return b""
        if 0 <= self._content_length < self.body_bytes:
            self._excess = self.body_bytes - self._content_length
            return data[: max(0, len(data) - self._excess)]
        return b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data

    def _wrong_length(self) -> ResponseError:
        self.keep_alive = False
        return ResponseError(
            f"the app declared a Content-Length of {self._content_length} and sent {self.body_bytes} bytes"
        )

    def _note_framing(self, kind: int, value: str) -> None:
        if kind == _LENGTH:
            if not value.isascii() or not value.isdigit():
                raise ResponseError(f"malformed Content-Length {value!r}")
            self._content_length = int(value)
        elif kind == _DATE:
            self._has_date = True
        elif kind == _CODING and self._framed:
            raise ResponseError("Transfer-Encoding is the server's business")
        elif kind == _CONNECTION and "close" in value.lower():
            self._close = True

    def _head(self, whole: int) -> bytes:
        """The bytes of the head; `whole` is the body's length where it is known, else -1."""
        if self._headers is None:
            raise ResponseError("the app sent a body before start_response")
        status = self.status
        bodiless = status < 200 or status == 204 or status == 304  # noqa: PLR1714 - half the price
        self._without_body = bodiless or self._head_only
        if not self._framed:
            return f"{self._version} {self._status}\r\n{self._headers}\r\n".encode("latin-1")
        keep = self.keep_alive and not self._close and self._may_keep()
        extra = "" if self._has_date else f"Date: {self._date}\r\n"
        if self._content_length >= 0:
            keep = keep and (whole == self._content_length or whole < 0 or self._without_body)
        elif not bodiless:
            if whole > 0 or (whole == 0 and not self._head_only):
                extra += f"Content-Length: {whole}\r\n"
            elif whole == 0:
                pass  # an empty answer to HEAD says nothing about the length of GET's
            elif self._http11:
                self.chunked = not self._head_only
                extra += "Transfer-Encoding: chunked\r\n"
            else:
                keep = False
        self.keep_alive = keep
        if not keep:
            extra += "" if self._close else "Connection: close\r\n"
        elif not self._http11:
            extra += "Connection: keep-alive\r\n"
        return f"{self._version} {self._status}\r\n{self._headers}{extra}\r\n".encode("latin-1")


@functools.lru_cache(maxsize=256)
def _status_code(status: str) -> int:
    found = _STATUS.fullmatch(status)
    if found is None:
        raise ResponseError(f"malformed status {status!r}")
    return int(found[1])


@functools.lru_cache(maxsize=256)
def _header(name: str, value: str) -> tuple[str, int]:
    """A header's line and its kind. Apps send most of theirs again and again, and a good one stays good."""
    line = ": ".join((name, value))  # noqa: FLY002 - bytes or numbers are a mistake, and not to be sent as their repr()
    if "\n" in line or "\r" in line or "\0" in line:
        raise ResponseError("a header holds a line end or NUL")
    return line + "\r\n", _KINDS.get(name.lower(), _HARMLESS)


class _Nowhere:
    """The output of an abandoned response."""

    def send(self, data: bytes) -> None:
        raise ClientGoneError(f"the request was answered already: {len(data)} bytes dropped")

    def send_last(self, data: bytes) -> None:
        self.send(data)

    def send_parting(self, data: bytes) -> None:
        self.send(data)

    def send_file(self, head: bytes, part: FilePart) -> None:
        del part
        self.send(head)


def http_date(now: int) -> str:
    """Unix time `now` in seconds as an IMF-fixdate (RFC 9110 5.6.7)."""
    moment = time.gmtime(now)
    return (
        f"{_DAYS[moment.tm_wday]}, {moment.tm_mday:02d} {_MONTHS[moment.tm_mon - 1]} {moment.tm_year} "
        f"{moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d} GMT"
    )
