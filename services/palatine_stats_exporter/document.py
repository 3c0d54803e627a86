"""An instance's stats document as values, key for key in uWSGI's order; integers and strings only, nothing else ever.

`outline` is everything but the workers, with Cells where numbers of the segment go; `document` is the whole thing as
plain values. What goes out on sockets is `encoder`'s work, which must come to the same text.
Facts: spec/server.md 2.2 and 2.3.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Self

import attrs

from palatine.counters import SegmentView
from palatine_stats_exporter.doing import Activity
from palatine_stats_exporter.layout import SLOT, Hole
from palatine_stats_exporter.reading import (
    CORE_KEYS,
    WORKER_KEYS,
    Columns,
    Reader,
    label_number,
    label_text,
)

#: What stats clients compare; palatine's own version is elsewhere.
UWSGI_VERSION: Final = "2.0.31"
#: Where the workers go in an outline.
WORKERS: Final = Hole("\x02")

_CACHE_TEXTS: Final = ("name", "hash")
_CACHE_NUMBERS: Final = ("hashsize", "keysize", "max_items", "blocks", "blocksize")
_CACHE_CELLS: Final = ("items", "hits", "miss", "full", "last_modified_at")
_CRON_NUMBERS: Final = ("minute", "hour", "day", "month", "week")


@attrs.frozen
class Form:
    """How a stats socket wants its document: the options of the same names."""

    minified: bool = False
    no_cores: bool = False
    no_metrics: bool = False

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "Form":
        """From the options of a handoff offer."""
        return cls(
            minified=bool(options.get("minified")),
            no_cores=bool(options.get("no_cores")),
            no_metrics=bool(options.get("no_metrics")),
        )


class Cell(Hole):
    """The place of one number of the segment."""

    __slots__ = ("field", "row", "table")

    table: str
    row: int
    field: str

    def __new__(cls, table: str, field: str, row: int = 0) -> Self:
        """A slot that knows where its number is kept."""
        cell = super().__new__(cls, SLOT)
        cell.table, cell.row, cell.field = table, row, field
        return cell


def outline(view: SegmentView, form: Form) -> dict[str, Any]:
    """The document without its workers: labels in place, a Cell for each number, WORKERS under `workers`."""
    server = {name: Cell("server", name) for name in ("listen_queue", "listen_queue_errors", "signal_queue", "load")}
    identity = {name: Cell("server", name) for name in ("pid", "uid", "gid")}
    found: dict[str, Any] = {
        "version": UWSGI_VERSION,
        **server,
        **identity,
        "cwd": label_text(view.labels.get("cwd")),
    }
    daemons = _listed(view, "daemons", _daemon)
    if daemons:
        found["daemons"] = daemons
    found["locks"] = _listed(view, "locks", _lock)
    caches = _listed(view, "caches", _cache)
    if caches:
        found["caches"] = caches
    if not form.no_metrics and (metrics := _listed(view, "metrics", _metric)):
        found["metrics"] = {name: metric for entry in metrics for name, metric in entry.items()}
    found["sockets"] = _listed(view, "sockets", _socket)
    found["workers"] = WORKERS
    for key, shape in (("spoolers", _spooler), ("crons", _cron)):
        if entries := _listed(view, key, shape):
            found[key] = entries
    return found


def document(view: SegmentView, form: Form | None = None) -> dict[str, Any]:
    """The whole document as it is now. ProtocolError if the segment is not an app-server's or was cut short."""
    form = form or Form()
    reader = Reader(view)
    found: dict[str, Any] = filled(outline(view, form), view)
    apps = [app_labels(view, index) for index in range(reader.apps)]
    columns = reader.read()
    found["workers"] = [
        _worker(columns, index, apps, 0 if form.no_cores else reader.cores) for index in range(reader.workers)
    ]
    return found


def app_values(labels: Mapping[str, Any], startup_time: Any, requests: Any, exceptions: Any) -> dict[str, Any]:
    """One app of a worker, from its labels and numbers."""
    fixed = {key: labels[key] for key in ("id", "modifier1", "mountpoint")}
    numbers = {"startup_time": startup_time, "requests": requests, "exceptions": exceptions}
    return {**fixed, **numbers, "chdir": labels["chdir"]}


def core_values(number: int, numbers: Sequence[Any], activity: Activity | None) -> dict[str, Any]:
    """One core, its numbers by CORE_KEYS: `vars` and `req_info` are empty unless it serves a request."""
    values: dict[str, Any] = {"id": number, **dict(zip(CORE_KEYS, numbers, strict=True))}
    values["vars"] = [] if activity is None else variables(activity.text)
    values["req_info"] = {} if activity is None else {"request_start": activity.started}
    return values


