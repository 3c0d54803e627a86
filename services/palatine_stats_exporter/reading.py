"""An instance's counters as columns of a stats document; never writes.

Counters of the two banks are added up; levels come from the bank of the serving generation. Columns rather than rows,
because a column is cut out of a table, added and laid out by a handful of calls whatever the number of workers.
"""

from collections.abc import Mapping, Sequence
from operator import add
from typing import Any, Final, NamedTuple

from palatine.codec.segment_rows import read_latch
from palatine.counters import SegmentView
from palatine.errors import ProtocolError
from palatine_stats_exporter.snapshot import Column, Copier, Cut, Snapshot, wrapped

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

_MICRO: Final = 1_000_000
#: Copying all activity texts costs as much as reading one in this many one by one.
_SINGLE_READS: Final = 8


class Activity(NamedTuple):
    """What a core is doing: method, URI, host and peer with a NUL between; since when, in unix seconds."""

    text: bytes
    started: int


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
            slots, own, cores, apps, self._activity, server = (view.placed(name) for name in _NEEDED)
        except KeyError as error:
            raise ProtocolError(f"{view.path}: not an app-server's segment: {error} is missing") from error
        self.workers = slots.rows
        self.cores = max(1, cores.rows // slots.rows) if slots.rows else 1
        self.apps = apps.rows // cores.rows if cores.rows else 0
        fitting = (self.workers, self.workers * self.cores, cores.rows * self.apps, cores.rows)
        if (own.rows, cores.rows, apps.rows, self._activity.rows) != fitting or cores.rows > MOST_CORES:
            raise ProtocolError(f"{view.path}: its tables of workers, cores and apps do not fit together")
        if not server.rows:
            raise ProtocolError(f"{view.path}: says nothing of its master")
        shown = [name for name in (*_NEEDED, *_SHOWN) if name in view.tables and name != "activity"]
        self._copier = Copier(view, shown)
        self.tables = self._copier.tables

    def snapshot(self) -> Snapshot:
        """Copy all tables but what the cores are doing."""
        return self._copier.copy()

    def read(self) -> Columns:
        """The numbers as they are now."""
        return self.decode(self.snapshot())

    def decode(self, snapshot: Snapshot) -> Columns:
        """The numbers of a snapshot, with the activity of its busy cores as it is now."""
        tables = self.tables
        bank = tables["server"].cut(snapshot).now("generation")[0] & 1
        cores, apps = tables["cores"].cut(snapshot, bank), tables["apps"].cut(snapshot, bank)
        core_columns = {key: cores.total(key) for key in CORE_KEYS}
        in_request = core_columns["in_request"] = [1 if count else 0 for count in core_columns["in_request"]]
        return Columns(
            self._worker_columns(
                tables["slots"].cut(snapshot), tables["workers"].cut(snapshot, bank), cores, core_columns
            ),
            core_columns,
            self._app_columns(apps),
            self._busy(cores, [row for row, busy in enumerate(in_request) if busy], bank),
        )

    def _worker_columns(
        self, slots: Cut, own: Cut, cores: Cut, core_columns: Mapping[str, Column]
    ) -> Mapping[str, Sequence[int | str]]:
        requests = self._by_worker(core_columns["requests"])
        respawns = slots.now("respawn_count")
        busy = self._by_worker(core_columns["in_request"])
        return {
            "id": [index if spawned else 0 for index, spawned in enumerate(respawns, 1)],
            "pid": slots.now("pid"),
            "accepting": [1 if accepting else 0 for accepting in own.now("accepting")],
            "requests": requests,
            "delta_requests": [
                total - before if total > before else 0
                for total, before in zip(requests, slots.now("requests_at_spawn"), strict=True)
            ],
            "exceptions": self._by_worker(cores.total("exceptions")),
            "harakiri_count": slots.now("harakiri_count"),
            "signals": own.total("signals"),
            "signal_queue": own.now("signal_queue"),
            "status": _statuses(slots.now("cheaped"), own.now("suspended"), own.now("running_signal"), busy),
            "rss": slots.now("rss"),
            "vsz": slots.now("vsz"),
            "running_time": self._by_worker(cores.total("running_time")),
            "last_spawn": slots.now("last_spawn"),
            "respawn_count": respawns,
            "tx": self._by_worker(cores.total("tx")),
            "avg_rt": self._mean_by_worker(cores.now("avg_rt")),
        }

    def _app_columns(self, apps: Cut) -> list[dict[str, Column]]:
        """An app's numbers are the sums over the cores of a worker, its start-up time the longest of them."""
        columns = {key: apps.total(key) for key in APP_KEYS[1:]}
        startup = apps.now("startup_time")
        found = []
        for app in range(self.apps):
            mine = {key: self._by_worker(column[app :: self.apps]) for key, column in columns.items()}
            by_core = [startup[app + core * self.apps :: self.cores * self.apps] for core in range(self.cores)]
            longest = by_core[0] if self.cores == 1 else list(map(max, *by_core))
            found.append({"startup_time": longest, **mine})
        return found

    def _busy(self, cores: Cut, rows: Sequence[int], bank: int) -> dict[int, Activity]:
        """What the cores at `rows` are doing; one copy of all texts is cheaper than many single ones."""
        if not rows:
            return {}
        serving, starts = cores.now("in_request"), cores.now("request_start_us")
        past_starts = cores.past("request_start_us")
        data = self.view.copy("activity") if len(rows) * _SINGLE_READS > len(serving) else b""
        found = {}
        for row in rows:
            now = serving[row]
            text = self._text(data, row, bank if now else 1 - bank)
            found[row] = Activity(text, (starts if now else past_starts)[row] // _MICRO)
        return found

    def _text(self, data: bytes, row: int, bank: int) -> bytes:
        activity = self._activity
        if data:
            at = (bank * activity.rows + row) * activity.stride + activity.text_offset
            text = read_latch(data, at, activity.table.text_bytes)
            if text is not None:
                return text
        return self.view.text("activity", row, bank)

    def _by_worker(self, column: Column) -> Column:
        """Sums over the cores of each worker."""
        if self.cores == 1:
            return column
        total = column[:: self.cores]
        for core in range(1, self.cores):
            total = list(map(add, total, column[core :: self.cores]))
        return wrapped(total)

    def _mean_by_worker(self, column: Column) -> Column:
        """Means over those cores of each worker that have served anything."""
        if self.cores == 1:
            return column
        counts = self._by_worker(list(map(bool, column)))
        return [total // count if count else 0 for total, count in zip(self._by_worker(column), counts, strict=True)]


def label_text(value: Any) -> str:
    """A label as text that is UTF-8, whatever a segment we do not trust has there."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else ""


def label_number(value: Any) -> int:
    """A label as an integer JSON readers in Go can hold; 0 for anything else."""
    return int(value) if isinstance(value, int) and -(1 << 63) <= value < 1 << 63 else 0


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
