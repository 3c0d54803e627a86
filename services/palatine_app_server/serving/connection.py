"""One client connection as a state machine over a raw descriptor: what has been read, and what is missing.

It never waits for a client: `receive` returns what the worker should do next, and the end of a response is left to
`flush` where a client is slow.
"""

import io
import os
import re
import time
from typing import IO, Any, Final

from palatine.codec import uwsgi_packet
from palatine.codec.http_chunked import ChunkedDecoder
from palatine.codec.http_head import Head, HeadError, HeadParser
from palatine.errors import ProtocolError
from palatine_app_server.serving.clients import READ_BYTES, Limits, Listener, Next
from palatine_app_server.serving.file_parts import unnamed_file
from palatine_app_server.serving.sending import Sender

#: After a refusal what the client still sends is read and dropped this long: closing at once would reset the
#: connection, and the client might never see the answer (RFC 9112 9.6).
LINGER_SECONDS: Final = 2.0

#: uWSGI's words.
TOO_BIG: Final = "Invalid (too big) CONTENT_LENGTH. skip."

_BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?=[^\n])")
#: More digits than this are no length, and int() of thousands of them is an error of its own.
_DIGITS = re.compile(r"[0-9]{1,18}")


#: Each of them ten times a request: an enum's members are looked up slowly.
_WAIT: Final = Next.WAIT
_SERVE: Final = Next.SERVE
_CLOSE: Final = Next.CLOSE
_TURN: Final = Next.TURN


