"""BER as far as SNMP uses it (RFC 3417 section 8), octets in and out; must never raise anything but `ProtocolError`.

An element is read as three positions in the datagram it stands in, nothing is copied until somebody wants it, and
nothing recurses: however deep a hostile datagram nests, the caller descends only as far as its own grammar goes.

An OBJECT IDENTIFIER travels through palatine as its *content octets*: they compare equal exactly when the names do,
they are what a datagram holds and what a reply needs, and a dictionary finds them without decoding. Only ordering
needs the arcs (`oid_arcs`), because octet order differs from name order from arc 16384 up.
"""

import re
from functools import lru_cache
from typing import Final

from palatine.errors import ProtocolError

INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OBJECT_IDENTIFIER: Final = 0x06
SEQUENCE: Final = 0x30

#: Length octets after 0x8n. Four is what windows agents write even for short elements; more cannot fit a datagram.
MAX_LENGTH_OCTETS: Final = 4
#: Content octets of the widest integer anything here reads: a Counter64 with its sign octet.
MAX_INTEGER_OCTETS: Final = 9
#: Sub-identifiers of a name and the largest of them: RFC 2578 section 3.5.
MAX_ARCS: Final = 128
MAX_ARC: Final = 2**32 - 1

Oid = tuple[int, ...]

# One sub-identifier is 1-4 octets of 7 bits, or 5 of which the first holds the top 4 bits; a leading 0x80 is padding
# and forbidden (X.690 8.19.2). The first sub-identifier carries two arcs, so 127 of them make 128.
_SUBIDENTIFIER = rb"(?:[\x00-\x7f]|[\x81-\xff][\x80-\xff]{0,2}[\x00-\x7f]|[\x81-\x8f][\x80-\xff]{3}[\x00-\x7f])"
_OID = re.compile(rb"%b{1,%d}" % (_SUBIDENTIFIER, MAX_ARCS - 1), re.DOTALL)


def element(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """The element at `at`, which may not reach past `end`: its tag octet, where its content starts and stops.

    Raises:
        ProtocolError: truncated, of indefinite or overlong length, or with a multi-octet tag.
    """
    start = at + 2
    if start > end:
        raise ProtocolError("BER element is cut off in its head")
    tag = data[at]
    if tag & 0x1F == 0x1F:
        raise ProtocolError("BER tag of several octets")
    length = data[at + 1]
    if length >= 0x80:
        count = length - 0x80
        if not 0 < count <= MAX_LENGTH_OCTETS:
            raise ProtocolError(f"BER length of form 0x{length:02x}")
        start += count
        if start > end:
            raise ProtocolError("BER element is cut off in its length")
        length = int.from_bytes(data[start - count : start], "big")
    stop = start + length
    if stop > end:
        raise ProtocolError(f"BER element claims {length} octets, {end - start} are left")
    return tag, start, stop


def content(data: bytes, at: int, end: int, tag: int) -> tuple[int, int]:
    """Where the content of the element at `at` starts and stops; ProtocolError unless its tag is `tag`."""
    start = at + 2
    # The short form, which nearly every element has, is read here: a quarter of a GET's decoding time.
    if start <= end and data[at] == tag and data[at + 1] < 0x80 and (stop := start + data[at + 1]) <= end:
        return start, stop
    found, start, stop = element(data, at, end)
    if found != tag:
        raise ProtocolError(f"BER tag 0x{found:02x} where 0x{tag:02x} belongs")
    return start, stop


def integer(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The INTEGER at `at` as (value, position after it); padded forms, which peers do send, are read as they stand."""
    start = at + 2
    # Nearly every number has one to four octets: half the time of reading a message's head.
    if start <= end and data[at] == INTEGER and 0 < data[at + 1] < 5 and (stop := start + data[at + 1]) <= end:
        return int.from_bytes(data[start:stop], "big", signed=True), stop
    start, stop = content(data, at, end, INTEGER)
    return signed(data[start:stop]), stop


def signed(octets: bytes) -> int:
    """Content octets of an INTEGER as a number; ProtocolError for none or more than `MAX_INTEGER_OCTETS`."""
    if not 0 < len(octets) <= MAX_INTEGER_OCTETS:
        raise ProtocolError(f"integer of {len(octets)} octets")
    return int.from_bytes(octets, "big", signed=True)


def encode_length(length: int) -> bytes:
    """The shortest length octets for a content of `length` octets."""
    if length < 0x80:
        return bytes((length,))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((0x80 + len(octets),)) + octets


def encode(tag: int, octets: bytes) -> bytes:
    """The element with this tag octet and content."""
    length = len(octets)
    if length < 0x80:
        return (tag << 8 | length).to_bytes(2, "big") + octets
    return bytes((tag,)) + encode_length(length) + octets


def signed_octets(value: int) -> bytes:
    """The shortest content octets of an INTEGER."""
    return value.to_bytes((value + (value < 0)).bit_length() // 8 + 1, "big", signed=True)


def encode_integer(value: int) -> bytes:
    """The INTEGER element of `value`."""
    return bytes((INTEGER, 1, value)) if 0 <= value < 0x80 else encode(INTEGER, signed_octets(value))


def check_oid(octets: bytes) -> bytes:
    """The content octets of a name, unchanged; ProtocolError when they are none or break a bound of RFC 2578."""
    if _OID.fullmatch(octets) is None:
        raise ProtocolError(f"no OBJECT IDENTIFIER: {octets[:24].hex()}")
    return octets


@lru_cache(maxsize=1024)
def oid_arcs(octets: bytes) -> Oid:
    """The arcs of checked content octets, for comparing and for people; those of the names managers poll are kept."""
    arcs: list[int] = []
    arc = 0
    for octet in octets:
        if octet < 0x80:
            arcs.append(arc << 7 | octet)
            arc = 0
        else:
            arc = arc << 7 | octet & 0x7F
    first = min(arcs[0] // 40, 2)
    return first, arcs[0] - 40 * first, *arcs[1:]


def oid_octets(arcs: Oid) -> bytes:
    """Content octets of a name given by its arcs; ProtocolError when it breaks a bound of RFC 2578."""
    if not 2 <= len(arcs) <= MAX_ARCS or arcs[0] not in {0, 1, 2} or (arcs[0] < 2 and arcs[1] > 39):
        raise ProtocolError(f"no object identifier starts {arcs[:2]} and has {len(arcs)} arcs")
    return arc_octets((40 * arcs[0] + arcs[1], *arcs[2:]))


def arc_octets(arcs: Oid) -> bytes:
    """Content octets of the arcs below a name; ProtocolError for one that is too large."""
    octets = bytearray()
    for arc in arcs:
        if not 0 <= arc <= MAX_ARC:
            raise ProtocolError(f"arc {arc} of an object identifier is not within 0..{MAX_ARC}")
        groups = max(1, (arc.bit_length() + 6) // 7)
        octets += bytes(arc >> 7 * left & 0x7F | (0x80 if left else 0) for left in range(groups - 1, -1, -1))
    return bytes(octets)


def parse_oid(text: str) -> bytes:
    """Content octets of `1.3.6.1…`, with or without a leading dot; ProtocolError when it is no such text."""
    words = text.removeprefix(".").split(".")
    if not all(word.isascii() and word.isdigit() and len(word) <= len(str(MAX_ARC)) for word in words):
        raise ProtocolError(f"{text[:80]!r} is no dotted object identifier")
    return oid_octets(tuple(map(int, words)))


def format_oid(octets: bytes) -> str:
    """Checked content octets as `1.3.6.1…`."""
    return ".".join(map(str, oid_arcs(octets)))
