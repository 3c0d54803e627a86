"""The views of a host by context: the host's own, and each instance's by name; must never fail for one bad instance.

An instance whose master was killed is still there, with its last values. When its directory goes, too, it is shown on
unless it had been told to stop, until one of its name comes again: an app that died in the night is seen in the
morning, and not missed.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import structlog
import trio

from palatine import __version__
from palatine.codec import ber
from palatine.counters import SegmentView
from palatine.discovery import InstanceRef
from palatine.errors import PeerError, ProtocolError
from palatine.schema.notifications import DEFAULT_BASE
from palatine_snmp_agent.host_scalars import Facts, own_scalars, snmp_group, system_group
from palatine_snmp_agent.host_tree import HostTree
from palatine_snmp_agent.readings import Pace, Reading
from palatine_snmp_agent.uwsgi_tree import instance_view
from palatine_snmp_agent.view import View

#: Instances shown that are gone from the runtime directory; the earliest gone are forgotten first.
MAX_GONE: Final = 256
#: Seconds between looks whether instances live, so that the age of a dead one's values is right.
SWEEP_SECONDS: Final = 5.0
#: Seconds after which a daemon's segment is looked for again.
_LOOK_SECONDS: Final = 1.0
DAEMONS: Final = ("snmp-agent", "stats-exporter", "alarm-daemon", "emperor")

_log = structlog.get_logger()


class HostViews:
    """The views of the host below `runtime`; owns the segments it opens."""

    def __init__(self, runtime: Path, base: ber.Oid = DEFAULT_BASE, facts: Facts | None = None) -> None:
        self._runtime = runtime
        self._pace = Pace()
        self._started = self._pace.now
        self._daemons = _Daemons(runtime, self._pace)
        self._gone: list[str] = []
        self._views: dict[str, View] = {}
        self._shown = base, facts or Facts()
        self._tree = self._planted(*self._shown)

    def __len__(self) -> int:
        return len(self._tree.instances)

    def use(self, base: ber.Oid, facts: Facts) -> None:
        """Show the host below this base, and these facts; instances' own trees stay as they are."""
        if (base, facts) == self._shown:
            return
        tree = self._planted(base, facts)
        for reading in self._tree.instances.values():
            tree.show(reading)
        self._shown, self._tree = (base, facts), tree

    def close(self) -> None:
        """Close every segment."""
        for name in list(self._tree.instances):
            self._forget(name)
        self._daemons.close()

    @property
    def host(self) -> View:
        """Everything; the same view until `use` changes what is shown."""
        return self._tree.view

    def view(self, context: str) -> View | None:
        """The host's view for "", an instance's own tree for its name, None where there is no such instance.

        An instance that comes again has another view than before.
        """
        return self.host if not context else self._views.get(context)

    def segments(self) -> Iterator[tuple[str, SegmentView]]:
        """Every instance's name and segment."""
        return ((name, reading.segment) for name, reading in list(self._tree.instances.items()))

    def appear(self, ref: InstanceRef) -> None:
        """An instance is there, or has published another segment."""
        try:
            segment = SegmentView.open(ref.path / "seg", owner=ref.uid)
        except (OSError, ProtocolError, PeerError) as error:  # gone again, or replaced: there will be news
            _log.debug("host.not_shown", instance=ref.name, reason=str(error))
            return
        self._forget(ref.name)
        self._tree.show(Reading(ref.name, segment, self._pace))
        try:
            self._views[ref.name] = instance_view(segment)
        except ProtocolError as error:  # it lacks what uWSGI's tree needs; the host shows the rest
            _log.warning("host.no_view", instance=ref.name, reason=str(error))

    def vanish(self, name: str) -> None:
        """An instance's directory is gone."""
        reading = self._tree.instances.get(name)
        if reading is None:
            return
        self._pace.begin()
        if reading.up() or reading.ended_well():
            self._forget(name)
            return
        self._gone.append(name)
        if len(self._gone) > MAX_GONE:
            self._forget(self._gone[0])

    async def sweep(self) -> None:
        """Look now and then whether instances live, until cancelled."""
        while True:
            await trio.sleep(SWEEP_SECONDS)
            self._pace.begin()
            for reading in self._tree.instances.values():
                reading.up()

    def _planted(self, base: ber.Oid, facts: Facts) -> HostTree:
        own: dict[str, Callable[[], int | str]] = {
            "version": lambda: __version__,
            "instances": self.__len__,
            "instances_up": self._up,
            "agent_up_time": self._ticks,
        }
        daemons = self._daemons.found
        others = (
            system_group(facts, base, self._ticks),
            snmp_group(facts, daemons),
            own_scalars(base, daemons, own),
        )
        return HostTree(base, self._pace, daemons, others)

    def _forget(self, name: str) -> None:
        self._views.pop(name, None)
        if name in self._gone:
            self._gone.remove(name)
        if (reading := self._tree.hide(name)) is not None:
            reading.close()

    def _up(self) -> int:
        return sum(reading.up() for reading in self._tree.instances.values())

    def _ticks(self) -> int:
        return int((self._pace.now - self._started) * 100)


class _Daemons:
    """The daemons' segments, opened when they are there and again when they are others."""

    def __init__(self, runtime: Path, pace: Pace) -> None:
        self._runtime = runtime
        self._pace = pace
        self._readings: dict[str, Reading] = {}
        self._looked = 0.0

    def found(self) -> Mapping[str, Reading]:
        """The readings by name, as of a second ago at most."""
        if not 0 <= self._pace.now - self._looked < _LOOK_SECONDS:
            self._looked = self._pace.now
            for name in DAEMONS:
                self._look(name)
        return self._readings

    def close(self) -> None:
        """Close them all."""
        for reading in self._readings.values():
            reading.close()
        self._readings.clear()

    def _look(self, name: str) -> None:
        before = self._readings.get(name)
        if before is not None and not before.segment.replaced():
            return
        try:
            after = Reading(name, SegmentView.open(self._runtime / name / "seg"), self._pace)
        except (OSError, ProtocolError):  # it is not there; one that was has ended
            after = None
        if before is not None:
            del self._readings[name]
            before.close()
        if after is not None:
            self._readings[name] = after
