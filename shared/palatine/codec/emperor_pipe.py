"""Bytes of uWSGI's emperor pipes, both directions; plain, no I/O; must never fail on bytes it does not know.

A vassal's master inherits one end of a UNIX stream socket pair (`UWSGI_EMPEROR_FD`). Every message is one byte; the
meaning depends on the direction. A second pair (`UWSGI_EMPEROR_FD_CONFIG`) carries the config of a vassal that has no
file: a four-byte head and the text, as often as the vassal asks for it.

One message is palatine's own: `REASON`, by which a vassal says why it refuses to start. It is byte 78 (the exit code of
a bad config), two length digits of seven bits with the high bit set, and UTF-8 text without control characters. None of
those bytes means anything to a uWSGI Emperor, which ignores what it does not know: a vassal may send it to either.
"""

import struct
from typing import Final, NamedTuple

#: Environment of a vassal: the number of the descriptor, and of the config pipe where there is one.
FD_VARIABLE: Final = "UWSGI_EMPEROR_FD"
CONFIG_FD_VARIABLE: Final = "UWSGI_EMPEROR_FD_CONFIG"

# Emperor to vassal.
STOP: Final = 0
RELOAD: Final = 1
GRACEFUL_STOP: Final = 2

# Vassal to emperor.
SPAWNED: Final = 1
SEND_CONFIG: Final = 2
ACCEPTING: Final = 5
LOYAL: Final = 17
LEAVING: Final = 22
HEARTBEAT: Final = 26
REINFORCEMENTS: Final = 30
REASON: Final = 78

#: A longer reason is cut: it is for a line of a status.
REASON_BYTES: Final = 1024
_REASON_HEAD: Final = 3
_DIGIT: Final = 0x80

#: The length of a config is 16 bits wide on the wire.
CONFIG_BYTES: Final = 65535
_CONFIG_MAGIC: Final = 115
_CONFIG_HEAD: Final = struct.Struct("<BHB")


class Message(NamedTuple):
    """One message of a vassal: its number, and the text of a `REASON`."""

    kind: int
    text: str = ""


class VassalReader:
    """Turns what a vassal wrote into messages, however the kernel cut it."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """The messages completed by `data`; unknown numbers are passed on, for the caller to ignore."""
        data = self._rest + data
        messages = []
        at = 0
        while at < len(data):
            size = _reason_size(data[at : at + _REASON_HEAD])
            if size > len(data) - at:
                break
            text = data[at + _REASON_HEAD : at + size].decode(errors="replace") if size > 1 else ""
            messages.append(Message(data[at], text))
            at += size
        self._rest = data[at:]
        return messages


def _reason_size(head: bytes) -> int:
    """Bytes of the message that begins so: 1, unless it is a `REASON` with a possible length."""
    if head[0] != REASON or any(digit < _DIGIT for digit in head[1:]):
        return 1
    if len(head) < _REASON_HEAD:
        return _REASON_HEAD
    length = (head[1] - _DIGIT) << 7 | (head[2] - _DIGIT)
    return _REASON_HEAD + length if length <= REASON_BYTES else 1


def reason(text: str) -> bytes:
    """The message that tells an emperor why this vassal does not start; control characters become spaces."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    data = plain.encode(errors="replace")[:REASON_BYTES]
    return bytes((REASON, _DIGIT | len(data) >> 7, _DIGIT | len(data) & 0x7F)) + data


def config(text: bytes) -> bytes:
    """A config as it travels on the config pipe.

    Raises:
        ValueError: longer than `CONFIG_BYTES`.
    """
    if len(text) > CONFIG_BYTES:
        raise ValueError(f"a config of {len(text)} bytes does not fit the config pipe (at most {CONFIG_BYTES})")
    return _CONFIG_HEAD.pack(_CONFIG_MAGIC, len(text), 0) + text


def parse_config(data: bytes) -> tuple[bytes, bytes] | None:
    """(config, what follows it) from the bytes read so far; None while it is incomplete.

    Raises:
        ValueError: the head is not that of a config.
    """
    if len(data) < _CONFIG_HEAD.size:
        return None
    magic, length, _ = _CONFIG_HEAD.unpack_from(data)
    if magic != _CONFIG_MAGIC:
        raise ValueError(f"a config on the pipe begins with {_CONFIG_MAGIC}, not {magic}")
    end = _CONFIG_HEAD.size + length
    return (data[_CONFIG_HEAD.size : end], data[end:]) if len(data) >= end else None
