"""The MIB file, written from the schema: `PALATINE-MIB` in SMIv2 (RFC 2578 to 2580); must never declare an object.

`python -m palatine.schema.mib_file FILE` writes it anew. With another base than the default, `palatine snmp mib` prints
the file that fits.
"""

import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from palatine.schema import mib
from palatine.schema.mib import MIB_GROUPS, MIB_TABLES, MibObject, MibTable, identifier
from palatine.schema.notifications import (
    DEFAULT_BASE,
    NOTIFICATION_OBJECTS,
    NOTIFICATIONS,
    NOTIFICATIONS_ARC,
    NUMBER,
    OBJECTS_ARC,
    Notification,
    NotificationObject,
)

#: When objects were last added; the MIB's readers compare it.
REVISION: Final = "202611220000Z"
_UWSGI: Final = (1, 3, 6, 1, 4, 1, 35156, 17)
_ENTERPRISES: Final = _UWSGI[:6]
_WIDTH: Final = 76

_HEAD: Final = """\
PALATINE-MIB DEFINITIONS ::= BEGIN

-- Generated from palatine's schema; do not edit. See docs/snmp.md.

IMPORTS
    MODULE-IDENTITY, OBJECT-TYPE, NOTIFICATION-TYPE,
    Counter64, Gauge32, Integer32, TimeTicks, Unsigned32, enterprises
        FROM SNMPv2-SMI
    TEXTUAL-CONVENTION, TruthValue
        FROM SNMPv2-TC
    MODULE-COMPLIANCE, OBJECT-GROUP, NOTIFICATION-GROUP
        FROM SNMPv2-CONF
    CounterBasedGauge64
        FROM HCNUM-TC;
"""

_IDENTITY: Final = """\
palatine MODULE-IDENTITY
    LAST-UPDATED "{revision}"
    ORGANIZATION "The palatine maintainers"
    CONTACT-INFO "The operator of the host: see sysContact."
    DESCRIPTION
{description}
    REVISION "{revision}"
    DESCRIPTION
        "First revision."
    ::= {{ {parent} }}
"""

_ABOUT: Final = """\
Web applications served by palatine, the emperor that keeps them and the alarms they raise, all of one host.

palatine has no enterprise number. Its users replace uWSGI, whose values are below 1.3.6.1.4.1.35156.17 and whose \
managers, firewalls and snmpd proxy lines let just that subtree through: so this module is there, at an arc far beyond \
those uWSGI uses (1 and 2) or its users give to metrics. An organisation with a number of its own sets `base` in \
snmp-agent.yaml and prints its module by `palatine snmp mib --base`.

Rows of instances are indexed by the instance's name, not by a number: it is the same after restarts of the \
application, the agent and the machine, and on another machine, so that a graph never shows another application than \
it says."""

_CONVENTIONS: Final = """\
PalName ::= TEXTUAL-CONVENTION
    DISPLAY-HINT "48t"
    STATUS       current
    DESCRIPTION
        "A name that is an index. A longer name is cut and ends in a tilde
        and the CRC-32 of all of it in eight hex digits."
    SYNTAX       OCTET STRING (SIZE (1..48))

PalText ::= TEXTUAL-CONVENTION
    DISPLAY-HINT "255t"
    STATUS       current
    DESCRIPTION
        "Text in UTF-8, cut if it is longer."
    SYNTAX       OCTET STRING (SIZE (0..255))

PalUnixTime ::= TEXTUAL-CONVENTION
    DISPLAY-HINT "d"
    STATUS       current
    DESCRIPTION
        "A moment, in seconds since 1970-01-01 00:00 UTC; 0 for never."
    SYNTAX       Unsigned32
"""

_UWSGI_OBJECTS: Final = """\
--
-- uWSGI's own objects, for managers that poll them. They are shown in the
-- view of one instance (its own socket, the community NAME@INSTANCE, the
-- context INSTANCE) and have no instance identifier: no `.0` is appended.
--   uwsgiGeneral.(30+N)  requests of worker N              Counter64
--   uwsgiCustom.N        value N, 1 to 100, set by the app Counter32,
--                                                          Gauge32, Counter64
--

uwsgiGeneral OBJECT IDENTIFIER ::= { uwsgi 1 }

uwsgiRequests OBJECT-TYPE
    SYNTAX      Counter64
    UNITS       "requests"
    MAX-ACCESS  read-only
    STATUS      current
    DESCRIPTION
        "Requests the instance has served; uWSGI's general.requests."
    ::= { uwsgiGeneral 1 }

uwsgiCustom OBJECT IDENTIFIER ::= { uwsgi 2 }
"""


