"""An instance's numbers as points, named as telegraf's inputs.uwsgi names them (spec/server.md 6.4); pure.

Beside telegraf's tags a point has `host` (telegraf's agent adds it), `uwsgi_host` (seed 001 groups by it) and
`instance`, without which two apps behind UNIX sockets would write over each other: telegraf calls both after the host.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from palatine.codec.line_protocol import Point
from palatine_stats_exporter.board import Facts
from palatine_stats_exporter.document import UWSGI_VERSION

#: Fields by their names in telegraf, and the columns they come from where those have another name.
OVERVIEW: Final = ("listen_queue", "listen_queue_errors", "signal_queue", "load", "pid")
WORKERS: Final = (
    "requests",
    "accepting",
    "delta_request",
    "exceptions",
    "harakiri_count",
    "pid",
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
APPS: Final = ("requests", "startup_time", "exceptions")
CORES: Final = (
    "requests",
    "static_requests",
    "routed_requests",
    "offloaded_requests",
    "write_errors",
    "read_errors",
    "in_request",
)
_COLUMNS: Final = {"delta_request": "delta_requests"}


def common_tags(name: str, host: str, own: Mapping[str, str]) -> dict[str, str]:
    """Tags of every point of instance `name`; `own` are the operator's, which may empty or replace ours."""
    return {"host": host, "uwsgi_host": host, "instance": name, **own}


def points(facts: Facts, host: str, tags: Mapping[str, str], time_ns: int) -> Iterator[Point]:
    """All points of one instance; `host` is this machine's name, `tags` go on each, but never over telegraf's own."""
    base = {**tags, "source": source(facts, host)}
    server, columns = facts.server, facts.columns
    identity = {"uid": str(server.get("uid", 0)), "gid": str(server.get("gid", 0)), "version": UWSGI_VERSION}
    yield Point("uwsgi_overview", {**base, **identity}, {name: server.get(name, 0) for name in OVERVIEW}, time_ns)
    listed = {name: columns.workers[_COLUMNS.get(name, name)] for name in WORKERS}
    ids = [str(number) for number in columns.workers["id"]]
    for row, number in enumerate(ids):
        own = {**base, "worker_id": number}
        yield Point("uwsgi_workers", own, {name: column[row] for name, column in listed.items()}, time_ns)
        for said, app in zip(facts.apps, columns.apps, strict=True):
            numbers = {"modifier1": said["modifier1"], **{name: app[name][row] for name in APPS}}
            yield Point("uwsgi_apps", {**own, "app_id": str(said["id"])}, numbers, time_ns)
        for core in range(facts.cores):
            at = row * facts.cores + core
            numbers = {name: columns.cores[name][at] for name in CORES}
            yield Point("uwsgi_cores", {**own, "core_id": str(core)}, numbers, time_ns)


def source(facts: Facts, host: str) -> str:
    """What telegraf would call the instance: its stats address, the host for a UNIX socket; its name if it has none."""
    scheme, _, address = facts.address.partition("://")
    if scheme == "unix":
        return host
    return address or facts.name
