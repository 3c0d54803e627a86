"""The PROXY protocol, versions 1 and 2: who the client of a load balancer is (HAProxy's proxy-protocol.txt).

Plain, sans-io. A header that lies about its length, or is longer than there is reason for, is refused whole.
"""

import ipaddress
import re
from typing import Final, NamedTuple

from palatine.errors import ProtocolError

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIRST: Final = b"PROXY "
#: The longest header of version 1, its CRLF included (section 2.1).
_LINE_BYTES: Final = 107
#: Of a header of version 2 with its extensions; the protocol would allow 65,551.
MOST_BYTES: Final = 4096
_HEAD_BYTES: Final = 16
_LINE: Final = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f:.]{2,45}) ([0-9A-Fa-f:.]{2,45}) ([0-9]{1,5}) ([0-9]{1,5})\r\n")


class ProxyHeader(NamedTuple):
    """`size` bytes of header, 0 where the connection begins without one; "" where it names no client."""

    size: int
    address: str = ""
    port: int = 0


def parse(data: bytes) -> ProxyHeader | None:
    """What `data`, the first bytes of a connection, begins with; None while that cannot be said. ProtocolError."""
    if data.startswith(SIGNATURE):
        return _second(data)
    if data.startswith(_FIRST):
        return _first(data)
    if SIGNATURE.startswith(data) or _FIRST.startswith(data):
        return None
    return ProxyHeader(0)


def _first(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _LINE_BYTES)
    if end < 0:
        if len(data) >= _LINE_BYTES:
            raise ProtocolError("PROXY line without its end")
        return None
    line = data[: end + 2]
    if line.startswith(b"PROXY UNKNOWN"):
        return ProxyHeader(len(line))
    found = _LINE.fullmatch(line)
    if found is None:
        raise ProtocolError("malformed PROXY line")
    address = _address(found[2].decode(), int(found[1]))
    port = int(found[4])
    if port > 65535:
        raise ProtocolError("malformed PROXY line")
    return ProxyHeader(len(line), address, port)


def _second(data: bytes) -> ProxyHeader | None:
    if len(data) < _HEAD_BYTES:
        return None
    version, command = data[12] >> 4, data[12] & 15
    family, size = data[13], int.from_bytes(data[14:16], "big")
    if version != 2 or command > 1 or size > MOST_BYTES - _HEAD_BYTES:
        raise ProtocolError("malformed PROXY header")
    if len(data) < _HEAD_BYTES + size:
        return None
    body = data[_HEAD_BYTES : _HEAD_BYTES + size]
    room = {0x11: 4, 0x21: 16}.get(family, 0) if command else 0  # a command of 0 is the balancer's own health check
    if not room:
        return ProxyHeader(_HEAD_BYTES + size)
    if size < 2 * room + 4:
        raise ProtocolError("PROXY header without its addresses")
    address = str(ipaddress.ip_address(body[:room]))
    return ProxyHeader(_HEAD_BYTES + size, address, int.from_bytes(body[2 * room : 2 * room + 2], "big"))


def _address(text: str, version: int) -> str:
    try:
        found = ipaddress.ip_address(text)
    except ValueError as error:
        raise ProtocolError("malformed address in a PROXY line") from error
    if found.version != version:
        raise ProtocolError("malformed address in a PROXY line")
    return str(found)