def mib_text(base: Sequence[int] = DEFAULT_BASE) -> str:
    """The file for a base; ValueError for one that is not below an enterprise's number."""
    return "\n".join(_parts(tuple(base)))


def _parts(base: tuple[int, ...]) -> Iterator[str]:
    yield _HEAD
    parent, nodes = _lineage(base)
    yield _IDENTITY.format(revision=REVISION, description=_quoted(_ABOUT), parent=parent)
    yield from nodes
    yield f"unbit OBJECT IDENTIFIER ::= {{ enterprises {_UWSGI[6]} }}"
    yield f"uwsgi OBJECT IDENTIFIER ::= {{ unbit {_UWSGI[7]} }}\n"
    yield _CONVENTIONS
    yield _UWSGI_OBJECTS
    yield f"palNotifications OBJECT IDENTIFIER ::= {{ palatine {NOTIFICATIONS_ARC} }}"
    yield f"palScalars OBJECT IDENTIFIER ::= {{ palatine {mib.SCALARS_ARC} }}"
    yield f"palInfo OBJECT IDENTIFIER ::= {{ palatine {OBJECTS_ARC} }}"
    yield f"palConformance OBJECT IDENTIFIER ::= {{ palatine {mib.CONFORMANCE_ARC} }}\n"
    for group in MIB_GROUPS:
        yield _heading(group.help)
        node = identifier(group.name, "")
        yield f"{node} OBJECT IDENTIFIER ::= {{ palScalars {group.arc} }}\n"
        for one in group.objects:
            yield _object(identifier(group.name, one.name), one, node)
    for table in MIB_TABLES:
        yield from _table(table)
    yield _heading("Notifications and what they tell.")
    yield from map(_notification_object, NOTIFICATION_OBJECTS)
    yield from map(_notification, NOTIFICATIONS)
    yield from _conformance()
    yield "END\n"


def _lineage(base: tuple[int, ...]) -> tuple[str, list[str]]:
    """What palatine's node is a child of, with its number, and the nodes to be defined for that.

    ValueError for a base that is not below an enterprise's number.
    """
    root, name = (_UWSGI, "uwsgi") if base[: len(_UWSGI)] == _UWSGI else (_ENTERPRISES, "enterprises")
    if base[: len(root)] != root or len(base) == len(root):
        raise ValueError(f"a base is below 1.3.6.1.4.1, and {'.'.join(map(str, base))} is not")
    defined = []
    for depth, arc in enumerate(base[len(root) : -1], 1):
        defined.append(f"palRoot{depth} OBJECT IDENTIFIER ::= {{ {name} {arc} }}")
        name = f"palRoot{depth}"
    return f"{name} {base[-1]}", defined


def _heading(text: str) -> str:
    return "--\n" + "\n".join(textwrap.wrap(text, _WIDTH, initial_indent="-- ", subsequent_indent="-- ")) + "\n--\n"


def _quoted(text: str) -> str:
    indent = " " * 8
    paragraphs = [
        textwrap.fill(paragraph, _WIDTH, initial_indent=indent, subsequent_indent=indent)
        for paragraph in text.replace('"', "'").split("\n\n")
    ]
    return f'{indent}"' + "\n\n".join(paragraphs)[len(indent) :] + '"'


def syntax(one: MibObject) -> str:
    """What stands behind SYNTAX."""
    if one.syntax != mib.STATES:
        return one.syntax
    return "INTEGER { " + ", ".join(f"{word}({number})" for number, word in enumerate(one.states, 1)) + " }"


def _object(name: str, one: MibObject, parent: str) -> str:
    access = "not-accessible" if _is_index(one) else "read-only"
    said = _wrapped_syntax(syntax(one))
    units = f'    UNITS       "{one.unit}"\n' if one.unit else ""
    return (
        f"{name} OBJECT-TYPE\n    SYNTAX      {said}\n{units}    MAX-ACCESS  {access}\n    STATUS      current\n"
        f"    DESCRIPTION\n{_quoted(one.help)}\n    ::= {{ {parent} {one.arc} }}\n"
    )


def _wrapped_syntax(said: str) -> str:
    if len(said) <= _WIDTH - 20 or "{" not in said:
        return said
    return said.replace("{ ", "{\n            ").replace(", ", ",\n            ").replace(" }", "\n        }")


