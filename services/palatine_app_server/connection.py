"""One client connection as a state machine over a raw descriptor: what has been read, and what is missing.

It never waits for a client while reading: `receive` returns what the worker should do next. Only `send` may wait, and
never longer than the socket timeout without progress.
"""

import enum
import io
import os
import select
import socket
import tempfile
from typing import IO, Final, NamedTuple

from palatine.codec import uwsgi_packet
from palatine.codec.http_chunked import ChunkedDecoder
from palatine.codec.http_head import Head, HeadError, parse_head
from palatine.errors import ProtocolError

READ_BYTES: Final = 65536
#: A body up to this size stays in memory; `post-buffering` replaces it.
BODY_MEMORY_BYTES: Final = 65536


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


class Listener(NamedTuple):
    """A bound socket a worker accepts from, and the variables every request that comes by it has in common."""

    socket: socket.socket
    fd: int
    name: str
    protocol: str  # "http" or "uwsgi"
    variables: dict[str, str]


class Connection:
    """See the module; the fields without underscore are the worker's to read."""

    __slots__ = (
        "_buffer",
        "_decoder",
        "_limits",
        "_missing",
        "_packet",
        "body",
        "deadline",
        "environ",
        "fd",
        "head",
        "listener",
        "peer",
        "registered",
        "served",
    )

    def __init__(self, fd: int, peer: str, listener: Listener, limits: Limits, now: float) -> None:
        self.fd = fd
        self.peer = peer
        self.listener = listener
        self.registered = False
        self.served = 0
        self.deadline = now + limits.read_seconds
        self.environ: dict[str, str] = {}
        self.head: Head | None = None
        self.body: IO[bytes] | None = None
        self._buffer = b""
        self._limits = limits
        self._missing = 0
        self._decoder: ChunkedDecoder | None = None
        self._packet: uwsgi_packet.PacketHeader | None = None

    @property
    def has_more(self) -> bool:
        """Bytes of a pipelined request are waiting already."""
        return bool(self._buffer)

    def receive(self, now: float) -> Next:
        """Read what is there. Raises HeadError when the client must be told off, OSError when it is gone."""
        try:
            data = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return Next.WAIT
        if not data:
            return Next.CLOSE
        if not self._buffer and self.head is None:
            self.deadline = now + self._limits.read_seconds  # the first byte starts the clock, the others do not
        return self.advance(data)

    def advance(self, data: bytes = b"") -> Next:
        """Use `data` and whatever was read before."""
        if self.head is not None:
            return self._read_body(data)
        self._buffer += data
        if self.listener.protocol == "uwsgi":
            return self._read_packet()
        return self._read_head()

    def finish(self, now: float) -> None:
        """The request was served and the connection is kept for the next one."""
        self.served += 1
        self._reset()
        self.deadline = now + self._limits.idle_seconds

    def send(self, data: bytes) -> None:
        """Send all of `data`; OSError when the client is gone, TimeoutError when it does not read."""
        try:
            sent = os.write(self.fd, data)
        except BlockingIOError:
            sent = 0
        if sent != len(data):
            self._send_slowly(memoryview(data)[sent:])

    def close(self) -> None:
        """Close the descriptor and drop a body."""
        self._reset()
        os.close(self.fd)

    def _send_slowly(self, rest: memoryview) -> None:
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        while rest:
            if not poll.poll(self._limits.write_seconds * 1000):
                raise TimeoutError("the client does not read")
            try:
                rest = rest[os.write(self.fd, rest) :]
            except BlockingIOError:
                continue

    def _reset(self) -> None:
        if self.body is not None:
            self.body.close()
        self.body = self.head = self._decoder = self._packet = None
        self.environ = {}
        self._missing = 0

    def _read_head(self) -> Next:
        buffer = self._buffer
        if buffer.startswith(b"\r\n"):
            buffer = self._buffer = buffer[2:]  # RFC 9112 2.2: one empty line before a request is forgiven
        end = buffer.find(b"\r\n\r\n")
        limit = self._limits.head_bytes
        if end > limit or (end < 0 and len(buffer) > limit):
            raise HeadError(431, f"request head over buffer-size ({limit} bytes)")
        if end < 0:
            return Next.WAIT
        self.environ = self._common()
        self.head = parse_head(buffer[:end], self.environ)
        self._buffer = b""
        rest = buffer[end + 4 :]
        if self.head.length == 0:
            self._buffer = rest
            return Next.SERVE
        return self._expect_body(rest)

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
        if len(self._buffer) < packet.size:
            return Next.WAIT
        self.environ = self._packet_environ(self._buffer[: packet.size])
        rest, self._buffer = self._buffer[packet.size :], b""
        declared = self.environ.get("CONTENT_LENGTH", "")
        length = int(declared) if declared.isascii() and declared.isdigit() else 0
        self.head = Head(length, keep_alive=False, expects_continue=False, http11=False)
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
        environ = {key: value for key, value in received.items() if not key.startswith("UWSGI_")}
        script = environ.setdefault("SCRIPT_NAME", "")
        path = environ.setdefault("PATH_INFO", "")
        environ.setdefault("REQUEST_METHOD", "GET")
        if self._packet.modifier1 == uwsgi_packet.WSGI_STRIP_SCRIPT_NAME and script and path.startswith(script):
            environ["PATH_INFO"] = path[len(script) :]
        return environ

    def _common(self) -> dict[str, str]:
        environ = self.listener.variables.copy()
        environ["REMOTE_ADDR"] = self.peer
        return environ

    def _expect_body(self, data: bytes) -> Next:
        assert self.head is not None
        limit = self._limits.body_bytes
        if limit and self.head.length > limit:
            raise HeadError(413, f"request body over limit-post ({limit} bytes)")
        if self.head.length < 0:
            self._decoder = ChunkedDecoder()
        self._missing = self.head.length
        self.body = (
            io.BytesIO()
            if 0 < self.head.length <= self._limits.body_memory_bytes
            else tempfile.SpooledTemporaryFile(self._limits.body_memory_bytes)  # noqa: SIM115 - closed in _reset
        )
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
        if self._limits.body_bytes and self.body.tell() > self._limits.body_bytes:
            raise HeadError(413, f"request body over limit-post ({self._limits.body_bytes} bytes)")
        if not self._decoder.done:
            return Next.WAIT
        self._buffer = self._decoder.rest
        # the app sees a body of known length: what it cannot read wrong, it will not
        self.environ["CONTENT_LENGTH"] = str(self.body.tell())
        return self._body_ready()

    def _body_ready(self) -> Next:
        assert self.body is not None
        self.body.seek(0)
        return Next.SERVE
