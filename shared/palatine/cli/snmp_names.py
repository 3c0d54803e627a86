"""Names of the MIB into object identifiers and back, and values as people read them; must never ask anybody.

`palInstanceRequests.shop` is a column and its index, `palHostVersion` a scalar, `palInstanceTable`, `palatine` and
`uwsgi` are subtrees; numbers go as they are. An index that is a name is written as it is, or in quotes where two names
follow each other and one has dots.
"""

import difflib
import re
import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from palatine.codec import ber, snmp
from palatine.errors import ProtocolError
from palatine.schema import mib
from palatine.schema.mib import MIB_GROUPS, MIB_TABLES, MibObject, MibTable, identifier

UWSGI: Final[ber.Oid] = (1, 3, 6, 1, 4, 1, 35156, 17)
_NUMBERS: Final = re.compile(r"\.?\d+(\.\d+)*")
#: `name` and what follows it, where a part in quotes may have dots.
_PARTS: Final = re.compile(r'\.(?:"([^"]*)"|([^."]+))')
_FIXED: Final[dict[str, ber.Oid]] = {
    "mib-2": (1, 3, 6, 1, 2, 1),
    "system": (1, 3, 6, 1, 2, 1, 1),
    "snmp": (1, 3, 6, 1, 2, 1, 11),
    "uwsgi": UWSGI,
    "uwsgiGeneral": (*UWSGI, 1),
    "uwsgiRequests": (*UWSGI, 1, 1),
    "uwsgiCustom": (*UWSGI, 2),
}
_SYSTEM: Final = ("sysDescr", "sysObjectID", "sysUpTime", "sysContact", "sysName", "sysLocation", "sysServices")


class Place(NamedTuple):
    """What a name stands for: its arcs, its object if it has one, and the index objects of its table."""

    arcs: ber.Oid
    object: MibObject | None = None
    table: MibTable | None = None


class Names:
    """The MIB below a base."""

    def __init__(self, base: ber.Oid) -> None:
        self._places = dict(_places(base))
        self._longest_first = sorted(
            ((place.arcs, name) for name, place in self._places.items()), key=lambda item: -len(item[0])
        )

    def resolve(self, name: str) -> ber.Oid:
        """The arcs of a name or number. ProtocolError for one that is not known, with the nearest that is."""
        if _NUMBERS.fullmatch(name):
            return ber.oid_arcs(ber.parse_oid(name))
        word = name.removeprefix("PALATINE-MIB::").partition(".")[0]
        place = self._places.get(word)
        if place is None:
            near = difflib.get_close_matches(word, self._places, n=1, cutoff=0.5)
            raise ProtocolError(f"no object is called {word!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        rest = name.removeprefix("PALATINE-MIB::")[len(word) :]
        parts = _dotted(place, rest) or [quoted or bare for quoted, bare in _PARTS.findall(rest)]
        if "".join(match[0] for match in _PARTS.finditer(rest)) != rest:
            raise ProtocolError(f"{name!r}: after the object come its indexes, each after a dot")
        return (*place.arcs, *self._index(place, parts))

    def _index(self, place: Place, parts: Sequence[str]) -> ber.Oid:
        if place.table is None or place.object is None:
            if place.object is not None and not parts:
                return (0,)
            return tuple(map(_number, parts))
        arcs: list[int] = []
        kinds = [name.endswith("Name") for name in place.table.indexes]
        for part, is_name in zip(parts, kinds, strict=False):
            arcs += (len(part.encode()), *part.encode()) if is_name else (_number(part),)
        return (*arcs, *map(_number, parts[len(kinds) :]))

    def show(self, arcs: ber.Oid) -> tuple[str, MibObject | None]:
        """The name of an object identifier, numbers where there is none, and its object."""
        for known, name in self._longest_first:
            if arcs[: len(known)] == known:
                place = self._places[name]
                return name + _shown_index(place, arcs[len(known) :]), place.object
        return ".".join(map(str, arcs)), None


def _places(base: ber.Oid) -> Iterator[tuple[str, Place]]:
    for name, arcs in _FIXED.items():
        yield name, Place(arcs)
    for number, name in enumerate(_SYSTEM, 1):
        yield name, Place((*_FIXED["system"], number), MibObject(name, number, "", "", ""))
    yield "palatine", Place(base)
    for group in MIB_GROUPS:
        prefix = (*base, mib.SCALARS_ARC, group.arc)
        yield identifier(group.name, ""), Place(prefix)
        for one in group.objects:
            yield identifier(group.name, one.name), Place((*prefix, one.arc), one)
    for table in MIB_TABLES:
        prefix = (*base, table.arc)
        yield f"{identifier(table.name, '')}Table", Place(prefix)
        for one in table.objects:
            if one.arc != mib.INDEX_ARC:
                yield identifier(table.name, one.name), Place((*prefix, 1, one.arc), one, table)


def _dotted(place: Place, rest: str) -> list[str]:
    """The indexes in `rest` where only the first is a name, which may then have dots without quotes; else []."""
    kinds = [name.endswith("Name") for name in place.table.indexes] if place.table is not None else []
    if kinds.count(True) != 1 or not kinds[0] or '"' in rest or not rest:
        return []
    words = rest.removeprefix(".").split(".")
    numbers: list[str] = []
    while len(words) > 1 and len(numbers) < len(kinds) - 1 and words[-1].isascii() and words[-1].isdigit():
        numbers.insert(0, words.pop())
    return [".".join(words), *numbers]


def _number(part: str) -> int:
    if not part.isascii() or not part.isdigit():
        raise ProtocolError(f"{part!r} is no number, which an index here is")
    return int(part)


def _shown_index(place: Place, arcs: ber.Oid) -> str:
    if place.table is None:
        scalar = place.object is not None and arcs == (0,)
        return "" if scalar else "".join(f".{arc}" for arc in arcs)
    shown: list[str] = []
    for name in place.table.indexes:
        if not arcs:
            break
        size = arcs[0] if name.endswith("Name") else 0
        octets, arcs = (arcs[1 : 1 + size], arcs[1 + size :]) if size else (arcs[:1], arcs[1:])
        text = bytes(arc & 0xFF for arc in octets).decode("utf-8", "replace") if size else str(octets[0])
        shown.append(f'"{text}"' if "." in text else text)
    return "".join(f".{part}" for part in [*shown, *map(str, arcs)])


def show_value(element: bytes, one: MibObject | None) -> str:
    """A value element as people read it, with its unit."""
    tag, value = snmp.read_value(element)
    if value is None:
        return {0x05: "null", 0x80: "no such object", 0x81: "no such instance"}.get(tag, "end of the view")
    if isinstance(value, bytes):
        if tag == ber.OBJECT_IDENTIFIER:
            return ber.format_oid(value)
        return value.decode("utf-8", "backslashreplace") if tag == ber.OCTET_STRING else value.hex()
    if tag == snmp.TIME_TICKS:
        return f"{value / 100:.2f} s"
    if one is None:
        return str(value)
    if one.syntax == mib.STATES and 0 < value <= len(one.states):
        return one.states[value - 1]
    if one.syntax == mib.TRUTH:
        return "yes" if value == 1 else "no"
    if one.syntax == mib.UNIX_TIME:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value)) if value else "never"
    return f"{value} {one.unit}".rstrip()