def _is_index(one: MibObject) -> bool:
    return one.syntax in {mib.INDEX_NAME, mib.INDEX_NUMBER}


def _table(table: MibTable) -> Iterator[str]:
    name = identifier(table.name, "")
    entry = f"{name}Entry"
    kind = entry[0].upper() + entry[1:]
    yield _heading(table.help)
    yield (
        f"{name}Table OBJECT-TYPE\n    SYNTAX      SEQUENCE OF {kind}\n    MAX-ACCESS  not-accessible\n"
        f"    STATUS      current\n    DESCRIPTION\n{_quoted(table.help)}\n    ::= {{ palatine {table.arc} }}\n"
    )
    yield (
        f"{entry} OBJECT-TYPE\n    SYNTAX      {kind}\n    MAX-ACCESS  not-accessible\n    STATUS      current\n"
        f"    DESCRIPTION\n{_quoted('A row of this table.')}\n    INDEX       {{ {', '.join(table.indexes)} }}\n"
        f"    ::= {{ {name}Table 1 }}\n"
    )
    members = [f"        {identifier(table.name, one.name):34}{_plain(one)}" for one in table.objects]
    yield f"{kind} ::=\n    SEQUENCE {{\n" + ",\n".join(members) + "\n    }\n"
    for one in table.objects:
        yield _object(identifier(table.name, one.name), one, entry)


def _plain(one: MibObject) -> str:
    return one.syntax.partition(" ")[0]


def _notification_object(one: NotificationObject) -> str:
    kind = mib.UNSIGNED32 if one.kind == NUMBER else mib.TEXT
    return (
        f"{info_name(one.name)} OBJECT-TYPE\n    SYNTAX      {kind}\n    MAX-ACCESS  accessible-for-notify\n"
        f"    STATUS      current\n    DESCRIPTION\n{_quoted(one.help)}\n    ::= {{ palInfo {one.number} }}\n"
    )


def _notification(one: Notification) -> str:
    carried = ",\n        ".join(map(info_name, one.objects))
    return (
        f"{event_name(one.name)} NOTIFICATION-TYPE\n    OBJECTS     {{\n        {carried}\n    }}\n"
        f"    STATUS      current\n    DESCRIPTION\n{_quoted(one.help)}\n    ::= {{ palNotifications {one.number} }}\n"
    )


def info_name(name: str) -> str:
    """The identifier of a notification's object."""
    return f"palInfo{name[0].upper()}{name[1:]}"


def event_name(name: str) -> str:
    """The identifier of a notification."""
    return f"palEvent{name[0].upper()}{name[1:]}"


def _conformance() -> Iterator[str]:
    groups = {
        f"{identifier(some.name, '')}Group": [
            identifier(some.name, one.name) for one in some.objects if not _is_index(one)
        ]
        for some in (*MIB_GROUPS, *MIB_TABLES)
    }
    groups["palInfoGroup"] = [info_name(one.name) for one in NOTIFICATION_OBJECTS]
    groups["palUwsgiGroup"] = ["uwsgiRequests"]
    yield _heading("Conformance: what an agent of this version shows.")
    yield "palGroups OBJECT IDENTIFIER ::= { palConformance 1 }"
    yield "palCompliances OBJECT IDENTIFIER ::= { palConformance 2 }\n"
    for number, (group, members) in enumerate(groups.items(), 1):
        yield _group(group, "OBJECT-GROUP", "OBJECTS      ", members, number)
    events = [event_name(one.name) for one in NOTIFICATIONS]
    yield _group("palEventGroup", "NOTIFICATION-GROUP", "NOTIFICATIONS", events, len(groups) + 1)
    every = ",\n        ".join([*groups, "palEventGroup"])
    yield (
        f"palCompliance MODULE-COMPLIANCE\n    STATUS      current\n    DESCRIPTION\n{_quoted('All of it.')}\n"
        f"    MODULE      -- this module\n    MANDATORY-GROUPS {{\n        {every}\n    }}\n"
        "    ::= { palCompliances 1 }\n"
    )


def _group(name: str, macro: str, word: str, members: Sequence[str], number: int) -> str:
    listed = ",\n        ".join(members)
    return (
        f"{name} {macro}\n    {word} {{\n        {listed}\n    }}\n    STATUS        current\n"
        f"    DESCRIPTION\n{_quoted('Objects of one kind.')}\n    ::= {{ palGroups {number} }}\n"
    )


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="ascii") as file:
        file.write(mib_text())
