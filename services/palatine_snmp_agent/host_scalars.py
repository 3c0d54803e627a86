"""Scalars beside the host's tables: MIB-II's system and snmp groups and palatine's own; must never ask anybody.

What daemons count comes from their segments, the agent's own included.
"""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

import attrs

from palatine import __version__
from palatine.codec import ber, snmp
from palatine.schema import AGENT, mib
from palatine.schema.mib import MibGroup, MibObject
from palatine_snmp_agent.host_values import writer
from palatine_snmp_agent.readings import Reading
from palatine_snmp_agent.view import Cell, Cells

_MIB_2: Final[ber.Oid] = (1, 3, 6, 1, 2, 1)
SYSTEM: Final = (*_MIB_2, 1)
SNMP_GROUP: Final = (*_MIB_2, 11)
#: The last number of the snmp group, and the one that says whether authenticationFailure is sent.
_LAST_OF_SNMP: Final = 32
_ENABLE_AUTHEN_TRAPS: Final = 30
#: What RFC 1213 calls a host that offers application services.
_SERVICES: Final = 72
#: Whose segment has a table of single values.
_DAEMON_OF: Final = {
    "agent": "snmp-agent",
    "emperor": "emperor",
    "alarm_totals": "alarm-daemon",
    "exporter": "stats-exporter",
}
_AGENT: Final = "snmp-agent"

#: The readings of the daemons that have a segment, by name.
Daemons = Callable[[], Mapping[str, Reading]]


@attrs.frozen
class Facts:
    """What the system group says of the host; `name` "" is the host's own."""

    name: str = ""
    contact: str = ""
    location: str = ""
    authen_traps: bool = False


def system_group(facts: Facts, base: ber.Oid, ticks: Callable[[], int]) -> Cells:
    """MIB-II's system group; `ticks` gives sysUpTime, hundredths of a second since the agent was started."""
    kernel = os.uname()
    described = f"palatine {__version__} on {kernel.sysname} {kernel.release} {kernel.machine}"
    fixed = {
        1: snmp.octet_string(described.encode()[:255]),
        2: snmp.object_identifier(ber.oid_octets(base)),
        4: snmp.octet_string(facts.contact.encode()[:255]),
        5: snmp.octet_string((facts.name or socket.gethostname()).encode()[:255]),
        6: snmp.octet_string(facts.location.encode()[:255]),
        7: snmp.integer32(_SERVICES),
    }
    cells = [_cell((*SYSTEM, arc, 0), partial(_always, value)) for arc, value in fixed.items()]
    cells.append(_cell((*SYSTEM, 3, 0), lambda: snmp.unsigned(snmp.TIME_TICKS, ticks() & 0xFFFF_FFFF)))
    return Cells(SYSTEM, cells)


def snmp_group(facts: Facts, daemons: Daemons) -> Cells:
    """MIB-II's snmp group, from the agent's counters."""
    (table,) = AGENT
    cells = [
        _cell(
            (*SNMP_GROUP, field.snmp, 0),
            partial(_counted, daemons, "agent", field.name, lambda value: snmp.unsigned(0x41, value & 0xFFFF_FFFF)),
        )
        for field in table.fields
        if field.snmp <= _LAST_OF_SNMP
    ]
    enabled = snmp.integer32(1 if facts.authen_traps else 2)
    cells.append(_cell((*SNMP_GROUP, _ENABLE_AUTHEN_TRAPS, 0), lambda: enabled))
    return Cells(SNMP_GROUP, cells)


def own_scalars(base: ber.Oid, daemons: Daemons, own: Mapping[str, Callable[[], int | str]]) -> Cells:
    """The groups of palatine's MIB below `<base>.1`; `own` makes the values of group `host`, by object."""
    prefix = (*base, mib.SCALARS_ARC)
    return Cells(prefix, [cell for group in mib.MIB_GROUPS for cell in _group(prefix, group, daemons, own)])


def _group(
    prefix: ber.Oid, group: MibGroup, daemons: Daemons, own: Mapping[str, Callable[[], int | str]]
) -> Iterator[Cell]:
    for one in group.objects:
        name = (*prefix, group.arc, one.arc, 0)
        if one.source:
            yield _cell(name, partial(_counted, daemons, one.source, one.field, writer(one)))
        else:
            yield _cell(name, partial(_made, one, own[one.name]))


def _made(one: MibObject, make: Callable[[], int | str]) -> bytes:
    return writer(one)(make())


def _counted(daemons: Daemons, table: str, field: str, write: Callable[[int], bytes]) -> bytes:
    reading = daemons().get(_DAEMON_OF[table])
    value = reading.row(table).get(field) if reading is not None else None
    return b"" if value is None else write(value)


def _always(value: bytes) -> bytes:
    return value


def _cell(arcs: ber.Oid, value: Callable[[], bytes]) -> Cell:
    name = ber.encode(ber.OBJECT_IDENTIFIER, ber.oid_octets(arcs))

    def write() -> bytes:
        element = value()
        return ber.encode(ber.SEQUENCE, name + element) if element else b""

    return Cell(arcs, write)
