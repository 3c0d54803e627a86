"""Views by context, as much of each as a grant shows; must never show a view that is gone."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeVar

from palatine_snmp_agent.access_policy import HOST, Families
from palatine_snmp_agent.responder import Responder
from palatine_snmp_agent.restricted import restricted
from palatine_snmp_agent.view import View

#: Parts of views kept, the latest made: those of a machine's instances several times over.
MAX_KEPT: Final = 1024

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

#: The view of a context by its name; None where there is no such context.
ViewOf = Callable[[str], View | None]


class Desk:
    """Finds what is shown of a context, and to communities who answers for it. `own` is what no context means."""

    def __init__(self, view_of: ViewOf, max_reply: int, own: str = HOST) -> None:
        self._view_of = view_of
        self.own = own
        self.max_reply = max_reply
        self._parts: OrderedDict[tuple[str, Families], tuple[View, View]] = OrderedDict()
        self._responders: OrderedDict[tuple[bytes, str, Families], tuple[View, Responder]] = OrderedDict()

    def view(self, context: str, families: Families) -> View | None:
        """What `families` show of `context`; None if there is no such context."""
        view = self._view_of(context)
        if view is None or families.everything:
            return view
        kept = self._parts.get((context, families))
        if kept is None or kept[0] is not view:
            kept = view, restricted(view, families)
            _keep(self._parts, (context, families), kept)
        return kept[1]

    def responder(self, community: bytes, context: str, families: Families) -> Responder | None:
        """Who answers a community's requests; None if there is no such context."""
        view = self.view(context, families)
        if view is None:
            return None
        kept = self._responders.get((community, context, families))
        if kept is None or kept[0] is not view:
            kept = view, Responder(view, community, self.max_reply)
            _keep(self._responders, (community, context, families), kept)
        return kept[1]


def _keep(kept: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
    kept[key] = value
    if len(kept) > MAX_KEPT:
        kept.popitem(last=False)
