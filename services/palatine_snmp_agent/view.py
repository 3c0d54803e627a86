"""What a manager may see: cells in the order of their names, each with a function that reads its value now.

A view is made once per segment and never changes; values, and whether a cell has one at all, are read at each look.
It must never know protocol versions, PDUs or where values come from.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from palatine.codec import ber, snmp

#: Reads a cell: a whole value element, or NULL or an exception while it has no value. ProtocolError if it cannot.
Reader = Callable[[], bytes]
#: Tags of noSuchObject, noSuchInstance and endOfMibView begin here; those of values are below.
EXCEPTIONS: Final = snmp.NO_SUCH_OBJECT[0]


class Cell(NamedTuple):
    """One instance of an object: its name, and how to read it."""

    arcs: ber.Oid
    read: Reader


class Target(NamedTuple):
    """A name ready to be answered by exact GETs: its element, and how to read its value or exception."""

    name: bytes
    read: Reader


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
        self._steps = [
            Target(ber.encode(ber.OBJECT_IDENTIFIER, ber.oid_octets(cell.arcs)), cell.read) for cell in ordered
        ]
        self._objects = frozenset(objects)
        self._depths = sorted({len(name) for name in self._objects})
        if len(self._cells) != len(ordered):
            raise ValueError("two cells of a view have one name")

    def __len__(self) -> int:
        return len(self._steps)

    def target(self, oid: bytes) -> Target:
        """What answers GETs of the name with these content octets, whether it is in the view or not."""
        arcs = ber.oid_arcs(oid)
        name = ber.encode(ber.OBJECT_IDENTIFIER, oid)
        cell = self._cells.get(arcs)
        if cell is not None:
            return Target(name, cell.read)
        known = any(arcs[:depth] in self._objects for depth in self._depths)
        exception = snmp.NO_SUCH_INSTANCE if known else snmp.NO_SUCH_OBJECT
        return Target(name, lambda: exception)

    def after(self, oid: bytes) -> Iterator[Target]:
        """The cells after the name with these content octets, in order, whether they have a value or not."""
        position = bisect_right(self._arcs, ber.oid_arcs(oid))
        return map(self._steps.__getitem__, range(position, len(self._steps)))
