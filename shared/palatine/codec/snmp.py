"""SNMPv1 and v2c messages (RFC 1157, RFC 3416), octets in and out; must never raise anything but `ProtocolError`.

Reading goes in two steps. `open_envelope` reads version, community, PDU type and request-id, so that a datagram from
somebody who does not know the community costs next to nothing. `read_body` reads the rest of the PDU, which is the
same octets each time a manager polls the same names, so that a caller may remember what it made of them. Both accept
what net-snmp, windows agents and uWSGI write (padded integers, long lengths), and nothing that breaks the grammar,
lies about a length, exceeds a bound or leaves octets behind.

The values are tuples, not attrs classes: an agent makes several per datagram, and a tuple is made in a third of the
time. Request-ids stay the octets they came as, because a manager matches replies by them and uWSGI echoes them.
"""

from enum import IntEnum
from typing import Final, NamedTuple

from palatine.codec import ber
from palatine.errors import ProtocolError

#: What UDP over IPv4 can carry; nothing larger is looked at.
MAX_DATAGRAM: Final = 65_507
#: Far above uWSGI's 72 and room for `name@instance`; a longer one is nobody's community.
MAX_COMMUNITY: Final = 255
#: Varbinds read from one PDU. A reply in an Ethernet frame holds 209 at most; more are read to answer tooBig.
MAX_VARBINDS: Final = 2048
_INT32: Final = range(-(2**31), 2**31)
#: Managers that count request-ids unsigned send 5 octets; the standard's Integer32 needs 4.
_MAX_REQUEST_ID_OCTETS: Final = 5


class Version(IntEnum):
    """The version field of a message."""

    V1 = 0
    V2C = 1
    #: Never standardised for communities; uWSGI answers it as v2c, so do we.
    V2 = 2
    V3 = 3


class PduType(IntEnum):
    """The tag of a PDU."""

    GET = 0xA0
    GET_NEXT = 0xA1
    RESPONSE = 0xA2
    SET = 0xA3
    TRAP_V1 = 0xA4
    GET_BULK = 0xA5
    INFORM = 0xA6
    TRAP = 0xA7
    REPORT = 0xA8


_PDU_TYPES: Final = frozenset(PduType) - {PduType.TRAP_V1}


class ErrorStatus(IntEnum):
    """error-status of a response: RFC 3416 section 3; v1 knows the first six."""

    NO_ERROR = 0
    TOO_BIG = 1
    NO_SUCH_NAME = 2
    BAD_VALUE = 3
    READ_ONLY = 4
    GEN_ERR = 5
    NO_ACCESS = 6
    WRONG_TYPE = 7
    WRONG_LENGTH = 8
    WRONG_ENCODING = 9
    WRONG_VALUE = 10
    NO_CREATION = 11
    INCONSISTENT_VALUE = 12
    RESOURCE_UNAVAILABLE = 13
    COMMIT_FAILED = 14
    UNDO_FAILED = 15
    AUTHORIZATION_ERROR = 16
    NOT_WRITABLE = 17
    INCONSISTENT_NAME = 18


IP_ADDRESS: Final = 0x40
COUNTER32: Final = 0x41
GAUGE32: Final = 0x42
TIME_TICKS: Final = 0x43
OPAQUE: Final = 0x44
COUNTER64: Final = 0x46

#: Whole value elements with nothing in them.
NULL: Final = b"\x05\x00"
NO_SUCH_OBJECT: Final = b"\x80\x00"
NO_SUCH_INSTANCE: Final = b"\x81\x00"
END_OF_MIB_VIEW: Final = b"\x82\x00"

# Fewest and most content octets of each value a varbind may hold.
_VALUE_OCTETS: Final = {
    ber.INTEGER: (1, 5),
    ber.OCTET_STRING: (0, MAX_DATAGRAM),
    ber.NULL: (0, 0),
    ber.OBJECT_IDENTIFIER: (1, 5 * ber.MAX_ARCS),
    IP_ADDRESS: (4, 4),
    COUNTER32: (1, 5),
    GAUGE32: (1, 5),
    TIME_TICKS: (1, 5),
    OPAQUE: (0, MAX_DATAGRAM),
    COUNTER64: (1, 9),
    NO_SUCH_OBJECT[0]: (0, 0),
    NO_SUCH_INSTANCE[0]: (0, 0),
    END_OF_MIB_VIEW[0]: (0, 0),
}
_UNSIGNED: Final = frozenset({COUNTER32, GAUGE32, TIME_TICKS, COUNTER64})
#: error-status and error-index of a response without one.
NO_ERROR: Final = ber.encode_integer(0) * 2
_EMPTY: Final = frozenset(element[0] for element in (NULL, NO_SUCH_OBJECT, NO_SUCH_INSTANCE, END_OF_MIB_VIEW))


