"""The metrics page: Prometheus text format out of facts; pure, and never a line that Prometheus would refuse.

Names, types and labels are those of uwsgi_exporter (spec/server.md 6.5), so that its dashboards and alerts go on
working; `uwsgi_instance` is added, because one page shows every instance of the host. What uwsgi_exporter does not know
is called `palatine_...` and comes from the schema.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from palatine.schema import COUNTER, FLAG, INSTANCE, STATE, TIME, Field, by_name
from palatine_stats_exporter.board import Facts, Unreadable

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_GAUGE: Final = "gauge"
_TOTAL: Final = "counter"
#: Counters whose old names lack `_total`: promtool objects to calling them what they are.
_UNTYPED: Final = "untyped"
_MICRO: Final = 1e6


class Family(NamedTuple):
    """One metric: name without the prefix of its group, type, help, the column it shows, and what to divide it by."""

    name: str
    type: str
    help: str
    column: str
    divisor: float = 1


_SERVER: Final = (
    Family("listen_queue_length", _GAUGE, "Connections waiting in the fullest listen queue.", "listen_queue"),
    Family("listen_queue_errors", _GAUGE, "Connections dropped by full listen queues.", "listen_queue_errors"),
    Family("signal_queue_length", _GAUGE, "Bytes of uwsgi signals waiting for the master.", "signal_queue"),
)
_SOCKET: Final = (
    Family("queue_length", _GAUGE, "Connections waiting to be accepted.", "queue"),
    Family("max_queue_length", _GAUGE, "Capacity of the listen queue.", "max_queue"),
    Family("shared", _GAUGE, "1 for a shared socket.", "shared"),
    Family("can_offload", _GAUGE, "1 for a socket whose responses can be offloaded.", "can_offload"),
)
_WORKER: Final = (
    Family("accepting", _GAUGE, "1 while the worker takes requests.", "accepting"),
    Family("delta_requests", _GAUGE, "Requests served since the worker was last started.", "delta_requests"),
    Family("signal_queue_length", _GAUGE, "Bytes of uwsgi signals waiting for the worker.", "signal_queue"),
    Family("rss_bytes", _GAUGE, "Resident memory.", "rss"),
    Family("vsz_bytes", _GAUGE, "Virtual memory.", "vsz"),
    Family("running_time_seconds", _GAUGE, "Time spent inside requests.", "running_time", _MICRO),
    Family("last_spawn_time_seconds", _GAUGE, "Unix time at which the worker was last started.", "last_spawn"),
    Family("average_response_time_seconds", _GAUGE, "Moving average of the response time.", "avg_rt", _MICRO),
    Family("requests_total", _TOTAL, "Requests served.", "requests"),
    Family("exceptions_total", _TOTAL, "Exceptions the app let escape.", "exceptions"),
    Family("harakiri_count_total", _TOTAL, "Kills for requests that took too long.", "harakiri_count"),
    Family("signals_total", _TOTAL, "uwsgi signals handled.", "signals"),
    Family("respawn_count_total", _TOTAL, "Starts of the worker, the first one included.", "respawn_count"),
    Family("transmitted_bytes_total", _TOTAL, "Bytes of responses, headers included.", "tx"),
)
_STATUSES: Final = (
    ("busy", "1 while the worker serves a request."),
    ("idle", "1 while the worker waits for a request."),
    ("cheap", "1 while the cheaper subsystem keeps the worker stopped."),
    ("pause", "1 while the worker is suspended."),
)
_APP: Final = (
    Family("startup_time_seconds", _GAUGE, "Time the app took to load.", "startup_time"),
    Family("requests_total", _TOTAL, "Requests begun.", "requests"),
    Family("exceptions_total", _TOTAL, "Exceptions the app let escape.", "exceptions"),
)
_CORE: Final = (
    Family("busy", _GAUGE, "1 while the core serves a request.", "in_request"),
    Family("requests_total", _TOTAL, "Requests served.", "requests"),
    Family("static_requests_total", _TOTAL, "Requests answered with a static file.", "static_requests"),
    Family("routed_requests_total", _TOTAL, "Requests a routing rule decided.", "routed_requests"),
    Family("offloaded_requests_total", _TOTAL, "Responses handed to an offload thread.", "offloaded_requests"),
    Family("write_errors_total", _TOTAL, "Responses that could not be written.", "write_errors"),
    Family("read_errors_total", _TOTAL, "Requests that could not be read.", "read_errors"),
)
_CACHE: Final = (
    Family("hits", _UNTYPED, "Lookups that found an item.", "hits"),
    Family("misses", _UNTYPED, "Lookups that found nothing.", "miss"),
    Family("full", _UNTYPED, "Times an item did not fit.", "full"),
    Family("items", _GAUGE, "Items in the cache.", "items"),
    Family("max_items", _GAUGE, "Capacity of the cache.", "max_items"),
)
#: What the families above show of a master's row already, or what means nothing over time.
_SHOWN: Final = frozenset({"listen_queue", "listen_queue_errors", "signal_queue", "load", "pid", "uid", "gid"})


class _Shown:
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
        for said, columns in zip(self.facts.apps, self.facts.columns.apps, strict=True):
            app = labels(app_id=str(said["id"]), mountpoint=said["mountpoint"], chdir=said["chdir"])
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


def render(
    facts: Sequence[Facts], unreadable: Sequence[Unreadable] = (), own: Mapping[str, float] | None = None
) -> bytes:
    """The page for all instances; `own` are the exporter's counters by their whole names."""
    shown = [_Shown(one) for one in facts]
    lines: list[str] = []
    for name, kind, text, samples in _families(shown, unreadable):
        found = [f"{name}{{{label}}} {value}" for label, value in samples]
        if found:
            lines += (f"# HELP {name} {text}", f"# TYPE {name} {kind}", *found)
    for name, number in (own or {}).items():
        kind = _TOTAL if name.endswith("_total") else _GAUGE
        lines += (f"# HELP {name} {_own_help(name)}", f"# TYPE {name} {kind}", f"{name} {number}")
    return ("\n".join(lines) + "\n").encode() if lines else b"\n"