def variables(activity: bytes) -> list[str]:
    """A core's activity as uWSGI lists variables: `K=V` and an empty one at the end; bytes that are no text escaped."""
    return [*activity.decode("utf-8", "backslashreplace").split("\0"), ""] if activity else [""]


def app_labels(view: SegmentView, index: int) -> dict[str, Any]:
    """What is fixed about an app; `id` is its index where the segment does not say."""
    said = view.row_labels("apps", index)
    return {
        "id": label_number(said.get("id", index)),
        "modifier1": label_number(said.get("modifier1")),
        "mountpoint": label_text(said.get("mountpoint")),
        "chdir": label_text(said.get("chdir")),
    }


def cells(value: Any) -> Iterator[Cell]:
    """The Cells of an outline, in the order its text has them."""
    if isinstance(value, Cell):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from cells(item)
    elif isinstance(value, list):
        for item in value:
            yield from cells(item)


def filled(value: Any, view: SegmentView) -> Any:
    """An outline with its numbers."""
    tables = {cell.table for cell in cells(value)}
    rows = {table: view.read(table) for table in tables if table in view.tables}
    return _filled(value, rows)


def cell_value(cell: Cell, rows: Mapping[str, list[dict[str, int]]]) -> int:
    """The number a Cell stands for; 0 where the segment does not keep it."""
    table = rows.get(cell.table, [])
    return table[cell.row].get(cell.field, 0) if cell.row < len(table) else 0


def _worker(columns: Columns, index: int, apps: Sequence[Mapping[str, Any]], cores: int) -> dict[str, Any]:
    values: dict[str, Any] = {key: columns.workers[key][index] for key in WORKER_KEYS}
    values["apps"] = [
        app_values(labels, numbers["startup_time"][index], numbers["requests"][index], numbers["exceptions"][index])
        for labels, numbers in zip(apps, columns.apps, strict=True)
    ]
    if cores:
        values["cores"] = [
            core_values(core, [columns.cores[key][row] for key in CORE_KEYS], columns.busy.get(row))
            for core, row in enumerate(range(index * cores, (index + 1) * cores))
        ]
    return values


def _filled(value: Any, rows: Mapping[str, list[dict[str, int]]]) -> Any:
    if isinstance(value, Cell):
        return cell_value(value, rows)
    if isinstance(value, Mapping):
        return {key: _filled(item, rows) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, rows) for item in value]
    return value


def _listed(
    view: SegmentView, table: str, shape: Callable[[Mapping[str, Any], int], dict[str, Any]]
) -> list[dict[str, Any]]:
    if table not in view.tables:
        return []
    return [shape(view.row_labels(table, row), row) for row in range(view.rows(table))]


def _socket(labels: Mapping[str, Any], row: int) -> dict[str, Any]:
    return {
        "name": label_text(labels.get("name")),
        "proto": label_text(labels.get("proto")),
        "queue": Cell("sockets", "queue", row),
        "max_queue": Cell("sockets", "max_queue", row),
        "shared": label_number(labels.get("shared")),
        "can_offload": label_number(labels.get("can_offload")),
    }


def _lock(labels: Mapping[str, Any], row: int) -> dict[str, Any]:
    return {label_text(labels.get("name")): Cell("locks", "owner_pid", row)}


def _daemon(labels: Mapping[str, Any], row: int) -> dict[str, Any]:
    numbers = {name: Cell("daemons", name, row) for name in ("pid", "respawns")}
    return {"cmd": label_text(labels.get("cmd")), **numbers}


def _cache(labels: Mapping[str, Any], row: int) -> dict[str, Any]:
    texts = {name: label_text(labels.get(name)) for name in _CACHE_TEXTS}
    numbers = {name: label_number(labels.get(name)) for name in _CACHE_NUMBERS}
    return {**texts, **numbers, **{name: Cell("caches", name, row) for name in _CACHE_CELLS}}


def _metric(labels: Mapping[str, Any], row: int) -> dict[str, Any]:
    value = {
        "type": label_number(labels.get("type")),
        "oid": label_text(labels.get("oid")),
        "value": Cell("metrics", "value", row),
    }
    return {label_text(labels.get("name")): value}


def _spooler(labels: Mapping[str, Any], row: int) -> dict[str, Any]:
    return {
        "dir": label_text(labels.get("dir")),
        "pid": Cell("spoolers", "pid", row),
        "tasks": Cell("spooler_tasks", "tasks", row),
        "respawns": Cell("spoolers", "respawns", row),
        "running": Cell("spooler_tasks", "running", row),
    }


def _cron(labels: Mapping[str, Any], row: int) -> dict[str, Any]:
    times = {name: label_number(labels.get(name)) for name in _CRON_NUMBERS}
    return {
        **times,
        "command": label_text(labels.get("command")),
        "unique": label_number(labels.get("unique")),
        "pid": Cell("crons", "pid", row),
        "started_at": Cell("crons", "started_at", row),
    }