_V3: Final = int(Version.V3)


class VersionError(ProtocolError):
    """A message of a version without a community, v3 for one."""


class Varbind(NamedTuple):
    """A name (checked OID content octets) and its value (one whole element, tag and length included)."""

    oid: bytes
    value: bytes


class Body(NamedTuple):
    """What a PDU (of any type but the v1 trap) holds after its request-id.

    In a GetBulk non-repeaters stand in the place of error-status, and max-repetitions in that of error-index.
    """

    error_status: int
    error_index: int
    varbinds: tuple[Varbind, ...]

    @property
    def non_repeaters(self) -> int:
        """A GetBulk's first number, as sent."""
        return self.error_status

    @property
    def max_repetitions(self) -> int:
        """A GetBulk's second number, as sent."""
        return self.error_index


class Message(NamedTuple):
    """A whole v1 or v2c message; `request_id` is content octets."""

    version: int
    community: bytes
    pdu_type: int
    request_id: bytes
    body: Body


class Envelope(NamedTuple):
    """What is known of a message before its PDU's `body` octets are read."""

    version: int
    community: bytes
    pdu_type: int
    request_id: bytes
    body: bytes


def read_version(datagram: bytes) -> tuple[int, int]:
    """A message's version field, of whatever version, and where the rest begins, which goes on to the datagram's end.

    ProtocolError where it is no SNMP message.
    """
    end = len(datagram)
    if end > MAX_DATAGRAM:
        raise ProtocolError(f"datagram of {end} octets")
    at, stop = ber.content(datagram, 0, end, ber.SEQUENCE)
    if stop != end:
        raise ProtocolError(f"{end - stop} octets after the message")
    return ber.integer(datagram, at, end)


def read_community(datagram: bytes) -> tuple[int, bytes, int]:
    """Version and community of a message of v1 or v2c, and where its PDU begins.

    VersionError for another version, ProtocolError if it is no message or its community too long.
    """
    version, at = read_version(datagram)
    if not 0 <= version < _V3:
        raise VersionError(f"SNMP version field {version}")
    at, stop = ber.content(datagram, at, len(datagram), ber.OCTET_STRING)
    if stop - at > MAX_COMMUNITY:
        raise ProtocolError(f"community of {stop - at} octets")
    return version, datagram[at:stop], stop


def open_envelope(datagram: bytes) -> Envelope:
    """The outer part of a datagram's message.

    Raises:
        VersionError: a message of another version.
        ProtocolError: no SNMP message at all, or a v1 trap, which has no request-id.
    """
    version, community, at = read_community(datagram)
    end = len(datagram)
    pdu_type, at, stop = ber.element(datagram, at, end)
    if stop != end:
        raise ProtocolError(f"{end - stop} octets after the PDU")
    if pdu_type not in _PDU_TYPES:
        raise ProtocolError(f"PDU tag 0x{pdu_type:02x}")
    at, stop = ber.content(datagram, at, end, ber.INTEGER)
    if not 0 < stop - at <= _MAX_REQUEST_ID_OCTETS:
        raise ProtocolError(f"request-id of {stop - at} octets")
    return Envelope(version, community, pdu_type, datagram[at:stop], datagram[stop:])


def read_body(octets: bytes) -> Body:
    """What stands behind the request-id of a PDU: error or GetBulk numbers, and the varbinds.

    Raises:
        ProtocolError: broken grammar, or more than `MAX_VARBINDS`.
    """
    end = len(octets)
    status, at = ber.integer(octets, 0, end)
    index, at = ber.integer(octets, at, end)
    if status not in _INT32 or index not in _INT32:
        raise ProtocolError("error-status or error-index above 32 bits")
    at, stop = ber.content(octets, at, end, ber.SEQUENCE)
    if stop != end:
        raise ProtocolError(f"{end - stop} octets after the varbind list")
    return Body(status, index, _read_varbinds(octets, at, end))


def read_message(datagram: bytes) -> Message:
    """A whole message; ProtocolError as `open_envelope` and `read_body`."""
    version, community, pdu_type, request_id, body = open_envelope(datagram)
    return Message(version, community, pdu_type, request_id, read_body(body))


def _read_varbinds(octets: bytes, at: int, end: int) -> tuple[Varbind, ...]:
    varbinds: list[Varbind] = []
    while at < end:
        start, at = ber.content(octets, at, end, ber.SEQUENCE)
        oid_start, oid_stop = ber.content(octets, start, at, ber.OBJECT_IDENTIFIER)
        value = octets[oid_stop:at]
        if value != NULL:
            _check_value(value)
        varbinds.append(Varbind(ber.check_oid(octets[oid_start:oid_stop]), value))
        if len(varbinds) > MAX_VARBINDS:
            raise ProtocolError(f"more than {MAX_VARBINDS} varbinds")
    return tuple(varbinds)


