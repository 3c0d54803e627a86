"""SNMPv3 messages with USM's parameters (RFC 3412, RFC 3414), octets in and out; it must never check or keep a secret.

A message is read down to its data, which may be encrypted: what is in it is `read_scoped`'s when somebody has made it
plain. Only `ProtocolError` is raised, and nothing recurses.
"""

from functools import lru_cache
from typing import Final, NamedTuple

from palatine.codec import ber
from palatine.codec.snmp import read_version
from palatine.errors import ProtocolError

VERSION: Final = 3
_VERSION_ELEMENT: Final = ber.encode_integer(VERSION)
#: msgSecurityModel of USM: RFC 3411 section 5.
USM: Final = 3
#: msgFlags: RFC 3412 section 6.4.
AUTH: Final = 1
PRIV: Final = 2
REPORTABLE: Final = 4
LEVEL: Final = AUTH | PRIV
#: Least msgMaxSize, and the greatest of every number in a head.
LEAST_SIZE: Final = 484
MAX_NUMBER: Final = 2**31 - 1
#: Octets of an engine id, a user's name, a digest and a salt; zero is allowed for all.
MAX_ENGINE_ID: Final = 32
MAX_USER: Final = 32
MAX_DIGEST: Final = 48
MAX_SALT: Final = 8
#: Longer context names are nobody's: an instance's name has 40 at most.
MAX_CONTEXT: Final = 255

#: Names of the counters a Report may carry, without their last arc 0: RFC 3414 section 5, RFC 3412 section 5.
USM_STATS: Final = ber.oid_octets((1, 3, 6, 1, 6, 3, 15, 1, 1))
MPD_STATS: Final = ber.oid_octets((1, 3, 6, 1, 6, 3, 11, 2, 1))
TARGET_STATS: Final = ber.oid_octets((1, 3, 6, 1, 6, 3, 12, 1))
UNSUPPORTED_LEVEL: Final = USM_STATS + b"\x01\x00"
NOT_IN_TIME_WINDOW: Final = USM_STATS + b"\x02\x00"
UNKNOWN_USER: Final = USM_STATS + b"\x03\x00"
UNKNOWN_ENGINE: Final = USM_STATS + b"\x04\x00"
WRONG_DIGEST: Final = USM_STATS + b"\x05\x00"
DECRYPTION_ERROR: Final = USM_STATS + b"\x06\x00"
UNKNOWN_PDU_HANDLER: Final = MPD_STATS + b"\x03\x00"
UNKNOWN_CONTEXT: Final = TARGET_STATS + b"\x05\x00"


class UnknownModelError(ProtocolError):
    """A message of another security model than USM."""


class InvalidFlagsError(ProtocolError):
    """A message that asks for privacy without authentication: RFC 3412 section 7.2 (5)."""


class Security(NamedTuple):
    """USM's parameters: whose clock (`engine_id`, `boots`, `time` in seconds), which user, digest and salt."""

    engine_id: bytes = b""
    boots: int = 0
    time: int = 0
    user: bytes = b""
    digest: bytes = b""
    salt: bytes = b""


class MessageV3(NamedTuple):
    """A message; `data` is one whole element, a SEQUENCE (plain) or an OCTET STRING (encrypted).

    `digest_at` is where the digest stands in the datagram.
    """

    message_id: int
    max_size: int
    flags: int
    security: Security
    data: bytes
    digest_at: int = 0


class Scoped(NamedTuple):
    """What a message is about: the engine and context that have the objects, and the PDU, one whole element."""

    engine_id: bytes
    context: bytes
    pdu: bytes


def is_v3(datagram: bytes) -> bool:
    """Whether a datagram says of itself that it is SNMPv3; never raises."""
    try:
        version, _ = read_version(datagram)
    except ProtocolError:
        return False
    return version == VERSION


def read_message(datagram: bytes) -> MessageV3:
    """The message a datagram is.

    Raises:
        UnknownModelError, InvalidFlagsError: a message all right, but none USM can serve.
        ProtocolError: no v3 message.
    """
    version, at = read_version(datagram)
    if version != VERSION:
        raise ProtocolError(f"SNMP version field {version}")
    end = len(datagram)
    at, stop = ber.content(datagram, at, end, ber.SEQUENCE)
    message_id, at = _number(datagram, at, stop)
    max_size, at = _number(datagram, at, stop)
    flags, at = _octets(datagram, at, stop, 1)
    model, at = _number(datagram, at, stop)
    if at != stop or len(flags) != 1 or max_size < LEAST_SIZE:
        raise ProtocolError("head of a v3 message that is none")
    if model != USM:
        raise UnknownModelError(f"security model {model}")
    if flags[0] & LEVEL == PRIV:
        raise InvalidFlagsError("privacy without authentication")
    at, stop = ber.content(datagram, stop, end, ber.OCTET_STRING)
    security, digest_at = _read_security(datagram, at, stop)
    wanted = ber.OCTET_STRING if flags[0] & PRIV else ber.SEQUENCE
    _, data_stop = ber.content(datagram, stop, end, wanted)
    if data_stop != end:
        raise ProtocolError(f"{end - data_stop} octets after the data")
    return MessageV3(message_id, max_size, flags[0], security, datagram[stop:], digest_at)


