"""WebSocket frames of a server (RFC 6455): messages out, frames in, strictly. Plain, sans-io.

A client's frame is masked, control frames are short and whole, texts are UTF-8, and a message is never longer than the
reader wants: anything else is a `WebsocketError` with the code the close frame says it by.
"""

import base64
import hashlib
from typing import Final, NamedTuple

from palatine.errors import ProtocolError

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
#: Section 7.4.1.
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
NO_UTF8: Final = 1007
TOO_BIG: Final = 1009

#: Those a close frame may hold, beside those of libraries and applications (section 7.4.2, and IANA's registry).
_CODES: Final = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTROL_BYTES: Final = 125
_DATA: Final = frozenset({CONTINUATION, TEXT, BINARY})
_KNOWN: Final = frozenset({*_DATA, CLOSE, PING, PONG})


class WebsocketError(ProtocolError):
    """The connection must be closed with `code`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Message(NamedTuple):
    """A whole message, or a control frame; `kind` is TEXT, BINARY, CLOSE, PING or PONG."""

    kind: int
    data: bytes


def accept_key(key: str) -> str:
    """Sec-WebSocket-Accept for a client's Sec-WebSocket-Key (section 4.2.2)."""
    digest = hashlib.sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def encode(kind: int, data: bytes = b"") -> bytes:
    """One whole, unmasked message or control frame."""
    size = len(data)
    if size < 126:
        head = bytes((0x80 | kind, size))
    elif size < 65536:
        head = bytes((0x80 | kind, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | kind, 127)) + size.to_bytes(8, "big")
    return head + data


def close_frame(code: int) -> bytes:
    """A close frame with its reason's number."""
    return encode(CLOSE, code.to_bytes(2, "big"))


class Decoder:
    """Feed it what arrives, take messages as they become whole; nothing longer than `most_bytes` is held."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._buffer = bytearray()
        self._kind = CONTINUATION  # of the message whose frames come; CONTINUATION: none has begun
        self._message = bytearray()

    def feed(self, data: bytes) -> None:
        """Bytes from the client."""
        self._buffer += data

    def next(self) -> Message | None:
        """The next whole message or control frame; None until more arrives. WebsocketError."""
        while True:
            frame = self._frame()
            if frame is None:
                return None
            final, opcode, data = frame
            if opcode not in _DATA:
                if opcode == CLOSE and data:
                    _check_close(data)
                return Message(opcode, data)
            self._message += data
            self._kind = opcode or self._kind
            if final:
                message = Message(self._kind, bytes(self._message))
                self._message.clear()
                self._kind = CONTINUATION
                if message.kind == TEXT:
                    _check_text(message.data)
                return message

    def _frame(self) -> tuple[bool, int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        final, opcode, size, at = bool(buffer[0] & 0x80), buffer[0] & 0x0F, buffer[1] & 0x7F, 2
        self._check_head(buffer[0], buffer[1])
        if size > _CONTROL_BYTES:
            width = 2 if size == 126 else 8
            if len(buffer) < 2 + width:
                return None
            size, at = int.from_bytes(buffer[2 : 2 + width], "big"), 2 + width
            if size < (126 if width == 2 else 65536) or size >> 63:  # section 5.2
                raise WebsocketError(PROTOCOL_ERROR, "length that is not written in the shortest way")
        if opcode in _DATA and len(self._message) + size > self._most:
            raise WebsocketError(TOO_BIG, f"message of more than {self._most} bytes")
        end = at + 4 + size
        if len(buffer) < end:
            return None
        data = _unmasked(bytes(buffer[at + 4 : end]), bytes(buffer[at : at + 4]))
        del buffer[:end]
        return final, opcode, data

    def _check_head(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if first & 0x70 or opcode not in _KNOWN:
            raise WebsocketError(PROTOCOL_ERROR, "frame of an extension nobody agreed on")
        if not second & 0x80:
            raise WebsocketError(PROTOCOL_ERROR, "frame without a mask")
        if opcode not in _DATA:
            if not first & 0x80 or second & 0x7F > _CONTROL_BYTES:
                raise WebsocketError(PROTOCOL_ERROR, "control frame in pieces, or too long")
        elif (opcode == CONTINUATION) is (self._kind == CONTINUATION):
            raise WebsocketError(PROTOCOL_ERROR, "continuation of nothing, or a message inside another")


def _check_close(data: bytes) -> None:
    """Section 5.5.1; what is no code must not be sent back either."""
    if len(data) < 2 or not _may_be_sent(int.from_bytes(data[:2], "big")):
        raise WebsocketError(PROTOCOL_ERROR, "close frame without a code that may be sent")
    _check_text(data[2:])


def _may_be_sent(code: int) -> bool:
    return code in _CODES or 3000 <= code <= 4999


def _check_text(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise WebsocketError(NO_UTF8, "text that is no UTF-8") from error


def _unmasked(data: bytes, mask: bytes) -> bytes:
    """Section 5.3; as one big number, which is fifty times as fast as byte by byte."""
    size = len(data)
    stream = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")
