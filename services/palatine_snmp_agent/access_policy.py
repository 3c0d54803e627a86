"""Who may see what: VACM (RFC 3415) for v3 and for communities alike; pure, and nothing here can allow a write."""

from fnmatch import fnmatchcase
from typing import Final

import attrs

from palatine.codec import ber, snmp_v3

#: The context without a name: the host as a whole.
HOST: Final = ""
#: Levels by the words of RFC 3411 and of net-snmp's tools.
LEVELS: Final = {"noAuthNoPriv": 0, "authNoPriv": snmp_v3.AUTH, "authPriv": snmp_v3.AUTH | snmp_v3.PRIV}


@attrs.frozen
class Families:
    """A MIB view: subtrees taken in and left out. The longest that fits a name decides, as in vacmViewTreeFamilyTable.

    Without any `include` everything is in that is not left out.
    """

    include: tuple[ber.Oid, ...] = ()
    exclude: tuple[ber.Oid, ...] = ()

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return not self.include and not self.exclude

    def has(self, arcs: ber.Oid) -> bool:
        """Whether a name is in the view."""
        taken_in = max((len(root) for root in self.include if arcs[: len(root)] == root), default=-1)
        left_out = max((len(root) for root in self.exclude if arcs[: len(root)] == root), default=-1)
        return taken_in > left_out or (taken_in == left_out == -1 and not self.include)

    def next_border(self, arcs: ber.Oid) -> ber.Oid | None:
        """For a name not in the view: where to go on for the next that may be in it; None if there is none."""
        borders = [below(root) for root in self.include if root > arcs]
        borders += [end(root) for root in self.exclude if arcs[: len(root)] == root]
        return max(arcs, min(borders)) if borders else None


EVERYTHING: Final = Families()


def below(root: ber.Oid) -> ber.Oid:
    """A name before `root` and after everything that really is before it."""
    return (*root[:-1], root[-1] - 1, ber.MAX_ARC) if root[-1] else root[:-1]


def end(root: ber.Oid) -> ber.Oid:
    """A name after everything that really is in the subtree."""
    return (*root, ber.MAX_ARC)


@attrs.frozen
class Grant:
    """What somebody may read: through which view, at which security level at least, in contexts that fit a pattern."""

    families: Families = EVERYTHING
    level: int = 0
    contexts: tuple[str, ...] = ("*",)

    def allows(self, level: int, context: str) -> bool:
        """Whether a request made at `level` (flags) may look into `context`; `*` fits the host's, too."""
        return level & self.level == self.level and any(fnmatchcase(context, pattern) for pattern in self.contexts)