class Connection(Sender):
    """See the module; the fields without underscore are the worker's to read."""

    __slots__ = (
        "_buffer",
        "_decoder",
        "_heads",
        "_lingering",
        "_missing",
        "_packet",
        "_spooled",
        "body",
        "closing",
        "deadline",
        "environ",
        "framed",
        "head",
        "listener",
        "peer",
        "pipelined",
        "served",
        "signal",
        "watched",
    )

    def __init__(
        self, fd: int, peer: str, listener: Listener, limits: Limits, now: float, heads: HeadParser | None = None
    ) -> None:
        """`heads` is the parser of this listener's heads, shared by all its connections: it learns from each."""
        super().__init__(fd, limits)
        self.peer = peer
        self.listener = listener
        self.watched = -1  # the events it is registered for in the worker's epoll set
        self.served = 0
        self.signal = 0  # that a packet of the uwsgi protocol wants raised
        self.deadline = now + (limits.head_seconds or limits.read_seconds)
        self.framed = listener.protocol != "uwsgi"  # whether HTTP's framing is ours to do, or the front end's
        self.environ: dict[str, Any] = {}
        self.head: Head | None = None
        self.body: IO[bytes] | None = None
        self.closing = False  # nothing but `unsent` keeps it open
        self.pipelined = False  # `receive` has something to do though nothing comes from the client
        self._heads = heads or HeadParser(listener.variables)
        self._lingering = False
        self._buffer = b""
        self._missing = 0
        self._spooled = False
        self._decoder: ChunkedDecoder | None = None
        self._packet: uwsgi_packet.PacketHeader | None = None

    @property
    def idle(self) -> bool:
        """Between two requests: nobody loses anything when it is closed."""
        return not (self._buffer or self.head or self.unsent or self._lingering) and self.served > 0

    def receive(self, now: float) -> Next:
        """Read what is there. Raises HeadError when the client must be told off, OSError when it is gone."""
        if self.pipelined:
            self.pipelined = False
            self.deadline = now + (self._limits.head_seconds or self._limits.read_seconds)
            return self.advance()
        try:
            data = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return _WAIT
        if not data:
            return _CLOSE
        if self._lingering:
            return _WAIT
        # each piece of a body starts the clock anew; of a head only the first byte does
        begins = self.head is not None or not self._buffer
        step = self.advance(data)
        if step is _WAIT and begins:
            seconds = self._limits.head_seconds if self.head is None else 0.0
            self.deadline = now + (seconds or self._limits.read_seconds)
        return step

    def advance(self, data: bytes = b"") -> Next:
        """Use `data` and whatever was read before."""
        if self.head is not None:
            return self._read_body(data)
        self._buffer = self._buffer + data if self._buffer else data
        return self._read_head(len(data)) if self.framed else self._read_packet()

    def finish(self, now: float) -> None:
        """The request was served and the connection is kept for the next one."""
        self.served += 1
        self.write_wait = 0.0
        self.environ = {}
        if self.body is None and self.framed:
            self.head = None
        else:
            self._reset()
        self.deadline = now + self._limits.idle_seconds

    def following(self) -> Next:
        """What to do after a response on a connection that is kept."""
        if self.taken:
            self.retake()
        if self.unsent is not None:
            self.deadline = time.monotonic() + self._limits.write_seconds
            return _WAIT
        if not self._buffer:
            return _WAIT
        self.pipelined = True
        return _TURN

    def ending(self) -> Next:
        """What to do after the last response: close, once the client has all of it."""
        if self.taken:
            self.retake()
        if self.unsent is None:
            if self._decoder is None or self._decoder.done:
                return _CLOSE
            self.linger(time.monotonic())  # the app has not read all of its body
            return _WAIT
        self.deadline = time.monotonic() + self._limits.write_seconds
        self.closing = True
        return Next.WAIT

    def flush(self, now: float) -> Next:
        """Send of `unsent` what the client takes now; ClientGoneError."""
        if self.pass_on():
            self.deadline = now + (self._limits.write_seconds if self.unsent else self._limits.idle_seconds)
        if self.unsent is not None:
            return Next.WAIT
        if self.closing:
            return Next.CLOSE
        return self.advance() if self._buffer else Next.WAIT

    def shortfall(self) -> str:
        """What of a body has not come, in uWSGI's words; "" where none is awaited."""
        if self._missing > 0 and self.head is not None:
            length, left = self.head.length, self._missing
            return f"{left} bytes. Content-Length: {length} consumed: {length - left} left: {left}"
        if self._decoder is not None and not self._decoder.done and not self._lingering:
            return "a chunked body."
        return ""

    def take(self) -> bytes:
        """What came behind the request: the beginning of another protocol, where the app goes on with one."""
        data, self._buffer = self._buffer, b""
        return data

    def read(self) -> bytes:
        """What the client has sent; b"" at its end. BlockingIOError where nothing is there."""
        return os.read(self.fd, READ_BYTES)

    def pong(self) -> None:
        """Answer the uwsgi protocol's ping as uWSGI does."""
        self.send(uwsgi_packet.encode_header(uwsgi_packet.PacketHeader(uwsgi_packet.PING, 0, 1)))

    def linger(self, now: float) -> None:
        """Say no more, and listen a while so that the client can read what was said. OSError when it is gone."""
        self._lingering = True
        self.deadline = now + LINGER_SECONDS
        self.end()

    def close(self) -> None:
        """Close the descriptor and drop a body."""
        self._reset()
        super().close()

    def _reset(self) -> None:
        if self.body is not None:
            self.body.close()
        self.body = self.head = self._decoder = self._packet = None
        self.environ = {}
        self._missing = 0
        self._spooled = False

    def _read_head(self, fresh: int) -> Next:
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):
            buffer = self._buffer = buffer[2:]  # RFC 9112 2.2: empty lines before a request are forgiven
        end = buffer.find(b"\r\n\r\n")
        limit = self._limits.head_bytes
        if end > limit or (end < 0 and len(buffer) > limit):
            raise HeadError(431, f"invalid HTTP request size (max {limit})...skip")
        if end < 0:
            if _BARE_LINE_END.search(buffer, max(0, len(buffer) - fresh - 1) if fresh else 0):
                raise HeadError(400, "line end that is not CRLF")
            return Next.WAIT
        self.environ, self.head = self._heads.parse(buffer[:end])
        self.environ["REMOTE_ADDR"] = self.peer
        if self.head.length == 0:
            self._buffer = buffer[end + 4 :]
            return _SERVE
        self._buffer = b""
        return self._expect_body(buffer[end + 4 :])

    def _read_packet(self) -> Next:
        if self._packet is None:
            if len(self._buffer) < uwsgi_packet.HEADER_BYTES:
                return Next.WAIT
            packet = uwsgi_packet.parse_header(self._buffer)
            if packet.size > self._limits.head_bytes:
                raise HeadError(0, f"invalid request block size: {packet.size} (max {self._limits.head_bytes})...skip")
            kind = self._limits.modifiers.get(packet.modifier1)
            if kind is None:
                raise HeadError(0, f"-- unavailable modifier requested: {packet.modifier1} --")
            self._packet = packet if kind == packet.modifier1 else packet._replace(modifier1=kind)
            self._buffer = self._buffer[uwsgi_packet.HEADER_BYTES :]
        packet = self._packet
        if packet.modifier1 == uwsgi_packet.PING:
            return Next.PING
        if len(self._buffer) < packet.size:
            return Next.WAIT
        if packet.modifier1 == uwsgi_packet.SIGNAL:
            self.signal = packet.modifier2
            return Next.SIGNAL
        self.environ = self._packet_environ(self._buffer[: packet.size])
        rest, self._buffer = self._buffer[packet.size :], b""
        declared = self.environ.get("CONTENT_LENGTH", "")
        length = int(declared) if _DIGITS.fullmatch(declared) else 0
        if self._limits.chunk_seconds and not declared and self.environ.get("HTTP_TRANSFER_ENCODING") == "chunked":
            length = -1  # a front end that does not wait for the body passes it on as it comes
        http11 = self.environ.get("SERVER_PROTOCOL") == "HTTP/1.1"
        self.head = Head(length, keep_alive=False, expects_continue=False, http11=http11)
        return self._expect_body(rest) if length else Next.SERVE

    def _packet_environ(self, block: bytes) -> dict[str, str]:
        assert self._packet is not None
        try:
            received = uwsgi_packet.parse_vars(block)
        except ProtocolError as error:
            raise HeadError(0, str(error)) from error
        if not received:
            raise HeadError(0, "Empty python request. skip.")
        environ = {
            key: value
            for key, value in received.items()
            if not key.startswith("UWSGI_") or key == "UWSGI_SCHEME" or self._limits.uwsgi_variables
        }
        environ.pop("wsgi.version", None)  # by it a request is known that has the server's own variables
        script = environ.get("SCRIPT_NAME", "")
        path = environ.setdefault("PATH_INFO", "")
        environ.setdefault("REQUEST_METHOD", "GET")
        if self._packet.modifier1 == uwsgi_packet.WSGI_STRIP_SCRIPT_NAME and script and path.startswith(script):
            environ["PATH_INFO"] = path[len(script) :]
        return environ

    def _expect_body(self, data: bytes) -> Next:
        assert self.head is not None
        limit = self._limits.body_bytes
        if limit and self.head.length > limit:
            raise HeadError(413, TOO_BIG)
        if self.head.expects_continue and 0 < self._limits.expected_bytes < self.head.length:
            raise HeadError(413, f"request body over http-manage-expect ({self._limits.expected_bytes} bytes)")
        if self.head.length < 0:
            self._decoder = ChunkedDecoder()
            if self._limits.chunk_seconds:
                return self._stream_chunks(self.head, self._decoder, data)
        self._missing = self.head.length
        self.body = io.BytesIO()
        if self.head.length > self._limits.body_memory_bytes:
            self._spool()
        if self.head.expects_continue and not data:
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return self._read_body(data)

    def _read_body(self, data: bytes) -> Next:
        assert self.body is not None
        if self._decoder is not None:
            return self._read_chunks(data)
        if len(data) > self._missing:
            data, self._buffer = data[: self._missing], data[self._missing :]
        self.body.write(data)
        self._missing -= len(data)
        return self._body_ready() if not self._missing else Next.WAIT

    def _read_chunks(self, data: bytes) -> Next:
        assert self.body is not None
        assert self._decoder is not None
        self.body.write(self._decoder.feed(data))
        if not self._spooled and self.body.tell() > self._limits.body_memory_bytes:
            self._spool()
        if self._limits.body_bytes and self.body.tell() > self._limits.body_bytes:
            raise HeadError(413, TOO_BIG)
        if not self._decoder.done:
            return Next.WAIT
        self._buffer = self._decoder.rest
        # the app sees a body of known length: what it cannot read wrong, it will not
        self.environ["CONTENT_LENGTH"] = str(self.body.tell())
        return self._body_ready()

    def _stream_chunks(self, head: Head, decoder: ChunkedDecoder, data: bytes) -> Next:
        """The app reads its body itself; how much of it is never sure, so no request follows."""
        from palatine_app_server.serving import chunked_body  # few configs want it

        self.body = chunked_body.reader(self, decoder, self._limits, data, expected=head.expects_continue)
        self.head = head._replace(keep_alive=False)
        return _SERVE

    def _spool(self) -> None:
        """The body is too long for memory: go on in a file without a name, which ends with its descriptor."""
        assert isinstance(self.body, io.BytesIO)
        file = unnamed_file()
        file.write(self.body.getbuffer())
        self.body, self._spooled = file, True

    def _body_ready(self) -> Next:
        assert self.body is not None
        self.body.seek(0)
        return Next.SERVE
