"""Every metric of an instance: uWSGI's own, built from the segment's tables, and those the config declares.

A row of the segment's `metrics` is a metric; the order here is that of the rows. Nothing here reads a value.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from palatine.errors import ConfigError
from palatine_app_server.config.metric_settings import ABSOLUTE, ALIAS, COUNTER, GAUGE, Metric, MetricsSettings

#: What the built-in metrics are made of: the segment's tables, read at one moment, and the counters of the collector.
Facts = Mapping[str, Sequence[Mapping[str, int]]]
Source = Callable[[Facts], int]

#: Characters of names and labels a segment's head has room for.
_MOST_LABEL_CHARACTERS: Final = 700_000
_LABEL_CHARACTERS: Final = 60

_CORE_FIELDS: Final = (
    ("requests", 1), ("write_errors", 3), ("routed_requests", 4), ("static_requests", 5),
    ("offloaded_requests", 6), ("exceptions", 7), ("read_errors", 8),
)  # fmt: skip
#: Of all workers together: name, last part of the oid, kind, field.
_TOTALS: Final = (
    ("total_tx", 100, COUNTER, "tx"), ("total_rss", 101, GAUGE, "rss"), ("total_vsz", 102, GAUGE, "vsz"),
    ("avg_response_time", 103, GAUGE, "avg_rt"), ("total_running_time", 104, COUNTER, "running_time"),
)  # fmt: skip


class Entry(NamedTuple):
    """One metric in its row; `source` gives a built-in one's value, `target` is the row an alias shows."""

    metric: Metric
    source: Source | None = None
    target: int | None = None

    @property
    def writable(self) -> bool:
        """Whether the app may set it."""
        return self.source is None and self.target is None and not self.metric.collector


class MetricTable:
    """The entries by row and by name."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)
        self.rows = {entry.metric.name: row for row, entry in enumerate(entries)}

    def labels(self) -> list[dict[str, Any]]:
        """What the rows stand for; an alias has its target's oid."""
        found = []
        for entry in self.entries:
            shown = entry if entry.target is None else self.entries[entry.target]
            label: dict[str, Any] = {"name": entry.metric.name, "oid": shown.metric.oid, "type": entry.metric.kind}
            if entry.metric.initial:
                label["initial_value"] = entry.metric.initial
            if entry.metric.reset_after_push:
                label["reset_after_push"] = 1
                label["initial_value"] = entry.metric.initial
            found.append(label)
        return found


def make(settings: MetricsSettings, processes: int, threads: int, sockets: int) -> MetricTable:
    """The table of an instance; ConfigError for a child, alias or threshold that names no metric."""
    entries = [*_builtin(processes, threads if settings.cores else 0, threads, sockets)]
    rows = {entry.metric.name: row for row, entry in enumerate(entries)}
    entries = [entry._replace(target=rows[entry.metric.alias]) if entry.metric.alias else entry for entry in entries]
    for metric in settings.declared:
        for name in (*metric.children, *([metric.alias] if metric.alias else ())):
            if name not in rows:
                raise ConfigError(f'metric {metric.name}: unable to find metric "{name}"')
        if metric.name in rows:
            raise ConfigError(f"metric {metric.name} is built in")
        rows[metric.name] = len(entries)
        entries.append(Entry(metric, target=rows[metric.alias] if metric.alias else None))
    for threshold in settings.thresholds:
        if threshold.metric not in rows:
            raise ConfigError(f"metric-threshold: unable to find metric {threshold.metric}")
    if sum(len(entry.metric.name) + _LABEL_CHARACTERS for entry in entries) > _MOST_LABEL_CHARACTERS:
        raise ConfigError(f"{len(entries)} metrics are too many: use metrics-no-cores")
    return MetricTable(entries)


