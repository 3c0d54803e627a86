"""uWSGI's metrics of one instance by name: those its segment has, else the built-in ones made of its counters; pure.

Names, types and order: spec/server.md 3.2 and its captures.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from palatine_stats_exporter.board import Facts

#: Types of metrics, as numbers in documents and on the wire.
COUNTER, GAUGE, ABSOLUTE, ALIAS = range(4)

_WORKER: Final = (
    ("requests", COUNTER, "requests"),
    ("delta_requests", ABSOLUTE, "delta_requests"),
    ("failed_requests", COUNTER, ""),  # uWSGI never counts any
    ("respawns", COUNTER, "respawn_count"),
    ("avg_response_time", GAUGE, "avg_rt"),
    ("total_tx", COUNTER, "tx"),
    ("rss_size", GAUGE, "rss"),
    ("vsz_size", GAUGE, "vsz"),
    ("running_time", COUNTER, "running_time"),
)
_CORE: Final = (
    "requests",
    "write_errors",
    "routed_requests",
    "static_requests",
    "offloaded_requests",
    "exceptions",
    "read_errors",
)


class Metric(NamedTuple):
    """One metric and what it stands at."""

    name: str
    type: int
    value: int


def metrics(facts: Facts) -> list[Metric]:
    """All metrics of an instance, in uWSGI's order."""
    if facts.metrics:
        return [
            Metric(str(row.get("name", "")), _number(row.get("type")), row.get("value", 0)) for row in facts.metrics
        ]
    return list(_builtin(facts))


def _builtin(facts: Facts) -> Iterator[Metric]:
    server, workers = facts.server, facts.columns.workers
    status = workers["status"]
    yield Metric("core.routed_signals", COUNTER, server.get("routed_signals", 0))
    yield Metric("core.unrouted_signals", COUNTER, server.get("unrouted_signals", 0))
    yield Metric("core.busy_workers", GAUGE, sum(word == "busy" for word in status))
    yield Metric("core.idle_workers", GAUGE, sum(word == "idle" for word in status))
    yield Metric("core.overloaded", COUNTER, server.get("overloaded", 0))
    total = sum(_numbers(facts, "requests"))
    for name, kind, _ in _WORKER:
        yield Metric(f"worker.0.{name}", kind, total if name == "requests" else 0)
    for row in range(len(status)):
        yield from _of_worker(facts, row)
    averages = [value for value in _numbers(facts, "avg_rt") if value]
    yield Metric("core.total_tx", COUNTER, sum(_numbers(facts, "tx")))
    yield Metric("core.total_rss", GAUGE, sum(_numbers(facts, "rss")))
    yield Metric("core.total_vsz", GAUGE, sum(_numbers(facts, "vsz")))
    yield Metric("core.avg_response_time", GAUGE, sum(averages) // len(averages) if averages else 0)
    yield Metric("core.total_running_time", COUNTER, sum(_numbers(facts, "running_time")))
    for number, socket in enumerate(facts.sockets):
        yield Metric(f"socket.{number}.listen_queue", GAUGE, int(socket.get("queue", 0)))
    yield Metric("rss_size", ALIAS, sum(_numbers(facts, "rss")))
    yield Metric("vsz_size", ALIAS, sum(_numbers(facts, "vsz")))


def _of_worker(facts: Facts, row: int) -> Iterator[Metric]:
    workers, cores = facts.columns.workers, facts.columns.cores
    for name, kind, column in _WORKER:
        yield Metric(f"worker.{row + 1}.{name}", kind, int(workers[column][row]) if column else 0)
    for core in range(facts.cores):
        for name in _CORE:
            value = cores[name][row * facts.cores + core]
            yield Metric(f"worker.{row + 1}.core.{core}.{name}", COUNTER, value)


def _number(label: Any) -> int:
    """A label of a segment we do not trust."""
    return label if isinstance(label, int) else COUNTER


def _numbers(facts: Facts, column: str) -> list[int]:
    return [int(value) for value in facts.columns.workers[column]]
