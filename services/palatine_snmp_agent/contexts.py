"""The contexts there are: the host, and every instance by its name; must never show one instance in another's place."""

from typing import Final

import structlog

from palatine.counters import SegmentView
from palatine.discovery import InstanceRef
from palatine.errors import PeerError, ProtocolError
from palatine_snmp_agent.access_policy import HOST
from palatine_snmp_agent.uwsgi_tree import instance_view
from palatine_snmp_agent.view import View

_FILE: Final = "seg"
_log = structlog.get_logger()


class Contexts:
    """Views by context name. An instance's is there as long as its segment is, whether its master lives or not."""

    def __init__(self) -> None:
        #: What the host's own context shows.
        self.host: View | None = None
        self._instances: dict[str, tuple[SegmentView, View]] = {}

    def __len__(self) -> int:
        return len(self._instances)

    def view(self, name: str) -> View | None:
        """The view of a context; None if there is none of that name."""
        if name == HOST:
            return self.host
        found = self._instances.get(name)
        return found and found[1]

    def appear(self, ref: InstanceRef) -> None:
        """An instance is there, or has published another segment."""
        self.vanish(ref.name)
        try:
            segment = SegmentView.open(ref.path / _FILE, owner=ref.uid)
        except (OSError, PeerError, ProtocolError) as error:
            _log.debug("context.unreadable", instance=ref.name, reason=str(error))
            return
        try:
            self._instances[ref.name] = segment, instance_view(segment)
        except ProtocolError as error:
            segment.close()
            _log.debug("context.unreadable", instance=ref.name, reason=str(error))

    def vanish(self, name: str) -> None:
        """An instance's directory is gone."""
        found = self._instances.pop(name, None)
        if found is not None:
            found[0].close()

    def close(self) -> None:
        """Let go of every segment."""
        for name in list(self._instances):
            self.vanish(name)