def labels(**named: str) -> str:
    """Label pairs, values escaped: backslash, quote and newline; what is no UTF-8 as backslash escapes."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in named.items())


def _escaped(value: str) -> str:
    value = value.encode("utf-8", "backslashreplace").decode()
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


_Samples = Iterable[tuple[str, Any]]


def _families(shown: Sequence[_Shown], unreadable: Sequence[Unreadable]) -> Iterator[tuple[str, str, str, _Samples]]:
    """Name, type, help and samples of every metric; a metric's samples stand together, whatever the instance."""
    gone = [(labels(uwsgi_instance=one.name, stats_uri=""), 0) for one in unreadable]
    alive = [(one.base, int(one.facts.alive)) for one in shown]
    yield "uwsgi_up", _GAUGE, "1 while the instance's master lives and its counters can be read.", alive + gone
    yield "uwsgi_workers", _GAUGE, "Workers that were started.", [(one.base, len(one.rows)) for one in shown]
    for family in _SERVER:
        samples = [(one.base, one.facts.server.get(family.column, 0)) for one in shown]
        yield f"uwsgi_{family.name}", family.type, family.help, samples
    yield from _rows_families(shown)
    yield from _worker_families(shown)
    for field in by_name(INSTANCE)["server"].fields:
        if field.name not in _SHOWN:
            samples = [(one.base, one.facts.server.get(field.name, 0)) for one in shown]
            yield f"palatine_instance_{_metric_name(field)}", _kind(field), field.help, samples


def _rows_families(shown: Sequence[_Shown]) -> Iterator[tuple[str, str, str, _Samples]]:
    for family in _SOCKET:
        samples = [item for one in shown for item in one.per_row(one.facts.sockets, family.column, "name", "proto")]
        yield f"uwsgi_socket_{family.name}", family.type, family.help, samples
    for family in _CACHE:
        samples = [item for one in shown for item in one.per_row(one.facts.caches, family.column, "name")]
        yield f"uwsgi_cache_{family.name}", family.type, family.help, samples


def _worker_families(shown: Sequence[_Shown]) -> Iterator[tuple[str, str, str, _Samples]]:
    for family in _WORKER:
        samples = [item for one in shown for item in one.per_worker(one.facts.columns.workers[family.column])]
        if family.divisor != 1:
            samples = [(label, value / family.divisor) for label, value in samples]
        yield f"uwsgi_worker_{family.name}", family.type, family.help, samples
    for word, text in _STATUSES:
        samples = [
            (label, int(status == word))
            for one in shown
            for label, status in one.per_worker(one.facts.columns.workers["status"])
        ]
        yield f"uwsgi_worker_{word}", _GAUGE, text, samples
    for name, text, count in (
        ("apps", "Apps the worker serves.", lambda facts: len(facts.apps)),
        ("cores", "Cores of the worker.", lambda facts: facts.cores),
    ):
        samples = [(label, count(one.facts)) for one in shown for label in one.workers]
        yield f"uwsgi_worker_{name}", _GAUGE, text, samples
    for family in _APP:
        samples = [item for one in shown for item in one.per_app(family.column)]
        yield f"uwsgi_worker_app_{family.name}", family.type, family.help, samples
    for family in _CORE:
        samples = [item for one in shown for item in one.per_core(one.facts.columns.cores[family.column])]
        yield f"uwsgi_worker_core_{family.name}", family.type, family.help, samples


def _metric_name(field: Field) -> str:
    """A field's name with the endings Prometheus expects."""
    if field.kind == COUNTER:
        return f"{field.name}_total"
    if field.kind == TIME:
        return f"{field.name}_timestamp_seconds"
    return field.name


def _kind(field: Field) -> str:
    assert field.kind in {COUNTER, TIME, STATE, FLAG, _GAUGE}
    return _TOTAL if field.kind == COUNTER else _GAUGE


def _own_help(name: str) -> str:
    return _OWN_HELP.get(name, "Counted by the stats-exporter about itself.")


_OWN_HELP: Final = {
    "uwsgi_exporter_scrapes_total": "Times instances were read for this page.",
    "uwsgi_exporter_scrape_errors_total": "Instances that could not be read.",
    "uwsgi_exporter_last_scrape_error": "1 if an instance could not be read for this page.",
    "uwsgi_exporter_scrape_duration_seconds": "Time it took to read all instances.",
}
