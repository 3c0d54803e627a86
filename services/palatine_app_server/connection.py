"""One client connection as a state machine over a raw descriptor: what has been read, and what is missing.

It never waits for a client while reading: `receive` returns what the worker should do next. Only `send` may wait, and
never longer than the socket timeout without progress; the end of a response is left to `flush` where a client is slow.
"""

import enum
import io
import os
import re
import select
import socket
import time
from typing import IO, Any, Final, NamedTuple

from palatine.codec import uwsgi_packet
from palatine.codec.http_chunked import ChunkedDecoder
from palatine.codec.http_head import Head, HeadError, HeadParser
from palatine.errors import ProtocolError
from palatine_app_server.file_parts import FilePart, UnsentFile

READ_BYTES: Final = 65536
#: A body up to this size stays in memory; `post-buffering` replaces it.
BODY_MEMORY_BYTES: Final = 65536
#: What a slow reader has not taken of a response waits in memory, up to this many bytes a connection, and no thread
#: waits with it.
UNSENT_BYTES: Final = 1024 * 1024
#: After a refusal what the client still sends is read and dropped this long: closing at once would reset the
#: connection, and the client might never see the answer (RFC 9112 9.6).
LINGER_SECONDS: Final = 2.0

_BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?=[^\n])")
#: More digits than this are no length, and int() of thousands of them is an error of its own.
_DIGITS = re.compile(r"[0-9]{1,18}")


class ClientGoneError(OSError):
    """The client closed the connection, or does not read what it asked for."""


class Limits(NamedTuple):
    """What the config allows a client: sizes in bytes, times in seconds."""

    head_bytes: int = 4096
    body_bytes: int = 0  # limit-post; 0: no limit
    body_memory_bytes: int = BODY_MEMORY_BYTES
    read_seconds: float = 4.0
    write_seconds: float = 4.0
    idle_seconds: float = 30.0


class Next(enum.Enum):
    """What to do with a connection after reading from it."""

    WAIT = 1  # for more bytes
    SERVE = 2  # a request is complete: `environ`, `head` and `body` are set
    CLOSE = 3
    PING = 4  # the uwsgi protocol's: no request
    TURN = 5  # a pipelined request waits: `receive` reads it, when the others have had their turn


#: Each of them ten times a request: an enum's members are looked up slowly.
_WAIT, _SERVE, _CLOSE, _TURN = Next.WAIT, Next.SERVE, Next.CLOSE, Next.TURN


class Listener(NamedTuple):
    """A bound socket a worker accepts from, and the variables every request that comes by it has in common."""

    socket: socket.socket
    fd: int
    name: str
    protocol: str  # "http" or "uwsgi"
    variables: dict[str, str]
    tls: Any = None  # the ssl.SSLContext of an HTTPS socket


