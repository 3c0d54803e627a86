"""What uwsgi_exporter does not know of an instance, as metrics called `palatine_...`, generated from the schema; pure.

Names follow Prometheus' rules: counters end with `_total`, times and durations are in seconds, a state is a label.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from palatine.schema import COUNTER as COUNTED
from palatine.schema import INSTANCE, SERVER_STATES, TIME, Field, by_name
from palatine_stats_exporter.board import PARTS, Facts
from palatine_stats_exporter.exposition import COUNTER, GAUGE, HISTOGRAM, Distribution, Family, labels
from palatine_stats_exporter.metrics import Shown
from palatine_stats_exporter.neighbours import state_word

_TABLES: Final = by_name(INSTANCE)
_MICRO: Final = 1e6
#: Units that are no base unit: what the number is divided by.
_SECONDS: Final = {"microseconds": 1e6, "milliseconds": 1e3}
#: What `uwsgi_...` shows of a master's row already, or what means nothing over time.
_ELSEWHERE: Final = frozenset(
    {"listen_queue", "listen_queue_errors", "signal_queue", "load", "pid", "uid", "gid", "state"}
)
_NOT_OVER_TIME: Final = frozenset({"pid", "uid", "gid", "harakiri_deadline_ms", "last_exit_status"})
_STATUSES: Final = ("busy", "idle", "cheap", "pause", "signal")
#: Programs an app attaches are no daemons of palatine's.
_CALLED: Final = {"daemons": "attached_daemon"}
_BUCKET: Final = re.compile(r"duration_le_(?:(\d+)us|inf)\Z")
#: uWSGI's type of a metric that only grows, and of one that stands for another.
_METRIC_COUNTER: Final = 0
_METRIC_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")


def instance_families(shown: Sequence[Shown]) -> Iterator[Family]:
    """Every metric of ours about instances."""
    for field in _TABLES["server"].fields:
        if field.name not in _ELSEWHERE:
            samples = [(one.base, in_seconds(field, one.facts.server.get(field.name, 0))) for one in shown]
            yield family("palatine_instance", field, samples)
    yield Family("palatine_instance_state", GAUGE, "1 for what the instance is doing.", list(_states(shown)))
    yield from _now(shown)
    yield from _totals(shown)
    yield from _custom(shown)
    for table, key in PARTS.items():
        for field in _TABLES[table].fields:
            if field.name not in _NOT_OVER_TIME:
                yield family(
                    f"palatine_{_CALLED.get(table, table.removesuffix('s'))}",
                    field,
                    list(_rows(shown, table, key, field)),
                )


def family(prefix: str, field: Field, samples: Sequence[tuple[str, Any]]) -> Family:
    """A field of the schema as a family: name, type and help as Prometheus expects them."""
    return Family(f"{prefix}_{metric_name(field)}", COUNTER if field.kind == COUNTED else GAUGE, field.help, samples)


def metric_name(field: Field) -> str:
    """A field's name with the endings Prometheus expects."""
    name = field.name.removesuffix("_ms")
    if field.kind == TIME:
        return f"{name}_timestamp_seconds"
    if field.unit in _SECONDS:
        name = f"{name}_seconds"
    return f"{name}_total" if field.kind == COUNTED else name


def in_seconds(field: Field, value: int) -> float:
    """A field's number in base units."""
    divisor = _SECONDS.get(field.unit)
    return value / divisor if divisor else value


def durations(totals: Mapping[str, int]) -> Distribution | None:
    """The durations of an instance's requests in seconds; None where its segment does not keep them."""
    buckets = sorted(
        (int(found[1] or 0) or 1 << 62, number) for name, number in totals.items() if (found := _BUCKET.match(name))
    )
    if not buckets:
        return None
    counts = list(accumulate(number for _, number in buckets))
    return Distribution([bound / _MICRO for bound, _ in buckets[:-1]], counts, totals.get("running_time", 0) / _MICRO)


def by_status(facts: Facts) -> dict[str, int]:
    """How many started workers are in each of uWSGI's statuses, signal handlers of any number together."""
    found = dict.fromkeys(_STATUSES, 0)
    for number, status in zip(facts.columns.workers["id"], facts.columns.workers["status"], strict=True):
        word = "signal" if str(status).startswith("sig") else str(status)
        if number and word in found:
            found[word] += 1
    return found


