"""The chunked transfer coding (RFC 9112 section 7.1), decoded incrementally and strictly. Plain, sans-io."""

import re
from typing import Final

from palatine.codec.http_head import HeadError

#: A chunk-size line longer than this carries extensions nobody needs.
SIZE_LINE_BYTES: Final = 256
#: Trailers are read and dropped, up to this many bytes in all.
TRAILER_BYTES: Final = 8192

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")


class ChunkedDecoder:
    """Feed it what arrives; it returns the body bytes found and knows when the body is over.

    After `done`, `rest` holds what belongs to the next request. Input is looked at once: a body of one-byte chunks
    must not cost more than its length.
    """

    def __init__(self) -> None:
        self.done = False
        self._buffer = b""
        self._left = 0  # bytes of the current chunk still to come, its CRLF included
        self._trailers = -1  # -1 before the last chunk, then the bytes of trailers seen

    @property
    def rest(self) -> bytes:
        """Bytes behind the end of the body."""
        return self._buffer if self.done else b""

    def feed(self, data: bytes) -> bytes:
        """The body bytes in `data` and what earlier calls left; HeadError (400 or 431) when the coding is broken."""
        return b"".join(self.pieces(data))

    def pieces(self, data: bytes) -> list[bytes]:
        """The same in pieces of chunks, with b"" behind the last piece of each."""
        buffer = self._buffer + data
        found: list[bytes] = []
        at = after = 0
        while after >= 0 and not self.done:
            at = after
            after = self._step(buffer, at, found)
        self._buffer = buffer[max(at, after) :]
        return found

    def _step(self, buffer: bytes, at: int, found: list[bytes]) -> int:
        """Read one thing at `at`; the offset behind it, -1 when more bytes must come first."""
        if self._left:
            return self._take_chunk(buffer, at, found)
        limit = TRAILER_BYTES if self._trailers >= 0 else SIZE_LINE_BYTES
        end = buffer.find(b"\r\n", at, at + limit + 2)
        if end < 0:
            if len(buffer) - at > limit + 1:  # one more: the CR of a line that just fits
                raise HeadError(431 if self._trailers >= 0 else 400, "chunk-size or trailer line too long")
            return -1
        line = buffer[at:end]
        if self._trailers >= 0:
            self._take_trailer(line)
        else:
            size = _SIZE_LINE.fullmatch(line)
            if size is None:
                raise HeadError(400, "malformed chunk size")
            count = int(size[1], 16)
            self._left = count + 2 if count else 0
            self._trailers = -1 if count else 0
        return end + 2

    def _take_chunk(self, buffer: bytes, at: int, found: list[bytes]) -> int:
        available = len(buffer) - at
        body = min(self._left - 2, available)
        if body > 0:
            found.append(buffer[at : at + body])
            self._left -= body
            return at + body
        ending = buffer[at : at + 2]
        if ending == b"\r\n":
            self._left = 0
            found.append(b"")
            return at + 2
        if ending not in {b"", b"\r"}:
            raise HeadError(400, "chunk without its line end")
        return -1

    def _take_trailer(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        self._trailers += len(line) + 2
        if self._trailers > TRAILER_BYTES:
            raise HeadError(431, "too many trailers")
        if _TRAILER.fullmatch(line) is None:
            raise HeadError(400, "malformed trailer")
