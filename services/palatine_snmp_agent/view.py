"""What a manager may see: cells in the order of their names, each with a function that writes its varbind now.

A view consists of branches, each all that is seen below one name: `Cells` for a list of them, and other modules have
some for tables. Which cells there are may change between datagrams, values at any time. It must never know protocol
versions, PDUs or where values come from.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from typing import Final, NamedTuple, Protocol

from palatine.codec import ber, snmp
from palatine.codec.snmp import Varbind

#: Writes a cell: its whole varbind, b"" while it has no value. ProtocolError if it cannot be read.
Writer = Callable[[], bytes]
#: Tags of noSuchObject, noSuchInstance and endOfMibView begin here; those of values are below.
EXCEPTIONS: Final = snmp.NO_SUCH_OBJECT[0]


class Cell(NamedTuple):
    """One instance of an object: its name, how to write it, and the value element of a GET while it has no value."""

    arcs: ber.Oid
    write: Writer
    unset: bytes = snmp.NO_SUCH_INSTANCE


class Target(NamedTuple):
    """A name ready to be answered: its element, how to write it, and the varbind of a GET while it has no value."""

    name: bytes
    write: Writer
    absent: bytes


class Branch(Protocol):
    """All that a view shows below `prefix`."""

    prefix: ber.Oid

    def find(self, oid: bytes, arcs: ber.Oid) -> Target:
        """What answers a GET of this name, whether there is such a cell or not."""

    def after(self, oid: bytes, arcs: ber.Oid) -> Iterator[Target]:
        """The cells after a name, which may be of another branch, in order."""


def nothing() -> bytes:
    """Writes a cell that has no value."""
    return b""


def missing(oid: bytes, exception: bytes = snmp.NO_SUCH_OBJECT) -> Target:
    """What answers GETs of a name that is no cell."""
    name = ber.encode(ber.OBJECT_IDENTIFIER, oid)
    return Target(name, nothing, ber.encode(ber.SEQUENCE, name + exception))


def target_of(cell: Cell) -> Target:
    """A cell ready to be answered."""
    oid = ber.oid_octets(cell.arcs)
    return Target(ber.encode(ber.OBJECT_IDENTIFIER, oid), cell.write, missing(oid, cell.unset).absent)


def _begin() -> None:
    return


class View:
    """Branches side by side.

    `begin` is called before each datagram's looks, which may all show one instant. `generation` is another number
    after cells came or went: a target found before is then to be found again.
    """

    generation = 0

    def __init__(self, branches: Iterable[Branch] = (), begin: Callable[[], None] = _begin) -> None:
        self.begin = begin
        self._branches = sorted(branches, key=lambda branch: branch.prefix)
        self._prefixes = [branch.prefix for branch in self._branches]
        if any(second[: len(first)] == first for first, second in pairwise(self._prefixes)):
            raise ValueError("a branch of a view is part of another")

    def target(self, oid: bytes) -> Target:
        """What answers GETs of the name with these content octets, whether it is in the view or not."""
        arcs = ber.oid_arcs(oid)
        position = bisect_right(self._prefixes, arcs) - 1
        if position >= 0 and arcs[: len(self._prefixes[position])] == self._prefixes[position]:
            return self._branches[position].find(oid, arcs)
        return missing(oid)

    def after(self, oid: bytes) -> Iterator[Target]:
        """The cells after the name with these content octets, in order, whether they have a value or not."""
        arcs = ber.oid_arcs(oid)
        first = max(bisect_right(self._prefixes, arcs) - 1, 0)
        if first == len(self._branches) - 1:
            return self._branches[first].after(oid, arcs)
        return chain.from_iterable(branch.after(oid, arcs) for branch in self._branches[first:])

    def get(self, oid: bytes) -> bytes:
        """The value element of a name, or an exception; ProtocolError if it cannot be read. Call `begin` before."""
        found = self.target(oid)
        return _value(found.write() or found.absent)

    def next(self, oid: bytes) -> Varbind | None:
        """The first cell after a name that has a value, None if there is none; otherwise as `get`."""
        for name, write, _ in self.after(oid):
            if written := write():
                start, stop = ber.content(name, 0, len(name), ber.OBJECT_IDENTIFIER)
                return Varbind(name[start:stop], _value(written))
        return None


class Cells:
    """A branch that is a list of cells; `known` tells of a name that is no cell what a GET of it gets."""

    def __init__(
        self,
        prefix: ber.Oid,
        cells: Iterable[Cell],
        known: Callable[[ber.Oid], bytes] = lambda _: snmp.NO_SUCH_OBJECT,
    ) -> None:
        self.prefix = prefix
        self._known = known
        ordered = sorted(cells, key=lambda cell: cell.arcs)
        self._arcs = [cell.arcs for cell in ordered]
        self._targets = [target_of(cell) for cell in ordered]
        self._positions = {ber.oid_octets(arcs): position for position, arcs in enumerate(self._arcs)}
        if len(self._positions) < len(self._arcs):
            raise ValueError("two cells of a view have one name")

    def __len__(self) -> int:
        return len(self._targets)

    def find(self, oid: bytes, arcs: ber.Oid) -> Target:
        """As `Branch.find`."""
        position = self._positions.get(oid)
        return missing(oid, self._known(arcs)) if position is None else self._targets[position]

    def after(self, oid: bytes, arcs: ber.Oid) -> Iterator[Target]:
        """As `Branch.after`."""
        position = self._positions.get(oid)
        first = bisect_right(self._arcs, arcs) if position is None else position + 1
        return map(self._targets.__getitem__, range(first, len(self._targets)))


def _value(varbind: bytes) -> bytes:
    start, stop = ber.content(varbind, 0, len(varbind), ber.SEQUENCE)
    _, at = ber.content(varbind, start, stop, ber.OBJECT_IDENTIFIER)
    return varbind[at:]
