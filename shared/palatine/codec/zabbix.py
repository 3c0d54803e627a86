"""Zabbix's sender protocol: items to one message, and the server's answer; sans-io.

Source: Zabbix manual, "Header" and "Sender protocol": `ZBXD`, flags 1, the length as 8 bytes little endian, JSON.
"""

import json
import re
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from palatine.errors import ProtocolError

_HEADER: Final = struct.Struct("<5sQ")
_MAGIC: Final = b"ZBXD\x01"
#: What is read of an answer; a server's is some 100 bytes.
MOST_BYTES: Final = 16 * 1024
HEADER_BYTES: Final = _HEADER.size
_INFO: Final = re.compile(r"processed:? (\d+)[;,] failed:? (\d+)", re.IGNORECASE)


class Answer(NamedTuple):
    """How many items the server took, and how many it knows nothing of."""

    processed: int
    failed: int


def encode(host: str, items: Iterable[tuple[str, int]]) -> bytes:
    """A message with the items (key, value) of a host, keys in order, as uWSGI's pusher writes it."""
    data = [{"host": host, "key": key, "value": str(value)} for key, value in items]
    body = json.dumps({"request": "sender data", "data": data}, separators=(",", ":")).encode()
    return _HEADER.pack(_MAGIC, len(body)) + body


def body_length(header: bytes) -> int:
    """Bytes that follow a header; ProtocolError if it is none, or more than MOST_BYTES."""
    if len(header) != _HEADER.size:
        raise ProtocolError("a Zabbix answer cut short")
    magic, length = _HEADER.unpack(header)
    if magic != _MAGIC or length > MOST_BYTES:
        raise ProtocolError("not a Zabbix answer")
    return int(length)


def decode_answer(body: bytes) -> Answer:
    """The body of an answer; ProtocolError if it says anything but success."""
    try:
        found = json.loads(body)
    except ValueError as error:
        raise ProtocolError("a Zabbix answer that is not JSON") from error
    if not isinstance(found, dict) or found.get("response") != "success":
        raise ProtocolError(f"Zabbix answered {str(found)[:200]}")
    counts = _INFO.search(str(found.get("info", "")))
    return Answer(int(counts[1]), int(counts[2])) if counts else Answer(0, 0)