def _check_value(value: bytes) -> tuple[int, bytes]:
    tag, start, stop = ber.element(value, 0, len(value))
    if stop != len(value):
        raise ProtocolError(f"{len(value) - stop} octets after a varbind's value")
    fewest, most = _VALUE_OCTETS.get(tag, (1, 0))
    if not fewest <= stop - start <= most:
        raise ProtocolError(f"value with tag 0x{tag:02x} of {stop - start} octets")
    octets = value[start:]
    return tag, ber.check_oid(octets) if tag == ber.OBJECT_IDENTIFIER else octets


def read_value(value: bytes) -> tuple[int, int | bytes | None]:
    """A value element as (tag, number, octets, or None for NULL and the exceptions); ProtocolError if it is none.

    Unsigned types are read unsigned even where the sender left out the sign octet, as uWSGI does.
    """
    tag, octets = _check_value(value)
    if tag in _EMPTY:
        return tag, None
    if tag == ber.INTEGER:
        return tag, ber.signed(octets)
    if tag in _UNSIGNED:
        return tag, int.from_bytes(octets, "big")
    return tag, octets


def write_message(message: Message) -> bytes:
    """The datagram of a message."""
    version, community, pdu_type, request_id, (status, index, varbinds) = message
    written = b"".join(map(write_varbind, varbinds))
    return write_pdu(write_head(version, community), pdu_type, request_id, status, index, written)


def write_head(version: int, community: bytes) -> bytes:
    """The version and community elements, which are the same in every reply to one manager."""
    return ber.encode_integer(version) + ber.encode(ber.OCTET_STRING, community)


def write_pdu(head: bytes, pdu_type: int, request_id: bytes, status: int, index: int, varbinds: bytes) -> bytes:
    """The datagram of `head`, then a PDU whose varbinds are written already, one after the other."""
    return ber.encode(ber.SEQUENCE, head + write_bare_pdu(pdu_type, request_id, status, index, varbinds))


def write_bare_pdu(pdu_type: int, request_id: bytes, status: int, index: int, varbinds: bytes) -> bytes:
    """A PDU alone, as it stands in a v3 message."""
    numbers = NO_ERROR if status == index == 0 else ber.encode_integer(status) + ber.encode_integer(index)
    return ber.encode(pdu_type, ber.encode(ber.INTEGER, request_id) + numbers + ber.encode(ber.SEQUENCE, varbinds))


def write_varbind(varbind: Varbind) -> bytes:
    """One varbind as it stands in a list."""
    oid, value = varbind
    return ber.encode(ber.SEQUENCE, ber.encode(ber.OBJECT_IDENTIFIER, oid) + value)


def varbind_head(name: ber.Oid, tag: int, octets: int) -> bytes:
    """A varbind with a value of this tag and so many content octets (at most 127), up to that content."""
    before = ber.encode(ber.OBJECT_IDENTIFIER, ber.oid_octets(name)) + bytes((tag, octets))
    return bytes((ber.SEQUENCE,)) + ber.encode_length(len(before) + octets) + before


def counter32(value: int) -> bytes:
    """A Counter32 of 4 content octets, as uWSGI's agent writes it, or 5; takes the value modulo 2^32."""
    return _fixed(COUNTER32, 4, value)


def gauge32(value: int) -> bytes:
    """A Gauge32 as `counter32`."""
    return _fixed(GAUGE32, 4, value)


def counter64(value: int) -> bytes:
    """A Counter64 of 8 content octets, as uWSGI's agent writes it, or 9; takes the value modulo 2^64."""
    return _fixed(COUNTER64, 8, value)


def _fixed(tag: int, octets: int, value: int) -> bytes:
    """Always so many octets, and before those with the top bit set one that says they are not negative."""
    content = (value % (1 << 8 * octets)).to_bytes(octets, "big")
    return ber.encode(tag, content if content[0] < 0x80 else b"\0" + content)


def unsigned(tag: int, value: int) -> bytes:
    """A value of an unsigned type that is not negative, in as few content octets as X.690 allows."""
    return ber.encode(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def integer32(value: int) -> bytes:
    """An INTEGER value; ProtocolError when it does not fit 32 bits."""
    if value not in _INT32:
        raise ProtocolError(f"{value} does not fit an Integer32")
    return ber.encode_integer(value)


def octet_string(octets: bytes) -> bytes:
    """An OCTET STRING value."""
    return ber.encode(ber.OCTET_STRING, octets)


def object_identifier(oid: bytes) -> bytes:
    """An OBJECT IDENTIFIER value from checked content octets."""
    return ber.encode(ber.OBJECT_IDENTIFIER, oid)
