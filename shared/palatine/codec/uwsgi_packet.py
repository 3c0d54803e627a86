"""The uwsgi protocol's packet: a 4-byte header and a block of variables (uWSGI 2.0's proto/uwsgi, spec in its docs).

    modifier1: u8   datasize: u16 LE   modifier2: u8   then  (keylen: u16 LE, key, vallen: u16 LE, value)*

Plain, sans-io. A block that lies about any length is refused whole.
"""

import struct
from typing import Final, NamedTuple

from palatine.errors import ProtocolError

HEADER_BYTES: Final = 4
#: modifier1 values a Python server answers.
WSGI: Final = 0
WSGI_STRIP_SCRIPT_NAME: Final = 30
PING: Final = 100
SIGNAL: Final = 110  # its number is modifier2
#: The modifier of uWSGI's short answers: modifier2 says whether it was done.
ANSWER: Final = 255

_HEADER = struct.Struct("<BHB")
_LENGTH = struct.Struct("<H")


class PacketHeader(NamedTuple):
    """The fixed header; `size` counts the bytes of the variables behind it."""

    modifier1: int
    size: int
    modifier2: int


def parse_header(data: bytes) -> PacketHeader:
    """The header in the first four bytes of `data`."""
    return PacketHeader(*_HEADER.unpack_from(data))


def encode_header(header: PacketHeader) -> bytes:
    """The four bytes of `header`."""
    return _HEADER.pack(*header)


def parse_vars(block: bytes) -> dict[str, str]:
    """The variables of `block` as latin-1 text; a repeated key keeps its last value. Raises ProtocolError."""
    variables: dict[str, str] = {}
    text = block.decode("latin-1")
    unpack = _LENGTH.unpack_from
    at, end = 0, len(block)
    try:
        while at < end:
            middle = at + 2 + unpack(block, at)[0]
            stop = middle + 2 + unpack(block, middle)[0]
            if stop > end or middle == at + 2:
                raise ProtocolError("uwsgi variable without a key or beyond its block")
            variables[text[at + 2 : middle]] = text[middle + 2 : stop]
            at = stop
    except struct.error as error:
        raise ProtocolError("uwsgi variables are cut short") from error
    return variables


def encode_vars(variables: dict[str, str]) -> bytes:
    """The block of `variables` (latin-1), each key and value at most 65,535 bytes."""
    parts: list[bytes] = []
    for key, value in variables.items():
        for item in (key, value):
            raw = item.encode("latin-1")
            parts += (_LENGTH.pack(len(raw)), raw)
    return b"".join(parts)


def vars_size(variables: dict[str, str]) -> int:
    """The bytes `variables` take in a packet: the figure of uWSGI's request line."""
    return len("".join(variables)) + len("".join(variables.values())) + 4 * len(variables)
