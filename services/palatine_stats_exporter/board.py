"""What all instances of the host stand at, for metrics and pages; reads segments, owns nothing of the serving thread.

An instance that cannot be read is reported as such and never stops the others from being shown. One whose master died
keeps its last numbers, marked as not alive, until its directory goes.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from palatine.counters import SegmentView
from palatine.errors import PalatineError
from palatine.schema import SERVER_STATES
from palatine_stats_exporter.document import app_labels
from palatine_stats_exporter.instances import Served
from palatine_stats_exporter.reading import Columns, Reader, label_number, label_text


@attrs.frozen
class Facts:
    """One instance at one moment.

    Attributes:
        name: the instance's.
        address: the first of its stats addresses, "" if it has none.
        alive: whether its master lives.
        server: the master's row.
        columns: the numbers of its workers, cores and apps.
        cores: cores of a worker.
        apps: labels of its apps.
        sockets, caches: labels and numbers of each, together.
    """

    name: str
    address: str
    alive: bool
    server: Mapping[str, int]
    columns: Columns
    cores: int
    apps: list[dict[str, Any]]
    sockets: list[dict[str, Any]]
    caches: list[dict[str, Any]]

    @property
    def state(self) -> str:
        """What the instance is doing, in a word."""
        number = self.server.get("state", 0)
        if not self.alive:
            return "gone"
        return SERVER_STATES[number] if number < len(SERVER_STATES) else "unknown"


@attrs.frozen
class Unreadable:
    """An instance whose segment could not be read, and why."""

    name: str
    reason: str


class Board:
    """Open segments of the instances served; used by the trio thread."""

    def __init__(self, served: Mapping[str, Served]) -> None:
        self._served = served
        self._readers: dict[str, Reader] = {}

    def look(self) -> tuple[list[Facts], list[Unreadable]]:
        """All instances as they are now, by name, and those that could not be read."""
        for name in self._readers.keys() - self._served.keys():
            self._forget(name)
        facts, unreadable = [], []
        for name, served in sorted(self._served.items()):
            try:
                facts.append(self._read(name, served))
            except (PalatineError, OSError, LookupError, ValueError) as error:  # not ours, or of some later palatine
                self._forget(name)
                unreadable.append(Unreadable(name, str(error) or repr(error)))
        return facts, unreadable

    def close(self) -> None:
        """Close all segments."""
        for name in list(self._readers):
            self._forget(name)

    def _read(self, name: str, served: Served) -> Facts:
        reader = self._readers.get(name)
        if reader is not None and reader.view.replaced():
            self._forget(name)
            reader = None
        if reader is None:
            reader = self._opened(name, served)
        view = reader.view
        server = view.row("server")
        return Facts(
            name,
            served.addresses[0] if served.addresses else "",
            view.alive(),
            server,
            reader.read(),
            reader.cores,
            [app_labels(view, index) for index in range(reader.apps)],
            list(_rows(view, "sockets")),
            list(_rows(view, "caches")),
        )

    def _opened(self, name: str, served: Served) -> Reader:
        view = SegmentView.open(served.ref.path / "seg", owner=served.ref.uid)
        try:
            reader = self._readers[name] = Reader(view)
        except BaseException:
            view.close()
            raise
        return reader

    def _forget(self, name: str) -> None:
        reader = self._readers.pop(name, None)
        if reader is not None:
            reader.view.close()


def summary(facts: Facts) -> dict[str, Any]:
    """One instance for the page and the API: totals, and a row for each worker."""
    workers, server = facts.columns.workers, facts.server
    status = [str(word) for word in workers["status"]]
    listed = [dict(zip(workers, numbers, strict=True)) for numbers in zip(*workers.values(), strict=True)]
    for index, worker in enumerate(listed):
        worker["in_request"] = sum(facts.columns.cores["in_request"][index * facts.cores : (index + 1) * facts.cores])
    return {
        "name": facts.name,
        "state": facts.state,
        "alive": facts.alive,
        "address": facts.address,
        **{key: server.get(key, 0) for key in ("pid", "uid", "started", "generation", "reloads", "last_reload")},
        **{key: server.get(key, 0) for key in ("listen_queue", "listen_queue_max", "requests_lost")},
        **{key: _total(workers[key]) for key in ("requests", "exceptions", "harakiri_count", "respawn_count", "tx")},
        **{key: _total(workers[key]) for key in ("rss", "running_time")},
        "avg_rt": _mean(workers["avg_rt"]),
        "in_request": sum(facts.columns.cores["in_request"]),
        "cores": facts.cores,
        "status": {word: status.count(word) for word in sorted(set(status))},
        "sockets": facts.sockets,
        "workers": listed,
    }


def _total(column: Iterable[int | str]) -> int:
    return sum(int(number) for number in column)


def _mean(column: Iterable[int | str]) -> int:
    numbers = [int(number) for number in column if number]
    return sum(numbers) // len(numbers) if numbers else 0


def _rows(view: SegmentView, table: str) -> Iterable[dict[str, Any]]:
    """Labels and numbers of each row of a table, labels made safe."""
    for index, numbers in enumerate(view.read(table) if table in view.tables else []):
        said = view.row_labels(table, index)
        labels: dict[str, Any] = {
            key: label_text(value) if isinstance(value, str) else label_number(value) for key, value in said.items()
        }
        yield {**labels, **numbers}
