"""The metrics uwsgi_exporter has, by its names, types and labels (spec/server.md 6.5); pure.

Its dashboards and alerts go on working: `uwsgi_instance` is added, because one page shows every instance of the host.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from palatine_stats_exporter.board import Facts, Unreadable
from palatine_stats_exporter.exposition import COUNTER, GAUGE, UNTYPED, Family, labels

_MICRO: Final = 1e6


class Column(NamedTuple):
    """One metric: name without the prefix of its group, type, help, the column it shows, and what to divide it by."""

    name: str
    type: str
    help: str
    column: str
    divisor: float = 1


_SERVER: Final = (
    Column("listen_queue_length", GAUGE, "Connections waiting in the fullest listen queue.", "listen_queue"),
    Column("listen_queue_errors", GAUGE, "Connections dropped by full listen queues.", "listen_queue_errors"),
    Column("signal_queue_length", GAUGE, "Bytes of uwsgi signals waiting for the master.", "signal_queue"),
)
_SOCKET: Final = (
    Column("queue_length", GAUGE, "Connections waiting to be accepted.", "queue"),
    Column("max_queue_length", GAUGE, "Capacity of the listen queue.", "max_queue"),
    Column("shared", GAUGE, "1 for a shared socket.", "shared"),
    Column("can_offload", GAUGE, "1 for a socket whose responses can be offloaded.", "can_offload"),
)
_WORKER: Final = (
    Column("accepting", GAUGE, "1 while the worker takes requests.", "accepting"),
    Column("delta_requests", GAUGE, "Requests served since the worker was last started.", "delta_requests"),
    Column("signal_queue_length", GAUGE, "Bytes of uwsgi signals waiting for the worker.", "signal_queue"),
    Column("rss_bytes", GAUGE, "Resident memory.", "rss"),
    Column("vsz_bytes", GAUGE, "Virtual memory.", "vsz"),
    Column("running_time_seconds", GAUGE, "Time spent inside requests.", "running_time", _MICRO),
    Column("last_spawn_time_seconds", GAUGE, "Unix time at which the worker was last started.", "last_spawn"),
    Column("average_response_time_seconds", GAUGE, "Moving average of the response time.", "avg_rt", _MICRO),
    Column("requests_total", COUNTER, "Requests served.", "requests"),
    Column("exceptions_total", COUNTER, "Exceptions the app let escape.", "exceptions"),
    Column("harakiri_count_total", COUNTER, "Kills for requests that took too long.", "harakiri_count"),
    Column("signals_total", COUNTER, "uwsgi signals handled.", "signals"),
    Column("respawn_count_total", COUNTER, "Starts of the worker, the first one included.", "respawn_count"),
    Column("transmitted_bytes_total", COUNTER, "Bytes of responses, headers included.", "tx"),
)
_STATUSES: Final = (
    ("busy", "1 while the worker serves a request."),
    ("idle", "1 while the worker waits for a request."),
    ("cheap", "1 while the cheaper subsystem keeps the worker stopped."),
    ("pause", "1 while the worker is suspended."),
)
_APP: Final = (
    Column("startup_time_seconds", GAUGE, "Time the app took to load.", "startup_time"),
    Column("requests_total", COUNTER, "Requests begun.", "requests"),
    Column("exceptions_total", COUNTER, "Exceptions the app let escape.", "exceptions"),
)
_CORE: Final = (
    Column("busy", GAUGE, "1 while the core serves a request.", "in_request"),
    Column("requests_total", COUNTER, "Requests served.", "requests"),
    Column("static_requests_total", COUNTER, "Requests answered with a static file.", "static_requests"),
    Column("routed_requests_total", COUNTER, "Requests a routing rule decided.", "routed_requests"),
    Column("offloaded_requests_total", COUNTER, "Responses handed to an offload thread.", "offloaded_requests"),
    Column("write_errors_total", COUNTER, "Responses that could not be written.", "write_errors"),
    Column("read_errors_total", COUNTER, "Requests that could not be read.", "read_errors"),
)
_CACHE: Final = (
    Column("hits", UNTYPED, "Lookups that found an item.", "hits"),
    Column("misses", UNTYPED, "Lookups that found nothing.", "miss"),
    Column("full", UNTYPED, "Times an item did not fit.", "full"),
    Column("items", GAUGE, "Items in the cache.", "items"),
    Column("max_items", GAUGE, "Capacity of the cache.", "max_items"),
)


class Shown:
    """One instance's facts with the labels of its samples made ready."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.base = labels(uwsgi_instance=facts.name, stats_uri=facts.address)
        # a cheaper slot that was never used has the id 0 in the stats; uwsgi_exporter leaves it out
        self.rows = [row for row, number in enumerate(facts.columns.workers["id"]) if number]
        ids = facts.columns.workers["id"]
        self.workers = [f'{self.base},worker_id="{ids[row]}"' for row in self.rows]

    def per_worker(self, column: Sequence[Any]) -> Iterator[tuple[str, Any]]:
        """Labels and value of each worker."""
        return zip(self.workers, [column[row] for row in self.rows], strict=True)

    def per_core(self, column: Sequence[Any]) -> Iterator[tuple[str, Any]]:
        """Labels and value of each core."""
        cores = self.facts.cores
        for worker, row in zip(self.workers, self.rows, strict=True):
            for core in range(cores):
                yield f'{worker},core_id="{core}"', column[row * cores + core]

    def per_app(self, key: str) -> Iterator[tuple[str, Any]]:
        """Labels and value of each app of each worker."""
        seen = set()
        for said, columns in zip(self.facts.apps, self.facts.columns.apps, strict=True):
            app = labels(app_id=str(said["id"]), mountpoint=said["mountpoint"], chdir=said["chdir"])
            if app in seen:
                continue
            seen.add(app)
            for worker, value in self.per_worker(columns[key]):
                yield f"{worker},{app}", value

    def per_row(self, rows: Iterable[Mapping[str, Any]], key: str, *names: str) -> Iterator[tuple[str, Any]]:
        """Labels and value of each socket or cache; of two with the same labels the first, as Prometheus takes one."""
        seen = set()
        for row in rows:
            own = labels(**{name: str(row.get(name, "")) for name in names})
            if own not in seen:
                seen.add(own)
                yield f"{self.base},{own}", row.get(key, 0)


