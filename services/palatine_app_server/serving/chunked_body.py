"""A chunked body an app reads as it comes: `uwsgi.chunked_read()`, or `wsgi.input`. Only where the config wants that.

The thread that serves the request waits for its client here, every time until a deadline: a client that stops costs
the app an OSError. What was sent as one chunk is read as one.
"""

import io
import select
import time
from collections import deque
from typing import Final

from palatine.codec.http_chunked import ChunkedDecoder
from palatine.codec.http_head import HeadError
from palatine_app_server.serving.clients import Limits
from palatine_app_server.serving.connection import Connection

#: uWSGI's words, which apps may look for.
REFUSED: Final = "unable to receive chunked part"


class ChunkedBody(io.RawIOBase):
    """What comes over `connection`, of which `data` has been read already; `expected`: the client waits for a 100."""

    def __init__(
        self, connection: Connection, decoder: ChunkedDecoder, limits: Limits, data: bytes, *, expected: bool
    ) -> None:
        self._connection = connection
        self._decoder = decoder
        self._limits = limits
        self._expected = expected and not data
        self._pieces: deque[bytes] = deque()  # b"" ends a chunk
        self._chunk: list[bytes] = []  # of the one that is being put together
        self._held = 0
        self._length = 0
        self._begun = data

    def readable(self) -> bool:
        """See io.RawIOBase."""
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # of bytes, nothing else
        """Some bytes of the body; 0 at its end. OSError where the client stops, or sends what is no chunk."""
        until = time.monotonic() + self._limits.read_seconds
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                if piece:
                    size = min(len(piece), len(buffer))
                    buffer[:size] = piece[:size]
                    if piece[size:]:
                        self._pieces.appendleft(piece[size:])
                    return size
            if not self._receive(until):
                return 0

    def chunk(self, seconds: int) -> bytes:
        """The next chunk, all of it within `seconds` (0: the config's, below 0: for ever); b"" behind all. OSError."""
        until = time.monotonic() + (seconds or self._limits.chunk_seconds) if seconds >= 0 else None
        while (found := self._whole()) is None:
            if not self._receive(until):
                return b""
        return found

    def chunk_now(self) -> bytes | None:
        """The same; None where it is not here yet."""
        now = time.monotonic()
        try:
            while (found := self._whole()) is None:
                if not self._receive(now):
                    return b""
        except TimeoutError:
            return None
        return found

    def _whole(self) -> bytes | None:
        while self._pieces:
            piece = self._pieces.popleft()
            self._chunk.append(piece)
            self._held += len(piece)
            if self._held > self._limits.chunk_bytes:
                break
            if not piece:
                found, self._held = b"".join(self._chunk), 0
                self._chunk.clear()
                return found
        if self._held > self._limits.chunk_bytes:
            raise OSError(f"{REFUSED}: it is over chunked-input-limit ({self._limits.chunk_bytes} bytes)")
        return None

    def _receive(self, until: float | None) -> bool:
        """Wait for more pieces; False where there are none. TimeoutError at a moment of the monotonic clock."""
        if self._expected:
            self._expected = False
            self._connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self._decoder.done:
            data, self._begun = self._begun or self._read(until), b""
            try:
                pieces = self._decoder.pieces(data)
            except HeadError as error:
                raise OSError(f"{REFUSED}: {error}") from error
            self._length += sum(map(len, pieces))
            if 0 < self._limits.body_bytes < self._length:
                raise OSError(f"{REFUSED}: the body is over limit-post ({self._limits.body_bytes} bytes)")
            if pieces:
                self._pieces += pieces
                return True
        return False

    def _read(self, until: float | None) -> bytes:
        while True:
            try:
                data = self._connection.read()
            except BlockingIOError:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(REFUSED) from None
                poll = select.poll()
                poll.register(self._connection.fd, select.POLLIN | select.POLLRDHUP)
                poll.poll(None if left is None else left * 1000 + 1)
                continue
            if not data:
                raise OSError(f"{REFUSED}: the client is gone")
            return data


def reader(
    connection: Connection, decoder: ChunkedDecoder, limits: Limits, data: bytes, *, expected: bool
) -> io.BufferedReader:
    """`wsgi.input` over a ChunkedBody."""
    return io.BufferedReader(ChunkedBody(connection, decoder, limits, data, expected=expected), 65536)