def _read_security(datagram: bytes, at: int, end: int) -> tuple[Security, int]:
    at, stop = ber.content(datagram, at, end, ber.SEQUENCE)
    if stop != end:
        raise ProtocolError(f"{end - stop} octets after the security parameters")
    engine_id, at = _octets(datagram, at, end, MAX_ENGINE_ID)
    boots, at = _number(datagram, at, end)
    time, at = _number(datagram, at, end)
    user, at = _octets(datagram, at, end, MAX_USER)
    digest, at = _octets(datagram, at, end, MAX_DIGEST)
    digest_at = at - len(digest)
    salt, at = _octets(datagram, at, end, MAX_SALT)
    if at != end:
        raise ProtocolError(f"{end - at} octets after USM's parameters")
    return Security(engine_id, boots, time, user, digest, salt), digest_at


def read_scoped(data: bytes) -> Scoped:
    """The scoped PDU in one element; octets after it are padding of a cipher and are left alone. ProtocolError."""
    at, end = ber.content(data, 0, len(data), ber.SEQUENCE)
    engine_id, at = _octets(data, at, end, MAX_ENGINE_ID)
    context, at = _octets(data, at, end, MAX_CONTEXT)
    _, _, stop = ber.element(data, at, end)
    if stop != end:
        raise ProtocolError(f"{end - stop} octets after the PDU")
    return Scoped(engine_id, context, data[at:end])


def write_scoped(scoped: Scoped) -> bytes:
    """The element of a scoped PDU."""
    engine_id, context, pdu = scoped
    return ber.encode(ber.SEQUENCE, _octet_strings(engine_id, context) + pdu)


def write_message(message: MessageV3) -> tuple[bytes, int]:
    """The datagram of a message and where its digest stands in it, to be replaced once it is known."""
    security = message.security
    salt = ber.encode(ber.OCTET_STRING, security.salt)
    who = _who(security.engine_id, security.boots, security.time, security.user)
    parameters = ber.encode(ber.SEQUENCE, who + ber.encode(ber.OCTET_STRING, security.digest) + salt)
    head = ber.encode_integer(message.message_id) + _how(message.max_size, message.flags)
    datagram = ber.encode(
        ber.SEQUENCE,
        _VERSION_ELEMENT + ber.encode(ber.SEQUENCE, head) + ber.encode(ber.OCTET_STRING, parameters) + message.data,
    )
    return datagram, len(datagram) - len(message.data) - len(salt) - len(security.digest)


# What is the same in one message after the other, for a second or for ever, is written once.


@lru_cache(maxsize=64)
def _octet_strings(first: bytes, second: bytes) -> bytes:
    return ber.encode(ber.OCTET_STRING, first) + ber.encode(ber.OCTET_STRING, second)


@lru_cache(maxsize=64)
def _who(engine_id: bytes, boots: int, time: int, user: bytes) -> bytes:
    numbers = ber.encode_integer(boots) + ber.encode_integer(time)
    return ber.encode(ber.OCTET_STRING, engine_id) + numbers + ber.encode(ber.OCTET_STRING, user)


@lru_cache(maxsize=64)
def _how(max_size: int, flags: int) -> bytes:
    flag_octets = ber.encode(ber.OCTET_STRING, bytes((flags,)))
    return ber.encode_integer(max_size) + flag_octets + ber.encode_integer(USM)


def _number(data: bytes, at: int, end: int) -> tuple[int, int]:
    value, at = ber.integer(data, at, end)
    if not 0 <= value <= MAX_NUMBER:
        raise ProtocolError(f"number {value} in the head of a v3 message")
    return value, at


def _octets(data: bytes, at: int, end: int, most: int) -> tuple[bytes, int]:
    start, stop = ber.content(data, at, end, ber.OCTET_STRING)
    if stop - start > most:
        raise ProtocolError(f"{stop - start} octets where a v3 message has {most} at most")
    return data[start:stop], stop
