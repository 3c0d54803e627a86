"""What the dashboards show: seed 001's nine panels and what it asks for beside them, once for both databases.

Every count is right at any time range: the last reading of each worker in an interval is counted once, however many
readings the interval has (seed 001's own queries count readings), and what happened is a difference of counters, which
adds up to the same over 15 minutes and over a week. Titles are ours; descriptions and units come from palatine.schema.
"""

from typing import NamedTuple

from palatine.schema import INSTANCE, Field, by_name

#: Grafana's names for the units of the schema; anything else is a number.
UNITS = {"microseconds": "µs", "bytes": "bytes", "seconds": "s"}


class Query(NamedTuple):
    """One query of a panel; `name` is its series' name, in each database's own way of writing labels."""

    name: str
    text: str


class Panel(NamedTuple):
    """One panel.

    Attributes:
        title, description: what it is called and what it means.
        influx, prometheus: its queries for each.
        units: Grafana's unit for each of them.
        kind: timeseries, bars (a timeseries of things that happened), or stat (one number for the whole range).
        reduce: how a stat makes one number of its series.
    """

    title: str
    description: str
    influx: tuple[Query, ...]
    prometheus: tuple[Query, ...]
    units: tuple[str, str] = ("short", "short")
    kind: str = "timeseries"
    reduce: str = "lastNotNull"


_WHERE = '$timeFilter AND "uwsgi_host" =~ /^$host$/ AND "instance" =~ /^$instance$/'
_WORKER = '"worker_id", "source", "uwsgi_host", "instance"'
_INSTANCE = '"source", "uwsgi_host", "instance"'
_ONE = "$tag_instance $tag_source"
_EACH = "$tag_instance worker $tag_worker_id"

_CHOSEN = '{instance=~"$host",uwsgi_instance=~"$instance"}'
_BY = "sum by (instance, uwsgi_instance)"
_ONE_LABEL = "{{uwsgi_instance}} {{instance}}"
_EACH_LABEL = "{{uwsgi_instance}} worker {{worker_id}}"


def panels() -> list[Panel]:
    """All panels in the order of the page, the numbers for the whole range first."""
    queue, avg_rt = _field("server", "listen_queue"), _field("cores", "avg_rt")
    running, spawned = _field("cores", "running_time"), _field("slots", "last_spawn")
    return [
        _running_workers("Workers now", kind="stat"),
        _happened("Harakiris in this range", "slots", "harakiri_count", "harakiri_count_total", kind="stat"),
        _happened("Respawns in this range", "slots", "respawn_count", "respawn_count_total", kind="stat"),
        Panel(
            "Requests in this range",
            _field("cores", "requests").help,
            (Query("requests", _differences("requests", "")),),
            (Query("requests", f"sum({_steps('requests_total')})"),),
            kind="stat",
            reduce="sum",
        ),
        _happened("Harakiris", "slots", "harakiri_count", "harakiri_count_total"),
        Panel(
            "Worker status",
            "Workers by what they do: serving a request, waiting for one, stopped by the cheaper subsystem, paused.",
            (
                *(Query(word, _status(f" AND \"status\" = '{word}'")) for word in _STATUSES),
                Query("total", _status("", " fill(none)")),
            ),
            (
                *(Query(word, f"sum(uwsgi_worker_{word}{_CHOSEN})") for word in _STATUSES),
                Query("total", f"sum(uwsgi_workers{_CHOSEN})"),
            ),
        ),
        Panel(
            "Listen queue",
            f"{queue.help} The highest of each interval.",
            (Query(_ONE, _levels("max", "listen_queue", "uwsgi_overview", _INSTANCE)),),
            (Query(_ONE_LABEL, f"max_over_time(uwsgi_listen_queue_length{_CHOSEN}[$__rate_interval])"),),
        ),
        _running_workers("Workers"),
        _each_worker("Requests per worker", _field("cores", "requests").help, "requests", "requests_total"),
        Panel(
            "Requests in progress",
            f"{_field('cores', 'in_request').help} The mean of each interval.",
            (
                Query(
                    _ONE,
                    f'SELECT sum("mean") FROM (SELECT mean("in_request") FROM "uwsgi_cores" WHERE {_WHERE} '
                    f'GROUP BY time($__interval), "core_id", {_WORKER}) WHERE $timeFilter '
                    f"GROUP BY time($__interval), {_INSTANCE} fill(none)",
                ),
            ),
            (Query(_ONE_LABEL, f"{_BY} (avg_over_time(uwsgi_worker_core_busy{_CHOSEN}[$__rate_interval]))"),),
        ),
        _happened("Respawns", "slots", "respawn_count", "respawn_count_total"),
        Panel(
            "Average request time",
            avg_rt.help,
            (Query(_EACH, _levels("mean", "avg_rt", "uwsgi_workers", _WORKER)),),
            (Query(_EACH_LABEL, f"uwsgi_worker_average_response_time_seconds{_CHOSEN}"),),
            (_unit(avg_rt), "s"),
        ),
        Panel(
            "Running time",
            f"{running.help} Since the master's start.",
            (Query(_EACH, _levels("last", "running_time", "uwsgi_workers", _WORKER)),),
            (Query(_EACH_LABEL, f"uwsgi_worker_running_time_seconds{_CHOSEN}"),),
            (_unit(running), "s"),
        ),
        _each_worker(
            "Requests since respawn",
            "Requests finished since the worker's process was started: falls to zero when it is started again.",
            "delta_request",
            "delta_requests",
        ),
        Panel(
            "Worker uptime",
            f"{spawned.help} How long ago that is.",
            (Query(_EACH, _levels("last", "last_spawn", "uwsgi_workers", _WORKER, " * 1000")),),
            (Query(_EACH_LABEL, f"time() - (uwsgi_worker_last_spawn_time_seconds{_CHOSEN} > 0)"),),
            ("dateTimeFromNow", "s"),
            kind="stat",
        ),
    ]


