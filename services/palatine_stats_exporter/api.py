"""The JSON API's answers out of facts; pure. What is shown of the host live is made here, too."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from palatine_stats_exporter.api_model import Alarm, Core, Daemon, Instance, InstanceDetail, Vassal, Worker
from palatine_stats_exporter.board import Facts
from palatine_stats_exporter.neighbours import Neighbour, alarms, vassals

_SERVER: Final = (
    "pid",
    "uid",
    "started",
    "generation",
    "reloads",
    "last_reload",
    "listen_queue",
    "listen_queue_max",
    "requests_lost",
)
_SUMS: Final = ("requests", "exceptions", "harakiri_count", "respawn_count", "tx", "rss", "running_time")
_WORKER: Final = (
    "id",
    "pid",
    "requests",
    "delta_requests",
    "exceptions",
    "harakiri_count",
    "signals",
    "respawn_count",
    "last_spawn",
    "running_time",
    "avg_rt",
    "tx",
    "rss",
    "vsz",
)


def instance(facts: Facts) -> Instance:
    """One instance: what its master says, and its workers added up."""
    workers, server = facts.columns.workers, facts.server
    status = [str(word) for number, word in zip(workers["id"], workers["status"], strict=True) if number]
    times = [int(number) for number in workers["avg_rt"] if number]
    return Instance(
        name=facts.name,
        state=facts.state,
        alive=facts.alive,
        address=facts.address,
        **{key: server.get(key, 0) for key in _SERVER},
        **{key: sum(map(int, workers[key])) for key in _SUMS},
        avg_rt=sum(times) // len(times) if times else 0,
        in_request=sum(facts.columns.cores["in_request"]),
        workers=len(status),
        cores=facts.cores,
        status={word: status.count(word) for word in sorted(set(status))},
    )


def detail(facts: Facts, now: float) -> InstanceDetail:
    """One instance with everything known of it."""
    return InstanceDetail(
        now=now,
        instance=instance(facts),
        workers=[_worker(facts, index) for index in range(len(facts.columns.workers["id"]))],
        sockets=facts.sockets,
        caches=facts.caches,
        metrics=facts.metrics,
        parts=dict(facts.parts),
    )


def listed_daemons(neighbours: Iterable[Neighbour]) -> list[Daemon]:
    """The daemons of the host."""
    found = []
    for one in neighbours:
        row = next(iter(one.tables.get("daemon", [])), {})
        own = {table: rows[0] for table, rows in one.tables.items() if table not in {"vassals", "alarms"} and rows}
        figures = {name: number for numbers in own.values() for name, number in numbers.items()}
        pid, started = row.get("pid", 0), row.get("started", 0)
        found.append(Daemon(one.name, one.state, one.alive, one.status, pid, started, figures))
    return found


def listed_vassals(neighbours: Sequence[Neighbour]) -> list[Vassal]:
    """The vassals of the host's Emperor."""
    names = ("pid", "respawns", "last_start", "last_loyal", "blacklist_level", "attempts")
    return [Vassal(**said, **_only(row, names)) for said, row in vassals(list(neighbours))]


def listed_alarms(neighbours: Sequence[Neighbour]) -> list[Alarm]:
    """The alarms of all instances, those raised last first."""
    names = ("raised", "suppressed", "delivered", "failed", "pending", "last_raised", "last_delivered", "last_failed")
    found = [Alarm(**said, **_only(row, names)) for said, row in alarms(list(neighbours))]
    return sorted(found, key=lambda alarm: (-alarm.last_raised, alarm.instance, alarm.alarm))


def _worker(facts: Facts, index: int) -> Worker:
    columns, cores = facts.columns, facts.cores
    rows = range(index * cores, (index + 1) * cores)
    return Worker(
        **{key: int(columns.workers[key][index]) for key in _WORKER},
        status=str(columns.workers["status"][index]),
        accepting=bool(columns.workers["accepting"][index]),
        in_request=sum(columns.cores["in_request"][row] for row in rows),
        cores=[_core(facts, core, row) for core, row in enumerate(rows)],
    )


def _core(facts: Facts, number: int, row: int) -> Core:
    columns, activity = facts.columns.cores, facts.columns.busy.get(row)
    doing: dict[str, str] = {}
    if activity is not None:
        text = activity.text.decode("utf-8", "backslashreplace")
        doing = dict(variable.partition("=")[::2] for variable in text.split("\0"))
    return Core(
        id=number,
        requests=columns["requests"][row],
        in_request=bool(columns["in_request"][row]),
        since=activity.started if activity is not None else 0,
        method=doing.get("REQUEST_METHOD", ""),
        uri=doing.get("REQUEST_URI", ""),
        host=doing.get("HTTP_HOST", ""),
        peer=doing.get("REMOTE_ADDR", ""),
    )


def _only(row: Mapping[str, int], names: Sequence[str]) -> dict[str, Any]:
    return {name: row.get(name, 0) for name in names}
