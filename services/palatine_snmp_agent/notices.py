"""What happened, as values and as the PDUs that tell of it (RFC 1157, RFC 3416, RFC 3584); must never send anything."""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from palatine.codec import ber, snmp
from palatine.codec.snmp import PduType, Varbind
from palatine.errors import ProtocolError
from palatine.schema.notifications import (
    DEFAULT_BASE,
    NOTIFICATION_OBJECTS,
    NOTIFICATIONS,
    NOTIFICATIONS_ARC,
    OBJECTS_ARC,
    TEXT,
    Notification,
    NotificationObject,
)
from palatine_snmp_agent.scoped_pdu import write_pdu

COLD_START: Final = "coldStart"
WARM_START: Final = "warmStart"
AUTHENTICATION_FAILURE: Final = "authenticationFailure"

#: SNMPv2-MIB's snmpTraps, and in v1 the number that each of them has there: RFC 3584 section 3.
_SNMP_TRAPS: Final = (1, 3, 6, 1, 6, 3, 1, 1, 5)
_GENERIC: Final = {COLD_START: 1, WARM_START: 2, AUTHENTICATION_FAILURE: 5}
_ENTERPRISE_SPECIFIC: Final = 6
_SYS_UP_TIME: Final = ber.parse_oid("1.3.6.1.2.1.1.3.0")
_TRAP_OID: Final = ber.parse_oid("1.3.6.1.6.3.1.1.4.1.0")
#: Octets of the longest text: a notification fits an Ethernet frame with v3 around it.
MAX_TEXT: Final = 800
_MAX_NUMBER: Final = 2**32 - 1


@attrs.frozen
class Notice:
    """Something that happened.

    `name` is one of our MIB's or SNMPv2-MIB's notifications; `values` are by the names of objects; `ticks` is
    sysUpTime when it happened.
    """

    name: str
    values: Mapping[str, str | int] = attrs.field(factory=dict)
    ticks: int = 0


def notice_of(stored: Any) -> Notice:
    """A notice as the journal has it (`attrs.asdict`)."""
    return Notice(stored["name"], stored["values"], stored["ticks"])


def trap_oid(name: str, base: ber.Oid = DEFAULT_BASE) -> ber.Oid:
    """The name of a notification in SNMP; KeyError if there is none of that name."""
    if name in _GENERIC:
        return (*_SNMP_TRAPS, _GENERIC[name])
    return (*base, NOTIFICATIONS_ARC, _declared(name).number)


def varbinds(notice: Notice, base: ber.Oid = DEFAULT_BASE) -> list[Varbind]:
    """The objects a notice carries: as declared those of our MIB, and a message with a generic one."""
    wanted = ("message",) if notice.name in _GENERIC else _declared(notice.name).objects
    return [
        Varbind(ber.oid_octets((*base, OBJECTS_ARC, _object(name).number, 0)), _value(_object(name), notice))
        for name in wanted
        if name in notice.values
    ]


def notification_pdu(notice: Notice, request_id: int, *, inform: bool, base: ber.Oid = DEFAULT_BASE) -> bytes:
    """The PDU of v2c and v3, one whole element: a SNMPv2-Trap or an Inform."""
    written = [
        Varbind(_SYS_UP_TIME, ber.encode(snmp.TIME_TICKS, _unsigned(notice.ticks))),
        Varbind(_TRAP_OID, snmp.object_identifier(ber.oid_octets(trap_oid(notice.name, base)))),
        *varbinds(notice, base),
    ]
    pdu_type = PduType.INFORM if inform else PduType.TRAP
    return write_pdu(pdu_type, ber.signed_octets(request_id), 0, 0, b"".join(map(snmp.write_varbind, written)))


def trap_v1(notice: Notice, community: bytes, address: bytes, base: ber.Oid = DEFAULT_BASE) -> bytes:
    """The datagram of a v1 trap; `address` is the agent's, 4 octets (RFC 3584 section 3.2)."""
    generic, specific, enterprise = _ENTERPRISE_SPECIFIC, trap_oid(notice.name, base)[-1], base
    if notice.name in _GENERIC:
        generic, specific, enterprise = _GENERIC[notice.name] - 1, 0, _SNMP_TRAPS
    body = (
        ber.encode(ber.OBJECT_IDENTIFIER, ber.oid_octets(enterprise))
        + ber.encode(snmp.IP_ADDRESS, address)
        + ber.encode_integer(generic)
        + ber.encode_integer(specific)
        + ber.encode(snmp.TIME_TICKS, _unsigned(notice.ticks))
        + ber.encode(ber.SEQUENCE, b"".join(map(snmp.write_varbind, varbinds(notice, base))))
    )
    return ber.encode(ber.SEQUENCE, snmp.write_head(0, community) + ber.encode(PduType.TRAP_V1, body))


def message_v2c(pdu: bytes, community: bytes) -> bytes:
    """The datagram of a PDU in v2c."""
    return ber.encode(ber.SEQUENCE, snmp.write_head(1, community) + pdu)


def acknowledged(datagram: bytes, community: bytes, request_id: int) -> bool:
    """Whether a v2c datagram is the Response to our inform."""
    try:
        message = snmp.open_envelope(datagram)
    except ProtocolError:
        return False
    return (
        message.community == community
        and message.pdu_type == PduType.RESPONSE
        and ber.signed(message.request_id) == request_id
    )


def _declared(name: str) -> Notification:
    return {one.name: one for one in NOTIFICATIONS}[name]


def _object(name: str) -> NotificationObject:
    return {one.name: one for one in NOTIFICATION_OBJECTS}[name]


def _value(declared: NotificationObject, notice: Notice) -> bytes:
    value = notice.values[declared.name]
    if declared.kind == TEXT:
        return snmp.octet_string(str(value).encode("utf-8", "replace")[:MAX_TEXT])
    return ber.encode(snmp.GAUGE32, _unsigned(min(max(int(value), 0), _MAX_NUMBER)))


def _unsigned(value: int) -> bytes:
    return ber.signed_octets(value)
