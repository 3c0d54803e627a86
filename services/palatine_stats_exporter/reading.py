"""An instance's counters as columns of a stats document; never writes.

Counters of the two banks are added up; levels come from the bank of the serving generation. Columns rather than rows,
because a column is cut out of a table, added and laid out by a handful of calls whatever the number of workers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from palatine.counters import SegmentView
from palatine.errors import ProtocolError
from palatine.schema import COUNTER, U64
from palatine_stats_exporter.doing import Activity, Doing
from palatine_stats_exporter.snapshot import Column, Copier, Cut, Memo, Snapshot, summed

#: Keys of a worker's and a core's numbers in the order of uWSGI's document, and what varies about an app.
WORKER_KEYS: Final = (
    "id",
    "pid",
    "accepting",
    "requests",
    "delta_requests",
    "exceptions",
    "harakiri_count",
    "signals",
    "signal_queue",
    "status",
    "rss",
    "vsz",
    "running_time",
    "last_spawn",
    "respawn_count",
    "tx",
    "avg_rt",
)
CORE_KEYS: Final = (
    "requests",
    "static_requests",
    "routed_requests",
    "offloaded_requests",
    "write_errors",
    "read_errors",
    "in_request",
)
APP_KEYS: Final = ("startup_time", "requests", "exceptions")
_NEEDED: Final = ("slots", "workers", "cores", "apps", "activity", "server")
#: What else a document may take numbers from.
_SHOWN: Final = ("sockets", "locks", "caches", "metrics", "daemons", "spoolers", "spooler_tasks", "crons")

#: A segment that says it has more is not one of an app-server, and would hold up the scrapes of its neighbours.
MOST_CORES: Final = 16384


class Columns(NamedTuple):
    """The numbers of a document.

    Attributes:
        workers: a column by each of WORKER_KEYS, one number (for `status`, a word) a worker.
        cores: a column by each of CORE_KEYS, one number a core, those of the first worker first.
        apps: for each app a column by each of APP_KEYS, one number a worker.
        busy: the activity of each core that serves a request, by its index in the columns of cores.
    """

    workers: Mapping[str, Sequence[int | str]]
    cores: Mapping[str, Column]
    apps: Sequence[Mapping[str, Column]]
    busy: Mapping[int, Activity]


class Reader:
    """Decodes one instance's segment. ProtocolError if it has not the tables of an app-server's."""

    def __init__(self, view: SegmentView) -> None:
        self.view = view
        try:
            slots, own, cores, apps, activity, server = (view.placed(name) for name in _NEEDED)
        except KeyError as error:
            raise ProtocolError(f"{view.path}: not an app-server's segment: {error} is missing") from error
        self.workers = slots.rows
        self.cores = max(1, cores.rows // slots.rows) if slots.rows else 1
        self.apps = apps.rows // cores.rows if cores.rows else 0
        fitting = (self.workers, self.workers * self.cores, cores.rows * self.apps, cores.rows)
        if (own.rows, cores.rows, apps.rows, activity.rows) != fitting or cores.rows > MOST_CORES:
            raise ProtocolError(f"{view.path}: its tables of workers, cores and apps do not fit together")
        if not server.rows:
            raise ProtocolError(f"{view.path}: says nothing of its master")
        self._doing = Doing(view)
        shown = [name for name in (*_NEEDED, *_SHOWN) if name in view.tables and name != "activity"]
        self._memo = Memo()
        self._beside = [
            field.name for field in cores.table.fields if field.kind == COUNTER and field.name not in CORE_KEYS
        ]
        self._copier = Copier(view, shown)
        self.tables = self._copier.tables

    def snapshot(self) -> Snapshot:
        """Copy all tables but what the cores are doing."""
        return self._copier.copy()

    def busy(self, snapshot: Snapshot) -> Mapping[int, Activity]:
        """What each core that serves a request is doing, by its row; the same object while nothing changes."""
        bank = self._bank(snapshot)
        return self._doing.busy(self.tables["cores"].cut(snapshot, bank), bank)

    def read(self) -> Columns:
        """The numbers as they are now."""
        snapshot = self.snapshot()
        return self.decode(snapshot, self.busy(snapshot))

    def decode(self, snapshot: Snapshot, busy: Mapping[int, Activity]) -> Columns:
        """The numbers of a snapshot; `busy` as the method of this name gave it.

        What is equal to what the call before returned is the same object.
        """
        tables = self.tables
        bank = self._bank(snapshot)
        cores, apps = tables["cores"].cut(snapshot, bank), tables["apps"].cut(snapshot, bank)
        slots, own = tables["slots"].cut(snapshot), tables["workers"].cut(snapshot, bank)
        core_columns = {key: cores.total(key) for key in (*CORE_KEYS, "exceptions")}
        core_columns["in_request"] = self._memo("in_request", _flags, core_columns["in_request"])
        return Columns(
            self._worker_columns(slots, own, cores, core_columns), core_columns, self._app_columns(apps), busy
        )

    def core_totals(self, snapshot: Snapshot) -> dict[str, int]:
        """Sums over all cores of what is counted of them beside CORE_KEYS: time by state, durations by bucket."""
        cores = self.tables["cores"].cut(snapshot, self._bank(snapshot))
        return {name: sum(cores.total(name)) & U64 for name in self._beside}

    def _worker_columns(
        self, slots: Cut, own: Cut, cores: Cut, core_columns: Mapping[str, Column]
    ) -> Mapping[str, Sequence[int | str]]:
        memo = self._memo
        requests = self._by_worker(core_columns["requests"], "requests")
        busy = self._by_worker(core_columns["in_request"], "busy")
        respawns, at_spawn = slots.now("respawn_count"), slots.now("requests_at_spawn")
        cheaped, suspended, signal = slots.now("cheaped"), own.now("suspended"), own.now("running_signal")
        return {
            "id": memo("id", _ids, respawns),
            "pid": slots.now("pid"),
            "accepting": memo("accepting", _flags, own.now("accepting")),
            "requests": requests,
            "delta_requests": memo("delta_requests", _differences, requests, at_spawn),
            "exceptions": self._by_worker(cores.total("exceptions"), "exceptions"),
            "harakiri_count": slots.now("harakiri_count"),
            "signals": own.total("signals"),
            "signal_queue": slots.now("signal_queue"),
            "status": memo("status", _statuses, cheaped, suspended, signal, busy),
            "rss": slots.now("rss"),
            "vsz": slots.now("vsz"),
            "running_time": self._by_worker(cores.total("running_time"), "running_time"),
            "last_spawn": slots.now("last_spawn"),
            "respawn_count": respawns,
            "tx": self._by_worker(cores.total("tx"), "tx"),
            "avg_rt": memo("avg_rt", self._means, cores.now("avg_rt")),
        }

    def _app_columns(self, apps: Cut) -> list[dict[str, Column]]:
        """An app's numbers are the sums over the cores of a worker, its start-up time the longest of them."""
        each, memo = self.cores * self.apps, self._memo

        def by_core(column: Column, app: int) -> list[Column]:
            return [column[at::each] for at in range(app, each, self.apps)]

        def sums(column: Column, app: int) -> Column:
            return summed(*by_core(column, app))

        def longest(column: Column, app: int) -> Column:
            return list(map(max, zip(*by_core(column, app), strict=True)))

        return [
            {
                "startup_time": memo(("startup_time", app), longest, apps.now("startup_time"), app),
                "requests": memo(("app requests", app), sums, apps.total("requests"), app),
                "exceptions": memo(("app exceptions", app), sums, apps.total("exceptions"), app),
            }
            for app in range(self.apps)
        ]

    def _bank(self, snapshot: Snapshot) -> int:
        return self.tables["server"].cut(snapshot).now("generation")[0] & 1

    def _by_worker(self, column: Column, name: str) -> Column:
        """Sums over the cores of each worker."""
        return column if self.cores == 1 else self._memo(name, self._sums, column)

    def _sums(self, column: Column) -> Column:
        return summed(*(column[core :: self.cores] for core in range(self.cores)))

    def _means(self, column: Column) -> Column:
        """Means over those cores of each worker that have served anything."""
        if self.cores == 1:
            return column
        counts = self._sums(list(map(bool, column)))
        return [total // count if count else 0 for total, count in zip(self._sums(column), counts, strict=True)]


def label_text(value: Any) -> str:
    """A label as text that is UTF-8, whatever a segment we do not trust has there."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else ""


def label_number(value: Any) -> int:
    """A label as an integer JSON readers in Go can hold; 0 for anything else."""
    return int(value) if isinstance(value, int) and -(1 << 63) <= value < 1 << 63 else 0


def _ids(respawns: Column) -> Column:
    """Ids from 1, but 0 for a slot that was never used."""
    return [index if spawned else 0 for index, spawned in enumerate(respawns, 1)]


def _flags(column: Column) -> Column:
    return [1 if value else 0 for value in column]


def _differences(totals: Column, before: Column) -> Column:
    """How much more, never negative."""
    return [total - start if total > start else 0 for total, start in zip(totals, before, strict=True)]


def _statuses(cheaped: Column, suspended: Column, running_signal: Column, busy: Column) -> list[str]:
    """The status of each worker: the first that holds of cheap, pause (suspended and not busy), sigN, busy, idle."""
    if not (any(cheaped) or any(suspended) or any(running_signal)):
        return ["busy" if count else "idle" for count in busy]
    return [_status(*facts) for facts in zip(cheaped, suspended, running_signal, busy, strict=True)]


def _status(cheaped: int, suspended: int, running_signal: int, busy: int) -> str:
    if cheaped:
        return "cheap"
    if running_signal:
        return f"sig{running_signal - 1}"
    if busy:
        return "busy"
    return "pause" if suspended else "idle"