def _states(shown: Sequence[Shown]) -> Iterator[tuple[str, Any]]:
    for one in shown:
        word = state_word(SERVER_STATES, one.facts.server.get("state", 0)) if one.facts.alive else "gone"
        yield f'{one.base},state="{word}"', 1


def _now(shown: Sequence[Shown]) -> Iterator[Family]:
    """What an instance has, and what of it is taken."""
    statuses = [(one.base, by_status(one.facts)) for one in shown]
    samples = [(f'{base},state="{word}"', number) for base, found in statuses for word, number in found.items()]
    yield Family("palatine_workers", GAUGE, "Workers by what they are doing.", samples)
    busy = [(one.base, sum(one.facts.columns.cores["in_request"])) for one in shown]
    yield Family("palatine_cores_busy", GAUGE, "Cores that serve a request.", busy)
    cores = [(one.base, len(one.rows) * one.facts.cores) for one in shown]
    yield Family("palatine_cores", GAUGE, "Cores of all workers that were started.", cores)
    for name, text, column in (
        ("queued", "Connections waiting in all listen queues together.", "queue"),
        ("queue_capacity", "Connections all listen queues together can hold.", "max_queue"),
    ):
        samples = [(one.base, sum(socket.get(column, 0) for socket in one.facts.sockets)) for one in shown]
        yield Family(f"palatine_{name}", GAUGE, text, samples)
    waited = [(one.base, sum(socket.get("queued_time", 0) for socket in one.facts.sockets) / _MICRO) for one in shown]
    yield Family(
        "palatine_queued_seconds_total",
        COUNTER,
        "Time connections have waited in all listen queues, as their length each second adds up: its rate is the mean "
        "length, also between scrapes.",
        waited,
    )


def _totals(shown: Sequence[Shown]) -> Iterator[Family]:
    """What all cores of an instance have counted together."""
    found = [(one.base, value) for one in shown if (value := durations(one.facts.totals)) is not None]
    yield Family(
        "palatine_request_duration_seconds", HISTOGRAM, "Time from a request's head to the end of its response.", found
    )
    samples = [sample for one in shown for sample in _state_seconds(one)]
    yield Family("palatine_core_seconds_total", COUNTER, "Time cores have spent, by what they were doing.", samples)


def _state_seconds(one: Shown) -> Iterator[tuple[str, Any]]:
    totals = one.facts.totals
    waiting = totals.get("write_wait_time", 0)
    times = {"busy": max(0, totals.get("running_time", 0) - waiting)}
    if "write_wait_time" in totals:
        times["waiting_for_client"] = waiting
    if "idle_time" in totals:
        times["idle"] = totals["idle_time"]
    for word, micros in times.items():
        yield f'{one.base},state="{word}"', micros / _MICRO


def _custom(shown: Sequence[Shown]) -> Iterator[Family]:
    """The metrics subsystem's own values, by name."""
    counters: list[tuple[str, Any]] = []
    gauges: list[tuple[str, Any]] = []
    for one in shown:
        for label, row in named_once(one.facts.metrics, "metric", "name"):
            chosen = counters if row.get("type") == _METRIC_COUNTER and row.get("value", 0) >= 0 else gauges
            chosen.append((f"{one.base},{label}", row.get("value", 0)))
    yield Family("palatine_metric_value_total", COUNTER, "A counter of the metrics subsystem.", counters)
    yield Family("palatine_metric_value", GAUGE, "A gauge, or another metric, of the metrics subsystem.", gauges)


def named_once(rows: Sequence[Mapping[str, Any]], label: str, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Label and row; of two rows with the same name the first, as Prometheus takes one."""
    seen = set()
    for row in rows:
        name = str(row.get(key, ""))
        if name not in seen:
            seen.add(name)
            yield labels(**{label: name}), row


def _rows(shown: Sequence[Shown], table: str, key: str, field: Field) -> Iterator[tuple[str, Any]]:
    """A field of each row of a table, labelled with the row's number and what it is called."""
    for one in shown:
        for number, row in enumerate(one.facts.parts.get(table, [])):
            called = next(
                (row[word] for word in ("name", "dir", "command", "cmd") if isinstance(row.get(word), str)), ""
            )
            own = labels(**{key: str(number), "name": called})
            yield f"{one.base},{own}", in_seconds(field, row.get(field.name, 0))
