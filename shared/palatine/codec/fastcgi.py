"""FastCGI records of a responder, and SCGI's head: what nginx's fastcgi_pass and scgi_pass speak. Plain, sans-io.

    version: u8 = 1   type: u8   request: u16   length: u16   padding: u8   reserved: u8   then content, padding

One request a connection, as front ends use it; a second at the same time is refused in the protocol's own words.
"""

import re
import struct
from typing import Final

from palatine.errors import ProtocolError

HEADER_BYTES: Final = 8
#: Content of one record.
MOST_BYTES: Final = 65535

_BEGIN, _ABORT, _END, _PARAMS, _STDIN, _STDOUT, _GET_VALUES, _VALUES, _UNKNOWN = 1, 2, 3, 4, 5, 6, 9, 10, 11
_RESPONDER: Final = 1
_DONE, _NO_MULTIPLEXING, _UNKNOWN_ROLE = 0, 1, 3
_HEADER: Final = struct.Struct(">BBHHBx")
_LONG: Final = struct.Struct(">I")
#: A request's longest SCGI head is buffer-size; this many digits say so.
_NETSTRING: Final = re.compile(rb"([1-9][0-9]{0,5}|0):")


def record(kind: int, request: int, content: bytes) -> bytes:
    """One record, without padding."""
    return _HEADER.pack(1, kind, request, len(content), 0) + content


def output(request: int, data: bytes | memoryview) -> bytes:
    """A piece of a response."""
    view = memoryview(data)
    pieces = range(0, len(view), MOST_BYTES)
    return b"".join(record(_STDOUT, request, bytes(view[at : at + MOST_BYTES])) for at in pieces)


def end(request: int) -> bytes:
    """The end of a response."""
    return record(_STDOUT, request, b"") + _ended(request, _DONE)


class Reader:
    """Feed it what arrives: `params` are the request's variables once they are all there, `body` what came of its body.

    `replies` is what has to be said to the front end meanwhile; `most_bytes` limits the variables.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._buffer = b""
        self._block = bytearray()
        self.request = 0
        self.params: dict[str, str] | None = None
        self.body = b""  # since the last `feed`
        self.done = False  # the body is all there
        self.replies = b""

    def feed(self, data: bytes) -> None:
        """Bytes from the front end. ProtocolError."""
        buffer = self._buffer + data
        self.body = self.replies = b""
        pieces: list[bytes] = []
        at = 0
        while len(buffer) - at >= HEADER_BYTES:
            version, kind, request, length, padding = _HEADER.unpack_from(buffer, at)
            if version != 1:
                raise ProtocolError("this is no FastCGI")
            start = at + HEADER_BYTES
            if len(buffer) < start + length + padding:
                break
            self._take(kind, request, buffer[start : start + length], pieces)
            at = start + length + padding
        self._buffer = buffer[at:]
        self.body = b"".join(pieces)

    def _take(self, kind: int, request: int, content: bytes, pieces: list[bytes]) -> None:
        if not request:
            self.replies += self._answer(kind)
        elif kind == _BEGIN:
            self._begin(request, content)
        elif request != self.request:
            pass  # of one that was refused
        elif kind == _ABORT:
            raise ProtocolError("the front end gave the request up")
        elif kind == _PARAMS and self.params is None:
            self._block += content
            if len(self._block) > self._most:
                raise ProtocolError(f"invalid request block size: {len(self._block)} (max {self._most})...skip")
            if not content:
                self.params = parse_params(bytes(self._block))
        elif kind == _STDIN and self.params is not None and not self.done:
            pieces.append(content)
            self.done = not content

    def _begin(self, request: int, content: bytes) -> None:
        if len(content) < 3:
            raise ProtocolError("malformed FastCGI request")
        if self.request:
            self.replies += _ended(request, _NO_MULTIPLEXING)
        elif int.from_bytes(content[:2], "big") != _RESPONDER:
            self.replies += _ended(request, _UNKNOWN_ROLE)
        else:
            self.request = request

    @staticmethod
    def _answer(kind: int) -> bytes:
        if kind == _GET_VALUES:
            return record(_VALUES, 0, b"\x0f\x01FCGI_MPXS_CONNS0")
        return record(_UNKNOWN, 0, bytes((kind, 0, 0, 0, 0, 0, 0, 0)))


def parse_params(block: bytes) -> dict[str, str]:
    """Name-value pairs as latin-1 text. ProtocolError."""
    found: dict[str, str] = {}
    at = 0
    while at < len(block):
        name_size, at = _size(block, at)
        value_size, at = _size(block, at)
        middle = at + name_size
        stop = middle + value_size
        if stop > len(block) or not name_size:
            raise ProtocolError("FastCGI variable without a name or beyond its block")
        found[block[at:middle].decode("latin-1")] = block[middle:stop].decode("latin-1")
        at = stop
    return found


def scgi_head(data: bytes, most_bytes: int) -> tuple[dict[str, str], int] | None:
    """The variables of an SCGI request and the bytes its head takes; None while it is not all there. ProtocolError."""
    found = _NETSTRING.match(data)
    if found is None:
        if len(data) > 6 or (data and not data.isdigit()):
            raise ProtocolError("this is no SCGI")
        return None
    size, start = int(found[1]), found.end()
    if size > most_bytes:
        raise ProtocolError(f"invalid request block size: {size} (max {most_bytes})...skip")
    if len(data) < start + size + 1:
        return None
    block = data[start : start + size]
    words = block.decode("latin-1").split("\0")
    if data[start + size : start + size + 1] != b"," or words.pop() or len(words) % 2:
        raise ProtocolError("malformed SCGI head")
    names = words[::2]
    if not all(names) or len(set(names)) != len(names) or names[:1] != ["CONTENT_LENGTH"]:
        raise ProtocolError("malformed SCGI head")
    return dict(zip(names, words[1::2], strict=True)), start + size + 1


def _size(block: bytes, at: int) -> tuple[int, int]:
    if at >= len(block):
        raise ProtocolError("FastCGI variables are cut short")
    if block[at] < 128:
        return block[at], at + 1
    if at + 4 > len(block):
        raise ProtocolError("FastCGI variables are cut short")
    return _LONG.unpack_from(block, at)[0] & 0x7FFFFFFF, at + 4


def _ended(request: int, status: int) -> bytes:
    return record(_END, request, struct.pack(">IBxxx", 0, status))
