"""What a manager may see: cells in the order of their names, each with a function that reads its value now.

A view is made once per segment and never changes; values, and whether a cell has one at all, are read at each look.
It must never know protocol versions, PDUs or where values come from.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
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


def _none(_: ber.Oid) -> bool:
    return False


class View:
    """Cells in lexicographic order.

    `known` tells whether a name that is no cell belongs to an object of the view all the same: a GET of it gets
    noSuchInstance, of any other noSuchObject. `begin` is called before each datagram's looks, which may all show one
    instant.
    """

    def __init__(
        self,
        cells: Iterable[Cell],
        known: Callable[[ber.Oid], bool] = _none,
        begin: Callable[[], None] = _nothing,
    ) -> None:
        ordered = sorted(cells, key=lambda cell: cell.arcs)
        self.begin = begin
        self._known = known
        self._arcs = [cell.arcs for cell in ordered]
        self._steps = [
            Target(ber.encode(ber.OBJECT_IDENTIFIER, ber.oid_octets(cell.arcs)), cell.read) for cell in ordered
        ]
        if any(first == second for first, second in pairwise(self._arcs)):
            raise ValueError("two cells of a view have one name")

    def __len__(self) -> int:
        return len(self._steps)

    def target(self, oid: bytes) -> Target:
        """What answers GETs of the name with these content octets, whether it is in the view or not."""
        arcs = ber.oid_arcs(oid)
        position = bisect_right(self._arcs, arcs)
        if position and self._arcs[position - 1] == arcs:
            return self._steps[position - 1]
        exception = snmp.NO_SUCH_INSTANCE if self._known(arcs) else snmp.NO_SUCH_OBJECT
        return Target(ber.encode(ber.OBJECT_IDENTIFIER, oid), lambda: exception)

    def after(self, oid: bytes) -> Iterator[Target]:
        """The cells after the name with these content octets, in order, whether they have a value or not."""
        position = bisect_right(self._arcs, ber.oid_arcs(oid))
        return map(self._steps.__getitem__, range(position, len(self._steps)))
