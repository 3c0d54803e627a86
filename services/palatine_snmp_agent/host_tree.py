"""The host-wide view, put together: all instances and daemons as conceptual tables below one base; must never watch.

Rows come and go in two ways. Instances are shown and hidden by whoever watches them; rows that are texts or values of
others (vassals, alarms, custom values that are set, daemons) are looked up again when a second has passed at a
datagram. A view whose rows changed has another `generation`.
"""

import time
import zlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Final

from palatine.codec import ber
from palatine.schema import VASSAL_STATES, mib
from palatine.schema.mib import INDEX_OCTETS, MibTable
from palatine_snmp_agent.host_values import Part, column
from palatine_snmp_agent.readings import Pace, Reading
from palatine_snmp_agent.tables import Column, Row, Table, text_index
from palatine_snmp_agent.view import Branch, View

#: Seconds after which rows that come and go by themselves are looked up again.
REFRESH_SECONDS: Final = 1.0
#: CPU seconds of putting all rows together that are long, and how many times as long is waited after that.
_LONG_SECONDS: Final = 0.05
_PAUSES: Final = 10
_GONE: Final = VASSAL_STATES.index("unused")

_Rows = list[Row[Part]]


class HostTree:
    """The tables of the host; `view` shows them beside `others`.

    `daemons` gives the readings of the daemons that have a segment, by name.
    """

    def __init__(
        self, base: ber.Oid, pace: Pace, daemons: Callable[[], Mapping[str, Reading]], others: Iterable[Branch] = ()
    ) -> None:
        self._pace = pace
        self._daemons = daemons
        self._instances: dict[str, Reading] = {}
        self._tables = {table.name: _table(base, table) for table in mib.MIB_TABLES}
        self._stale = True
        self._not_before = 0.0
        self._refreshed = 0.0
        self.view = View([*self._tables.values(), *others], self._begin)

    @property
    def instances(self) -> Mapping[str, Reading]:
        """The instances shown, by name."""
        return self._instances

    def show(self, reading: Reading) -> None:
        """Show an instance, in place of one of the same name."""
        self._instances[reading.name] = reading
        self._stale = True

    def hide(self, name: str) -> Reading | None:
        """Show an instance no more; returns it."""
        self._stale = True
        return self._instances.pop(name, None)

    def _begin(self) -> None:
        self._pace.begin()
        changed = self._stale and time.monotonic() >= self._not_before
        if changed:
            self._show_instances()
            self._stale = False
        if changed or not 0 <= self._pace.now - self._refreshed < REFRESH_SECONDS:
            self._refreshed = self._pace.now
            changed |= self._refresh()
        if changed:
            self.view.generation += 1

    def _show_instances(self) -> None:
        """All rows anew. Where that takes long, the next time must wait: somebody may come and go all the time."""
        began = time.thread_time()
        self._collect_rows()
        took = time.thread_time() - began
        self._not_before = time.monotonic() + _PAUSES * took if took > _LONG_SECONDS else 0.0

    def _collect_rows(self) -> None:
        rows: dict[str, _Rows] = {name: [] for name in ("instance", "worker", "core", "socket", "app", "metric")}
        for reading in self._instances.values():
            index = text_index(reading.name.encode())
            rows["instance"].append(Row(index, _instance_part(reading)))
            for name, below in _instance_rows(reading):
                rows[name].append(Row((*index, *below[0]), below[1]))
        for name, some in rows.items():
            self._tables[name].show(some)

    def _refresh(self) -> bool:
        daemons = self._daemons()
        shown = [
            self._tables["custom"].show([row for reading in self._instances.values() for row in _custom_rows(reading)]),
            self._tables["daemon"].show([_daemon_row(reading) for reading in daemons.values()]),
            self._tables["vassal"].show(_vassal_rows(daemons.get("emperor"))),
            self._tables["alarm"].show(_slot_rows(daemons.get("alarm-daemon"), "alarms", _alarm_index)),
        ]
        return any(shown)


def _table(base: ber.Oid, table: MibTable) -> Table[Part]:
    columns = [Column(one.arc, column(table.name, one)) for one in table.objects if one.arc != mib.INDEX_ARC]
    return Table((*base, table.arc), columns)


def _instance_part(reading: Reading) -> Part:
    return Part(reading, {"server": (0,), **{name: range(reading.count(name)) for name in ("cores", "slots")}})


def _instance_rows(reading: Reading) -> Iterator[tuple[str, tuple[ber.Oid, Part]]]:
    """The rows of an instance in all tables but its own and `custom`: table, index below the instance's, part."""
    workers = reading.count("slots")
    threads = reading.count("cores") // workers if workers else 0
    apps = reading.count("apps") // (workers * threads) if threads else 0
    for worker in range(workers):
        cores = range(worker * threads, (worker + 1) * threads)
        yield "worker", ((worker + 1,), Part(reading, {"slots": (worker,), "workers": (worker,), "cores": cores}))
        for number, core in enumerate(cores, 1):
            yield "core", ((worker + 1, number), Part(reading, {"cores": (core,)}))
        for app in range(apps):
            rows = [core * apps + app for core in cores]
            yield "app", ((worker + 1, app + 1), Part(reading, {"apps": rows}))
    for table, source in (("socket", "sockets"), ("metric", "metrics")):
        for row in range(reading.count(source)):
            yield table, ((row + 1,), Part(reading, {source: (row,)}))


def _custom_rows(reading: Reading) -> _Rows:
    index = text_index(reading.name.encode())
    return [Row((*index, row + 1), Part(reading, {"snmp_values": (row,)})) for row in reading.set_values()]


def _daemon_row(reading: Reading) -> Row[Part]:
    text = tuple(reading.texts("daemon")[:1])
    return Row(text_index(reading.name.encode()), Part(reading, {"daemon": (0,)}, text))


def _slot_rows(
    reading: Reading | None,
    table: str,
    index: Callable[[Sequence[bytes]], ber.Oid],
    hidden: Container[int] = frozenset(),
) -> _Rows:
    """The rows of a daemon's table that are not `hidden` and have a text; of two with one index the later."""
    if reading is None:
        return []
    rows: dict[ber.Oid, Row[Part]] = {}
    for slot, text in enumerate(reading.texts(table)):
        if text and slot not in hidden:
            parts = tuple(text.split(b"\0"))
            rows[index(parts)] = Row(index(parts), Part(reading, {table: (slot,)}, parts))
    return list(rows.values())


def _vassal_rows(reading: Reading | None) -> _Rows:
    """As `_slot_rows`, without vassals that are gone: a row they left says what they were blamed for."""
    if reading is None:
        return []
    gone = {slot for slot, row in enumerate(reading.rows("vassals")) if row["state"] == _GONE}
    return _slot_rows(reading, "vassals", _vassal_index, gone)


def _vassal_index(parts: Sequence[bytes]) -> ber.Oid:
    return name_index(parts[0])


def _alarm_index(parts: Sequence[bytes]) -> ber.Oid:
    return (*name_index(parts[0]), *name_index(parts[1] if len(parts) > 1 else b""))


def name_index(name: bytes) -> ber.Oid:
    """A name as part of an index; of a long one its beginning, `~` and the CRC-32 of all of it in hex digits."""
    if len(name) > INDEX_OCTETS:
        name = name[: INDEX_OCTETS - 9] + b"~%08x" % zlib.crc32(name)
    return text_index(name)
