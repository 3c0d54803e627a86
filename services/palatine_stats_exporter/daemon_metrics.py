"""Metrics of the suite's own daemons, of vassals and of alarms, generated from the schema; pure."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from palatine.schema import AGENT, ALARMS, DAEMON, EMPEROR, EXPORTER, Field, Table, by_name
from palatine_stats_exporter.exposition import GAUGE, Family, labels
from palatine_stats_exporter.instance_metrics import family, in_seconds
from palatine_stats_exporter.neighbours import Neighbour, Row, alarms, vassals

_TABLES: Final = by_name([*DAEMON, *AGENT, *ALARMS, *EMPEROR, *EXPORTER])
#: Tables with one row, by the prefix of their metrics.
_SINGLE: Final = {"emperor": "emperor", "alarm_totals": "alarms", "agent": "snmp", "exporter": "exporter"}
_NOT_OVER_TIME: Final = frozenset({"pid", "uid", "gid", "keeper_pid", "state", "last_exit_status"})

Labelled = Sequence[tuple[str, Row]]


def daemon_families(daemons: Sequence[Neighbour]) -> Iterator[Family]:
    """Every metric about daemons."""
    up = [(labels(daemon=one.name), int(one.alive)) for one in daemons]
    yield Family("palatine_daemon_up", GAUGE, "1 while the daemon lives and its counters can be read.", up)
    rows = [(labels(daemon=one.name), one.tables["daemon"][0]) for one in daemons if one.tables.get("daemon")]
    yield from _fields("palatine_daemon", _TABLES["daemon"], rows)
    for table, prefix in _SINGLE.items():
        single = [("", one.tables[table][0]) for one in daemons if one.tables.get(table)]
        yield from _fields(f"palatine_{prefix}", _TABLES[table], single[:1])
    yield from _vassals(list(daemons))
    listed = _once(
        (labels(uwsgi_instance=said["instance"], alarm=said["alarm"]), row) for said, row in alarms(list(daemons))
    )
    yield from _fields("palatine_alarm", _TABLES["alarms"], listed)


def _vassals(daemons: list[Neighbour]) -> Iterator[Family]:
    found = [(labels(vassal=said["id"]), said, row) for said, row in vassals(daemons)]
    states = [(f'{label},state="{said["state"]}"', 1) for label, said, _ in found]
    yield Family("palatine_vassal_state", GAUGE, "1 for what the vassal is doing.", _first(states))
    yield from _fields("palatine_vassal", _TABLES["vassals"], _once((label, row) for label, _, row in found))


def _fields(prefix: str, table: Table, rows: Labelled) -> Iterator[Family]:
    for field in table.fields:
        if field.name not in _NOT_OVER_TIME:
            yield family(prefix, field, [(label, _number(field, row)) for label, row in rows])


def _number(field: Field, row: Row) -> float:
    return in_seconds(field, row.get(field.name, 0))


def _once(rows: Iterator[tuple[str, Row]]) -> Labelled:
    """Of rows with the same labels the first, as Prometheus takes one."""
    return list({label: (label, row) for label, row in reversed(list(rows))}.values())[::-1]


def _first(samples: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return list(dict(reversed(samples)).items())[::-1]
