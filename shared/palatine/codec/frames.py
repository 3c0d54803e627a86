"""Bus messages to bytes and back; it must never touch a socket, a clock or a file.

A message is 1 to 8 zmq frames. The first is the head, the others are the body (JSON) in pieces:

| offset | size | head                                                                               |
|--------|------|------------------------------------------------------------------------------------|
| 0      | 4    | magic `PLTN`                                                                       |
| 4      | 1    | version                                                                            |
| 5      | 1    | length of the type                                                                 |
| 6      | 8    | sequence, big endian: an event's number, an acked number, or ms until the deadline |
| 14     | 16   | id of the request or of the session                                                |
| 30     | n    | type, ASCII                                                                        |
| 30 + n | rest | room for later versions; ignored                                                   |

No body frame means `null`. Versions N and N-1 interoperate: who answers does so in the asker's version, and an asker
who is told "version" asks again in the version of that reply. Version 0 has the layout of version 1, so that the rule
holds from the first release.
"""

import re
import struct
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import attrs
import msgspec

from palatine.errors import ProtocolError

MAGIC: Final = b"PLTN"
VERSION: Final = 1
OLDEST: Final = VERSION - 1
FRAME_BYTES: Final = 256 * 1024
FRAMES: Final = 8
MESSAGE_BYTES: Final = 1024 * 1024
ID_BYTES: Final = 16
#: SQLite's integers are signed, so no event number has the highest bit.
SEQ_MAX: Final = 2**63 - 1

_HEAD: Final = struct.Struct(">4sBBQ16s")
_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

T = TypeVar("T")


class FrameError(ProtocolError):
    """Bytes that are no frame; `code` is what the peer is told: "protocol", "version" or "too-large"."""

    def __init__(self, message: str, code: str = "protocol") -> None:
        super().__init__(message)
        self.code = code


@attrs.frozen
class Frame:
    """One bus message. `id` is 16 bytes, 0 <= seq < 2**63, `body` is anything JSON can hold (or `msgspec.Raw`)."""

    type: str
    id: bytes
    seq: int = 0
    body: Any = None
    version: int = VERSION


def encode(frame: Frame) -> list[bytes]:
    """The frame as zmq frames. FrameError "too-large" past 1 MiB; TypeError or ValueError if the body is not JSON's."""
    if not _TYPE.fullmatch(frame.type):
        raise FrameError(f"{frame.type!r:.80} is no message type")
    if len(frame.id) != ID_BYTES or not 0 <= frame.seq <= SEQ_MAX:
        raise FrameError(f"{frame.type}: an id has 16 bytes and a sequence number 63 bits")
    name = frame.type.encode("ascii")
    parts = [_HEAD.pack(MAGIC, frame.version, len(name), frame.seq, frame.id) + name]
    if frame.body is None:
        return parts
    body = msgspec.json.encode(frame.body)
    if len(parts[0]) + len(body) > MESSAGE_BYTES:
        raise FrameError(f"{frame.type}: a body of {len(body)} bytes is more than a message holds", "too-large")
    parts += [body[start : start + FRAME_BYTES] for start in range(0, len(body), FRAME_BYTES)]
    return parts


def decode(parts: Sequence[bytes]) -> Frame:
    """The message in `parts`, its body as plain Python values. FrameError for anything else."""
    frame = decode_head(parts)
    return attrs.evolve(frame, body=body_as(frame, Any))


def decode_head(parts: Sequence[bytes]) -> Frame:
    """The message in `parts`, its body still JSON (`msgspec.Raw`): for who must look at the type first."""
    if not 1 <= len(parts) <= FRAMES or any(len(part) > FRAME_BYTES for part in parts):
        raise FrameError(f"a message has 1 to {FRAMES} frames of at most {FRAME_BYTES} bytes", "too-large")
    if sum(map(len, parts)) > MESSAGE_BYTES:
        raise FrameError(f"a message has at most {MESSAGE_BYTES} bytes", "too-large")
    head = parts[0]
    if len(head) <= len(MAGIC) or not head.startswith(MAGIC):
        raise FrameError("not a palatine message")
    if not OLDEST <= head[4] <= VERSION:
        raise FrameError(f"version {head[4]} is not spoken here: {OLDEST} to {VERSION} are", "version")
    if len(head) < _HEAD.size or len(head) < _HEAD.size + head[5]:
        raise FrameError("the head is cut short")
    _, version, length, seq, ident = _HEAD.unpack_from(head)
    name = head[_HEAD.size : _HEAD.size + length].decode("latin-1")
    if not _TYPE.fullmatch(name) or seq > SEQ_MAX:
        raise FrameError("the head holds no valid type or sequence number")
    body = parts[1] if len(parts) == 2 else b"".join(parts[1:]) or b"null"
    return Frame(name, ident, seq, msgspec.Raw(body), version)


def body_as(frame: Frame, shape: type[T]) -> T:
    """The body of a frame from `decode_head` as `shape` (unknown fields are ignored); FrameError if it is not that."""
    try:
        return msgspec.json.decode(frame.body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"{frame.type}: {error}") from error