def uwsgi_families(shown: Sequence[Shown], unreadable: Sequence[Unreadable]) -> Iterator[Family]:
    """Every metric uwsgi_exporter knows; a metric's samples stand together, whatever the instance."""
    gone = [(labels(uwsgi_instance=one.name, stats_uri=""), 0) for one in unreadable]
    alive = [(one.base, int(one.facts.alive)) for one in shown]
    yield Family("uwsgi_up", GAUGE, "1 while the instance's master lives and its counters can be read.", alive + gone)
    yield Family("uwsgi_workers", GAUGE, "Workers that were started.", [(one.base, len(one.rows)) for one in shown])
    for column in _SERVER:
        samples = [(one.base, one.facts.server.get(column.column, 0)) for one in shown]
        yield Family(f"uwsgi_{column.name}", column.type, column.help, samples)
    yield from _rows_families(shown)
    yield from _worker_families(shown)


def _rows_families(shown: Sequence[Shown]) -> Iterator[Family]:
    for column in _SOCKET:
        samples = [item for one in shown for item in one.per_row(one.facts.sockets, column.column, "name", "proto")]
        yield Family(f"uwsgi_socket_{column.name}", column.type, column.help, samples)
    for column in _CACHE:
        samples = [item for one in shown for item in one.per_row(one.facts.caches, column.column, "name")]
        yield Family(f"uwsgi_cache_{column.name}", column.type, column.help, samples)


def _worker_families(shown: Sequence[Shown]) -> Iterator[Family]:
    for column in _WORKER:
        samples = [item for one in shown for item in one.per_worker(one.facts.columns.workers[column.column])]
        if column.divisor != 1:
            samples = [(label, value / column.divisor) for label, value in samples]
        yield Family(f"uwsgi_worker_{column.name}", column.type, column.help, samples)
    for word, text in _STATUSES:
        samples = [
            (label, int(status == word))
            for one in shown
            for label, status in one.per_worker(one.facts.columns.workers["status"])
        ]
        yield Family(f"uwsgi_worker_{word}", GAUGE, text, samples)
    for name, text, count in (
        ("apps", "Apps the worker serves.", lambda facts: len(facts.apps)),
        ("cores", "Cores of the worker.", lambda facts: facts.cores),
    ):
        samples = [(label, count(one.facts)) for one in shown for label in one.workers]
        yield Family(f"uwsgi_worker_{name}", GAUGE, text, samples)
    for column in _APP:
        samples = [item for one in shown for item in one.per_app(column.column)]
        yield Family(f"uwsgi_worker_app_{column.name}", column.type, column.help, samples)
    for column in _CORE:
        samples = [item for one in shown for item in one.per_core(one.facts.columns.cores[column.column])]
        yield Family(f"uwsgi_worker_core_{column.name}", column.type, column.help, samples)
