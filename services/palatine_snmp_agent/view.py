"""What a manager may see: cells in the order of their names, each with a function that reads its value now.

A view is made once per segment and never changes; values, and whether a cell has one at all, are read at each look.
It must never know protocol versions, PDUs or where values come from.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import NamedTuple

from palatine.codec import ber, snmp

#: Reads a cell: a whole value element, or None while the cell has no value. Raises ProtocolError if it cannot.
Reader = Callable[[], bytes | None]


class Cell(NamedTuple):
    """One instance of an object: its name, and how to read it.

    `absent` is what an exact GET gets while the cell has no value; walks skip such a cell whatever it says.
    """

    arcs: ber.Oid
    read: Reader
    absent: bytes = snmp.NO_SUCH_INSTANCE


class Target(NamedTuple):
    """A name ready to be answered by exact GETs: its element, and a function that gives its value or exception."""

    name: bytes
    value: Callable[[], bytes]


class Found(NamedTuple):
    """A cell met on a walk: the position to go on from, its name's element and its value."""

    position: int
    name: bytes
    value: bytes


def _nothing() -> None:
    return


class View:
    """Cells in lexicographic order.

    `objects` are the names of which a cell is an instance, or could be: a GET below one of them gets noSuchInstance,
    any other noSuchObject. `begin` is called before each datagram's looks, which may all show one instant.
    """

    def __init__(
        self, cells: Iterable[Cell], objects: Iterable[ber.Oid] = (), begin: Callable[[], None] = _nothing
    ) -> None:
        ordered = sorted(cells, key=lambda cell: cell.arcs)
        self.begin = begin
        self._arcs = [cell.arcs for cell in ordered]
        self._cells = dict(zip(self._arcs, ordered, strict=True))
        self._steps = [(cell.read, _name_element(ber.oid_octets(cell.arcs))) for cell in ordered]
        self._objects = frozenset(objects)
        self._depths = sorted({len(name) for name in self._objects})
        if len(self._cells) != len(ordered):
            raise ValueError("two cells of a view have one name")

    def __len__(self) -> int:
        return len(self._steps)

    def target(self, oid: bytes) -> Target:
        """What answers GETs of the name with these content octets, whether it is in the view or not."""
        arcs = ber.oid_arcs(oid)
        cell = self._cells.get(arcs)
        if cell is not None:
            read, absent = cell.read, cell.absent
            return Target(_name_element(oid), lambda: read() or absent)
        known = any(arcs[:depth] in self._objects for depth in self._depths)
        exception = snmp.NO_SUCH_INSTANCE if known else snmp.NO_SUCH_OBJECT
        return Target(_name_element(oid), lambda: exception)

    def position(self, oid: bytes) -> int:
        """Where the cells after the name with these content octets begin, for `following`."""
        return bisect_right(self._arcs, ber.oid_arcs(oid))

    def following(self, position: int, *, hide_counter64: bool) -> Found | None:
        """The first cell at or after `position` that has a value; None at the end of the view."""
        for index in range(position, len(self._steps)):
            read, name = self._steps[index]
            value = read()
            if value is not None and not (hide_counter64 and value[0] == snmp.COUNTER64):
                return Found(index + 1, name, value)
        return None


def _name_element(oid: bytes) -> bytes:
    return ber.encode(ber.OBJECT_IDENTIFIER, oid)
