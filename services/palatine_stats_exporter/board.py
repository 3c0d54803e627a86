"""What all instances of the host stand at, for metrics and pages; reads segments, owns nothing of the serving thread.

An instance that cannot be read is reported as such and never stops the others from being shown. One whose master died
keeps its last numbers, marked as not alive, until its directory goes.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs

from palatine.counters import SegmentView
from palatine.errors import PalatineError
from palatine.schema import INSTANCE, SERVER_STATES
from palatine_stats_exporter.document import app_labels
from palatine_stats_exporter.instances import Served
from palatine_stats_exporter.reading import Columns, Reader, label_number, label_text

#: Tables that are shown row by row, with one key and no text, by what their rows are called.
PARTS: Final = {
    table.name: table.key[0]
    for table in INSTANCE
    if len(table.key) == 1 and not table.text_bytes and table.key[0] not in {"worker", "socket", "lock", "value"}
    and table.name not in {"caches", "metrics"}
}  # fmt: skip


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
        sockets, caches, metrics: labels and numbers of each, together.
        totals: sums over all cores of what is counted of them and stands in no column.
        parts: the same for tables uWSGI's stats do not have or seldom: spoolers, mules, crons...
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
    metrics: list[dict[str, Any]] = attrs.field(factory=list)
    totals: Mapping[str, int] = attrs.field(factory=dict)
    parts: Mapping[str, list[dict[str, Any]]] = attrs.field(factory=dict)

    @property
    def state(self) -> str:
        """What the instance is doing, in a word."""
        number = self.server.get("state", 0)
        if not self.alive:
            return "gone"
        return SERVER_STATES[number] if number < len(SERVER_STATES) else "unknown"


#: What all instances of the host stand at now.
Look = Callable[[], Iterable[Facts]]


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

    def one(self, name: str) -> Facts | None:
        """One instance as it is now; None if there is none of that name, or it cannot be read at present."""
        served = self._served.get(name)
        try:
            return self._read(name, served) if served else None
        except (PalatineError, OSError, LookupError, ValueError):  # `look` says why
            self._forget(name)
            return None

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
        view, snapshot = reader.view, reader.snapshot()
        return Facts(
            name,
            served.addresses[0] if served.addresses else "",
            view.alive(),
            view.row("server"),
            reader.decode(snapshot, reader.busy(snapshot)),
            reader.cores,
            [app_labels(view, index) for index in range(reader.apps)],
            list(_rows(view, "sockets")),
            list(_rows(view, "caches")),
            list(_rows(view, "metrics")),
            reader.core_totals(snapshot),
            {table: list(_rows(view, table)) for table in PARTS if table in view.tables and view.rows(table)},
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


def _rows(view: SegmentView, table: str) -> Iterable[dict[str, Any]]:
    """Labels and numbers of each row of a table, labels made safe."""
    for index, numbers in enumerate(view.read(table) if table in view.tables and view.rows(table) else []):
        said = view.row_labels(table, index)
        labels: dict[str, Any] = {
            key: label_text(value) if isinstance(value, str) else label_number(value) for key, value in said.items()
        }
        yield {**labels, **numbers}
