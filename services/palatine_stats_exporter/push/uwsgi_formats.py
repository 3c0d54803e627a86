"""What uWSGI's statsd, socket, carbon and rrdtool pushers write, to the byte (plugins of uWSGI 2.0.31); pure."""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Final

import msgspec

from palatine.errors import ProtocolError
from palatine_stats_exporter.board import Facts
from palatine_stats_exporter.push.uwsgi_metrics import GAUGE, Fresh, Metric

#: What uWSGI lets metrics be called, and what would end a path between quotes.
_NAME: Final = re.compile(r"[0-9A-Za-z._-]+")
_UNQUOTABLE: Final = re.compile(r'["\\\x00-\x1f]')
_MICRO: Final = 1_000_000
_ALL: Final = 100
#: plugins/rrdtool/rrdtool.c: two days of five minutes' means, then hours, days and weeks.
_ARCHIVES: Final = (
    "RRA:AVERAGE:0.5:1:288",
    "RRA:AVERAGE:0.5:12:168",
    "RRA:AVERAGE:0.5:288:31",
    "RRA:AVERAGE:0.5:2016:52",
)


class Wish(msgspec.Struct, frozen=True):
    """What an app's config asks for, as its master hands it over; every pusher uses some of it."""

    pusher: str
    address: str
    seconds: Annotated[int, msgspec.Meta(ge=1)]
    host: str = ""
    prefix: str = "uwsgi"
    separator: str = "\n\n"
    collection: str = "uwsgi.statistics"
    minified: bool = False
    no_cores: bool = False
    no_metrics: bool = False
    root: str = "uwsgi"
    id: str = ""
    dots: str = ""
    workers: bool = True
    idle_avg: str = "last"
    cheaper: bool = False
    metrics: bool = False
    timeout: Annotated[int, msgspec.Meta(ge=1)] = 3
    retries: Annotated[int, msgspec.Meta(ge=0)] = 0
    retry_seconds: Annotated[int, msgspec.Meta(ge=1)] = 7


def statsd(prefix: str, metric: Metric) -> bytes:
    """A datagram for statsd: a gauge, or else a counter, of which uWSGI sends the whole value each time."""
    kind = "g" if metric.type == GAUGE else "c"
    return f"{prefix}.{metric.name}:{metric.value}|{kind}".encode("utf-8", "backslashreplace")


def plain(prefix: str, metric: Metric) -> bytes:
    """A datagram of the `socket` pusher: name, number of the type, value."""
    return f"{prefix}.{metric.name} {metric.type} {metric.value}".encode("utf-8", "backslashreplace")


class Carbon:
    """Lines for carbon; remembers running times and requests, because busyness is a difference."""

    def __init__(self, wish: Wish) -> None:
        root = f"{wish.root}." if wish.root and not wish.root.endswith(".") else wish.root
        host = wish.host.replace(".", wish.dots) if wish.dots else wish.host
        self._wish = wish
        self._fresh = Fresh()
        self._path = f"{root}{host}.{wish.id}."
        self._running: dict[int, int] = {}
        self._requests = 0

    def lines(self, facts: Facts, now: int) -> bytes:
        """All lines for one reading, `now` in unix seconds."""
        if self._wish.metrics:
            found: Iterable[tuple[str, int]] = [(metric.name, metric.value) for metric in self._fresh.metrics(facts)]
        else:
            found = self._computed(facts)
        return "".join(f"{self._path}{name} {value} {now}\n" for name, value in found).encode("utf-8", "replace")

    def _computed(self, facts: Facts) -> Iterator[tuple[str, int]]:
        columns = facts.columns.workers
        requests = sum(map(int, columns["requests"]))
        idle = not self._requests or self._requests == requests
        self._requests = requests
        memory = any(columns["rss"])
        active = [row for row, word in enumerate(columns["status"]) if word != "cheap"]
        busyness = {row: self._busyness(facts, row) for row in range(len(columns["id"]))}
        yield "requests", requests
        for row in range(len(columns["id"]) if self._wish.workers else 0):
            name, here = f"worker{row + 1}", row in active
            yield f"{name}.requests", int(columns["requests"][row])
            if memory:
                yield f"{name}.rss_size", int(columns["rss"][row])
                yield f"{name}.vsz_size", int(columns["vsz"][row])
            yield from self._average(f"{name}.avg_rt", int(columns["avg_rt"][row]) if here else 0, idle=idle)
            yield f"{name}.tx", int(columns["tx"][row])
            yield f"{name}.busyness", busyness[row] if here else 0
            yield f"{name}.harakiri", int(columns["harakiri_count"][row])
        if memory:
            yield "rss_size", sum(int(columns["rss"][row]) for row in active)
            yield "vsz_size", sum(int(columns["vsz"][row]) for row in active)
        count = max(1, len(active))
        yield from self._average("avg_rt", sum(int(columns["avg_rt"][row]) for row in active) // count, idle=idle)
        yield "tx", sum(map(int, columns["tx"]))
        yield "busyness", min(_ALL, sum(busyness[row] for row in active) // count)
        yield "active_workers", len(active)
        if self._wish.cheaper:
            yield "cheaped_workers", len(columns["id"]) - len(active)
        yield "harakiri", sum(map(int, columns["harakiri_count"]))

    def _average(self, name: str, value: int, *, idle: bool) -> Iterator[tuple[str, int]]:
        """An average, unless nothing was served since the last time and the config wants none then, or zero."""
        if not idle or self._wish.idle_avg == "last":
            yield name, value
        elif self._wish.idle_avg == "zero":
            yield name, 0

    def _busyness(self, facts: Facts, row: int) -> int:
        """Percent of the time since the last push spent in requests; 100 for a request that goes on and on."""
        running = int(facts.columns.workers["running_time"][row])
        spent = running - self._running.get(row, 0)
        self._running[row] = running
        if not spent and facts.columns.workers["status"][row] == "busy":
            return _ALL
        return max(0, min(_ALL, spent * _ALL // (self._wish.seconds * _MICRO)))


def rrdtool(directory: str, found: Iterable[Metric], existing: frozenset[str]) -> bytes:
    """Commands for `rrdtool -`: make the files that are missing, then update all. ProtocolError for a quoted path."""
    if _UNQUOTABLE.search(directory):
        raise ProtocolError(f"{directory!r} cannot be said to rrdtool")
    lines = []
    for metric in found:
        if not _NAME.fullmatch(metric.name):
            continue
        path = f'"{directory}/{metric.name}.rrd"'
        if f"{metric.name}.rrd" not in existing:
            kind = "GAUGE" if metric.type == GAUGE else "DERIVE"
            lines.append(f"create {path} DS:metric:{kind}:600:0:U {' '.join(_ARCHIVES)}")
        lines.append(f"update {path} N:{metric.value}")
    return "\n".join([*lines, "quit", ""]).encode("utf-8", "replace")