_STATUSES = ("busy", "idle", "cheap", "pause")


def _field(table: str, name: str) -> Field:
    declared = by_name(INSTANCE)[table]
    return declared.fields[declared.word(name)]


def _unit(field: Field) -> str:
    return UNITS.get(field.unit, "short")


def _levels(function: str, field: str, measurement: str, tags: str, then: str = "") -> str:
    """How much there was in each interval, a series for each combination of the tags."""
    return (
        f'SELECT {function}("{field}"){then} FROM "{measurement}" WHERE {_WHERE} '
        f"GROUP BY time($__interval), {tags} fill(none)"
    )


def _status(condition: str, end: str = " fill(0)") -> str:
    """How many workers the condition held for at the last reading of each interval."""
    said = condition.replace('"status"', '"last"')
    return (
        f'SELECT count("last") FROM (SELECT last("status") FROM "uwsgi_workers" WHERE {_WHERE} '
        f"GROUP BY time($__interval), {_WORKER}) WHERE $timeFilter{said} GROUP BY time($__interval){end}"
    )


def _running_workers(title: str, kind: str = "timeseries") -> Panel:
    """Workers that are not stopped by cheaper; those of all instances together for a stat."""
    each = kind != "stat"
    query = _status(" AND \"status\" != 'cheap'", f", {_INSTANCE} fill(none)" if each else " fill(none)")
    by = _BY if each else "sum"
    expression = f"{by} (uwsgi_workers{_CHOSEN}) - {by} (uwsgi_worker_cheap{_CHOSEN})"
    return Panel(
        title,
        "Workers that run: those the cheaper subsystem keeps stopped are left out.",
        (Query(_ONE if each else "workers", query),),
        (Query(_ONE_LABEL if each else "workers", expression),),
        kind=kind,
    )


def _differences(field: str, tags: str) -> str:
    """What each worker's counter grew by in each interval; a master's restart, which clears it, counts as nothing."""
    return (
        f'SELECT sum("grown") FROM (SELECT non_negative_difference(last("{field}")) AS "grown" FROM "uwsgi_workers" '
        f"WHERE {_WHERE} GROUP BY time($__interval), {_WORKER} fill(none)) WHERE $timeFilter "
        f"GROUP BY time($__interval){tags} fill(0)"
    )


def _steps(metric: str) -> str:
    """The same for Prometheus: exact, where increase() would extrapolate."""
    name = f"uwsgi_worker_{metric}{_CHOSEN}"
    return f"clamp_min({name} - ({name} offset $__interval), 0)"


def _happened(title: str, table: str, field: str, metric: str, kind: str = "bars") -> Panel:
    """Things that happened: a bar for each interval, or their number in the whole range."""
    each = kind != "stat"
    return Panel(
        title,
        _field(table, field).help,
        (Query(_ONE if each else field, _differences(field, f", {_INSTANCE}" if each else "")),),
        (Query(_ONE_LABEL if each else field, f"{_BY if each else 'sum'} ({_steps(metric)})"),),
        kind=kind,
        reduce="sum",
    )


def _each_worker(title: str, description: str, field: str, metric: str) -> Panel:
    return Panel(
        title,
        description,
        (Query(_EACH, _levels("last", field, "uwsgi_workers", _WORKER)),),
        (Query(_EACH_LABEL, f"uwsgi_worker_{metric}{_CHOSEN}"),),
    )