class Connection:
    """See the module; the fields without underscore are the worker's to read."""

    __slots__ = (
        "_buffer",
        "_decoder",
        "_heads",
        "_limits",
        "_lingering",
        "_missing",
        "_packet",
        "_spooled",
        "body",
        "closing",
        "deadline",
        "environ",
        "fd",
        "framed",
        "head",
        "listener",
        "peer",
        "pipelined",
        "served",
        "unsent",
        "watched",
        "write_wait",
    )

    def __init__(
        self, fd: int, peer: str, listener: Listener, limits: Limits, now: float, heads: HeadParser | None = None
    ) -> None:
        """`heads` is the parser of this listener's heads, shared by all its connections: it learns from each."""
        self.fd = fd
        self.peer = peer
        self.listener = listener
        self.watched = -1  # the events it is registered for in the worker's epoll set
        self.served = 0
        self.write_wait = 0.0  # seconds a thread has waited in this request for the client to take what was sent
        self.deadline = now + limits.read_seconds
        self.framed = listener.protocol != "uwsgi"  # whether HTTP's framing is ours to do, or the front end's
        self.environ: dict[str, Any] = {}
        self.head: Head | None = None
        self.body: IO[bytes] | None = None
        self.unsent: memoryview | UnsentFile | None = None
        self.closing = False  # nothing but `unsent` keeps it open
        self.pipelined = False  # `receive` has something to do though nothing comes from the client
        self._heads = heads or HeadParser(listener.variables)
        self._lingering = False
        self._buffer = b""
        self._limits = limits
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
            self.deadline = now + self._limits.read_seconds
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
            self.deadline = now + self._limits.read_seconds
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
        if self.unsent is not None:
            self.deadline = time.monotonic() + self._limits.write_seconds
            return _WAIT
        if not self._buffer:
            return _WAIT
        self.pipelined = True
        return _TURN

    def ending(self) -> Next:
        """What to do after the last response: close, once the client has all of it."""
        if self.unsent is None:
            return _CLOSE
        self.deadline = time.monotonic() + self._limits.write_seconds
        self.closing = True
        return Next.WAIT

    def send(self, data: bytes) -> None:
        """Send all of `data`; ClientGoneError when the client is gone or does not read."""
        rest = self._write(data)
        if rest is not None:
            self._send_slowly(rest, 0)

    def send_last(self, data: bytes) -> None:
        """Send the end of a response: what the client does not take at once becomes `unsent`, within limits."""
        rest = self._write(data)
        if rest is not None:
            self.unsent = self._send_slowly(rest, UNSENT_BYTES) or None

    def send_file(self, head: bytes, part: FilePart) -> None:
        """Send a head and a part of a file; whatever the client does not take at once becomes `unsent`."""
        if part.length <= READ_BYTES:
            body = os.pread(part.fd, part.length, part.start)
            if len(body) < part.length:
                raise ClientGoneError(f"the file ended {part.length - len(body)} bytes early")
            self.send_last(head + body)
            return
        self.send(head)
        self.unsent = UnsentFile(part)
        self.unsent = self.unsent.pass_on(self)

    def send_from(self, fd: int, start: int, length: int) -> int:
        """Send of a file what the client takes now: how many bytes; ClientGoneError."""
        try:
            sent = os.sendfile(self.fd, fd, start, length)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ClientGoneError(error.errno, error.strerror) from error
        if not sent:
            raise ClientGoneError("the file became shorter while it was sent")
        return sent

    def flush(self, now: float) -> Next:
        """Send of `unsent` what the client takes now; ClientGoneError."""
        assert self.unsent is not None
        left = len(self.unsent)
        rest = self._write(self.unsent) if isinstance(self.unsent, memoryview) else self.unsent.pass_on(self)
        if rest is None or len(rest) < left:
            self.deadline = now + (self._limits.write_seconds if rest else self._limits.idle_seconds)
        self.unsent = rest
        if rest is not None:
            return Next.WAIT
        if self.closing:
            return Next.CLOSE
        return self.advance() if self._buffer else Next.WAIT

    def pong(self) -> None:
        """Answer the uwsgi protocol's ping as uWSGI does."""
        self.send(uwsgi_packet.encode_header(uwsgi_packet.PacketHeader(uwsgi_packet.PING, 0, 1)))

    def interject(self, data: bytes) -> None:
        """Send what fits, from a signal handler: the last words of a request that took too long. OSError."""
        os.write(self.fd, data)

    def linger(self, now: float) -> None:
        """Say no more, and listen a while so that the client can read what was said. OSError when it is gone."""
        self._lingering = True
        self.deadline = now + LINGER_SECONDS
        end = socket.socket(fileno=os.dup(self.fd))
        try:
            end.shutdown(socket.SHUT_WR)
        finally:
            end.close()

    def close(self) -> None:
        """Close the descriptor and drop a body."""
        self._reset()
        if isinstance(self.unsent, UnsentFile):
            self.unsent.close()
        os.close(self.fd)

    def _write(self, data: bytes | memoryview) -> memoryview | None:
        """What the kernel did not take; None when it took everything."""
        try:
            sent = os.write(self.fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientGoneError(error.errno, error.strerror) from error
        return None if sent == len(data) else memoryview(data)[sent:]

    def _send_slowly(self, rest: memoryview, most: int) -> memoryview:
        """Send until at most `most` bytes are left, and return those."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        began = time.monotonic()
        try:
            while len(rest) > most:
                if not poll.poll(self._limits.write_seconds * 1000):
                    raise ClientGoneError("the client does not read")
                rest = self._write(rest) or rest[:0]
        finally:
            self.write_wait += time.monotonic() - began
        return rest

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
            raise HeadError(431, f"request head over buffer-size ({limit} bytes)")
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
            self._packet = uwsgi_packet.parse_header(self._buffer)
            self._buffer = self._buffer[uwsgi_packet.HEADER_BYTES :]
            if self._packet.size > self._limits.head_bytes:
                raise HeadError(
                    0, f"invalid request block size: {self._packet.size} (max {self._limits.head_bytes})...skip"
                )
        packet = self._packet
        if packet.modifier1 == uwsgi_packet.PING:
            return Next.PING
        if len(self._buffer) < packet.size:
            return Next.WAIT
        self.environ = self._packet_environ(self._buffer[: packet.size])
        rest, self._buffer = self._buffer[packet.size :], b""
        declared = self.environ.get("CONTENT_LENGTH", "")
        length = int(declared) if _DIGITS.fullmatch(declared) else 0
        http11 = self.environ.get("SERVER_PROTOCOL") == "HTTP/1.1"
        self.head = Head(length, keep_alive=False, expects_continue=False, http11=http11)
        return self._expect_body(rest) if length else Next.SERVE

    def _packet_environ(self, block: bytes) -> dict[str, str]:
        assert self._packet is not None
        if self._packet.modifier1 not in {uwsgi_packet.WSGI, uwsgi_packet.WSGI_STRIP_SCRIPT_NAME}:
            raise HeadError(0, f"-- unavailable modifier requested: {self._packet.modifier1} --")
        try:
            received = uwsgi_packet.parse_vars(block)
        except ProtocolError as error:
            raise HeadError(0, str(error)) from error
        if not received:
            raise HeadError(0, "Empty python request. skip.")
        environ = {
            key: value for key, value in received.items() if not key.startswith("UWSGI_") or key == "UWSGI_SCHEME"
        }
        script = environ.setdefault("SCRIPT_NAME", "")
        path = environ.setdefault("PATH_INFO", "")
        environ.setdefault("REQUEST_METHOD", "GET")
        if self._packet.modifier1 == uwsgi_packet.WSGI_STRIP_SCRIPT_NAME and script and path.startswith(script):
            environ["PATH_INFO"] = path[len(script) :]
        return environ

    def _expect_body(self, data: bytes) -> Next:
        assert self.head is not None
        limit = self._limits.body_bytes
        if limit and self.head.length > limit:
            raise HeadError(413, f"request body over limit-post ({limit} bytes)")
        if self.head.length < 0:
            self._decoder = ChunkedDecoder()
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
            raise HeadError(413, f"request body over limit-post ({self._limits.body_bytes} bytes)")
        if not self._decoder.done:
            return Next.WAIT
        self._buffer = self._decoder.rest
        # the app sees a body of known length: what it cannot read wrong, it will not
        self.environ["CONTENT_LENGTH"] = str(self.body.tell())
        return self._body_ready()

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


def unnamed_file() -> IO[bytes]:
    """A file in `$TMPDIR`, else /tmp, that no name leads to (open(2), O_TMPFILE)."""
    directory = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - without a name there is nothing to guess
    try:
        return open(os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), "w+b")
    except OSError:  # no such directory, or a file system that does not know it: tempfile finds another
        from tempfile import TemporaryFile  # a third of a megabyte, for the few

        return TemporaryFile()