def _builtin(processes: int, cores: int, threads: int, sockets: int) -> Iterator[Entry]:
    """UWSGI's metrics, in its order."""
    workers = range(1, processes + 1)
    yield _entry("core.routed_signals", "5.1", COUNTER, lambda facts: facts["server"][0]["routed_signals"])
    yield _entry("core.unrouted_signals", "5.2", COUNTER, lambda facts: facts["server"][0]["unrouted_signals"])
    yield _entry("core.busy_workers", "5.3", GAUGE, lambda facts: facts["collector"][0]["busy"])
    yield _entry("core.idle_workers", "5.4", GAUGE, lambda facts: facts["collector"][0]["idle"])
    yield _entry("core.overloaded", "5.5", COUNTER, lambda facts: facts["collector"][0]["overloaded"])
    for worker in range(processes + 1):
        yield from _of_worker(worker, processes, threads)
        if worker:
            yield from _of_cores(worker, cores, threads)
    for name, number, kind, field in _TOTALS:
        yield _entry(f"core.{name}", f"5.{number}", kind, _over_all(workers, threads, field, mean=field == "avg_rt"))
    for number in range(sockets):
        yield _entry(f"socket.{number}.listen_queue", f"7.{number}.1", GAUGE, _field("sockets", number, "queue"))
    for alias, metric in (("rss_size", "core.total_rss"), ("vsz_size", "core.total_vsz")):
        yield Entry(Metric(alias, kind=ALIAS, alias=metric))


def _of_worker(worker: int, processes: int, threads: int) -> Iterator[Entry]:
    total = range(1, processes + 1)
    served = _over_all(total, threads, "requests") if not worker else _over(worker, threads, "requests")
    prefix, oid = f"worker.{worker}", f"3.{worker}"

    def of_slot(field: str) -> Source:
        return _field("slots", worker - 1, field) if worker else _nothing

    def since_spawn(facts: Facts) -> int:
        return max(0, served(facts) - facts["slots"][worker - 1]["requests_at_spawn"]) if worker else 0

    def of_cores(field: str, *, mean: bool = False) -> Source:
        return _over(worker, threads, field, mean=mean) if worker else _nothing

    yield _entry(f"{prefix}.requests", f"{oid}.1", COUNTER, served)
    yield _entry(f"{prefix}.delta_requests", f"{oid}.2", ABSOLUTE, since_spawn)
    yield _entry(f"{prefix}.failed_requests", f"{oid}.13", COUNTER, _nothing)
    yield _entry(f"{prefix}.respawns", f"{oid}.14", COUNTER, of_slot("respawn_count"))
    yield _entry(f"{prefix}.avg_response_time", f"{oid}.8", GAUGE, of_cores("avg_rt", mean=True))
    yield _entry(f"{prefix}.total_tx", f"{oid}.9", COUNTER, of_cores("tx"))
    yield _entry(f"{prefix}.rss_size", f"{oid}.11", GAUGE, of_slot("rss"))
    yield _entry(f"{prefix}.vsz_size", f"{oid}.12", GAUGE, of_slot("vsz"))
    yield _entry(f"{prefix}.running_time", f"{oid}.13", COUNTER, of_cores("running_time"))


def _of_cores(worker: int, cores: int, threads: int) -> Iterator[Entry]:
    for core in range(cores):
        row = (worker - 1) * threads + core
        for field, number in _CORE_FIELDS:
            oid = f"3.{worker}.2.{core}.{number}"
            yield _entry(f"worker.{worker}.core.{core}.{field}", oid, COUNTER, _field("cores", row, field))


def _entry(name: str, oid: str, kind: int, source: Source) -> Entry:
    return Entry(Metric(name, oid, kind), source)


def _field(table: str, row: int, field: str) -> Source:
    return lambda facts: facts[table][row][field]


def _nothing(_facts: Facts) -> int:
    return 0


def _over(worker: int, threads: int, field: str, *, mean: bool = False) -> Source:
    """The sum over the cores of a worker, or the mean over those of them that have served."""
    rows = slice((worker - 1) * threads, worker * threads)

    def value(facts: Facts) -> int:
        values = [core[field] for core in facts["cores"][rows]]
        return sum(values) // max(1, len(values) - values.count(0)) if mean else sum(values)

    return value


def _over_all(workers: range, threads: int, field: str, *, mean: bool = False) -> Source:
    """The sum over all workers, or the mean of what `_over` says of each."""
    each = [_over(worker, threads, field, mean=True) for worker in workers]
    table = "slots" if field in {"rss", "vsz"} else "cores"

    def value(facts: Facts) -> int:
        if mean:
            return sum(one(facts) for one in each) // max(1, len(each))
        return sum(row[field] for row in facts[table])

    return value
