"""A view of which a grant shows a part only; must never cost more than the view itself and a jump per subtree."""

from collections.abc import Generator, Iterator

from palatine.codec import ber
from palatine_snmp_agent.access_policy import Families
from palatine_snmp_agent.view import Target, View, missing


class Restricted(View):
    """`inner` through `families`: what is left out does not exist for GET, and walks jump over it."""

    def __init__(self, inner: View, families: Families) -> None:
        super().__init__((), inner.begin)
        self._inner = inner
        self._families = families

    @property
    def generation(self) -> int:  # type: ignore[override]  # it is the whole view's to change
        """As the whole view's."""
        return self._inner.generation

    def target(self, oid: bytes) -> Target:
        """As in the whole view; noSuchObject for what is left out."""
        return self._inner.target(oid) if self._families.has(ber.oid_arcs(oid)) else missing(oid)

    def after(self, oid: bytes) -> Iterator[Target]:
        """As in the whole view, without what is left out."""
        position: bytes | None = oid
        while position is not None:
            position = yield from self._until_left_out(position)

    def _until_left_out(self, oid: bytes) -> Generator[Target, None, bytes | None]:
        """Cells as long as they may be seen; returns where to go on, None at the end."""
        for target in self._inner.after(oid):
            start, stop = ber.content(target.name, 0, len(target.name), ber.OBJECT_IDENTIFIER)
            arcs = ber.oid_arcs(target.name[start:stop])
            if not self._families.has(arcs):
                border = self._families.next_border(arcs)
                return None if border is None else ber.oid_octets(border)
            yield target
        return None


def restricted(view: View, families: Families) -> View:
    """The part of `view` that `families` shows; the view itself where that is all of it."""
    return view if families.everything else Restricted(view, families)
