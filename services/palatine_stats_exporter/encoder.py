"""A stats document as bytes, fast: the text of `document`, laid out once with a place for each number.

A render finds which columns moved and fills them in. An instance in which nothing moved since the last scrape is known
by comparing its tables, and costs two or three preads.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from palatine.counters import SegmentView
from palatine.errors import ProtocolError
from palatine_stats_exporter.document import (
    WORKERS,
    Cell,
    Form,
    app_labels,
    app_values,
    cells,
    core_values,
    outline,
    variables,
)
from palatine_stats_exporter.doing import Activity
from palatine_stats_exporter.layout import SLOT, Hole, lay_out
from palatine_stats_exporter.reading import APP_KEYS, CORE_KEYS, WORKER_KEYS, Columns, Reader
from palatine_stats_exporter.snapshot import Memo, Snapshot
from palatine_stats_exporter.template import MARK, Part, Template, parts

#: Levels of indentation: of a worker in the list of workers, of a core in its list of cores.
_WORKER_INDENT: Final = 2
_CORE_INDENT: Final = 4
#: Begins the part of a core that depends on whether it serves a request.
_TAIL: Final = '"vars":'
_STATUS: Final = WORKER_KEYS.index("status")


class Encoder:
    """Renders one instance's document in one form, again and again. Used by one thread."""

    def __init__(self, view: SegmentView, form: Form) -> None:
        """ProtocolError if the segment is not an app-server's."""
        self._reader = Reader(view)
        shape = outline(view, form)
        order = list(shape)
        at = order.index("workers")
        before, after = (list(cells([shape[key] for key in keys])) for keys in (order[:at], order[at + 1 :]))
        self._workers = _Workers(self._reader, form, first=len(before))
        self._frame = _Frame(self._reader, before, after, skipped=self._workers.places)
        text = lay_out(shape, minified=form.minified).replace(WORKERS, self._workers.text)
        self._template = Template(text.encode(), [*self._frame.parts, *self._workers.parts])
        self._snapshot: Snapshot | None = None
        self._busy: Mapping[int, Activity] = {}
        self._rendered = b""

    def render(self) -> bytes:
        """The document as it is now; ProtocolError if the segment was cut short."""
        reader = self._reader
        snapshot = reader.snapshot()
        busy = reader.busy(snapshot)
        if snapshot != self._snapshot or busy is not self._busy:
            columns = self._workers.ordered(reader.decode(snapshot, busy))
            self._rendered = self._template.filled([*self._frame.columns(snapshot), *columns])
            self._snapshot, self._busy = snapshot, busy
        return self._rendered


class _Frame:
    """The numbers around the workers: a column for each field of a table."""

    def __init__(self, reader: Reader, before: list[Cell], after: list[Cell], skipped: int) -> None:
        """`skipped` places of workers lie between those before and those after them."""
        self._tables = reader.tables
        at: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for place, cell in (*enumerate(before), *enumerate(after, len(before) + skipped)):
            if cell.row >= reader.tables[cell.table].rows:
                raise ProtocolError(f"{reader.view.path}: table {cell.table} has no row {cell.row}")
            at.setdefault((cell.table, cell.field), []).append((place, cell.row))
        self._fields = list(at)
        self.parts = [parts(*zip(*found, strict=True)) for found in at.values()]

    def columns(self, snapshot: Snapshot) -> list[Sequence[int]]:
        """The columns as they are now."""
        cuts = {name: self._tables[name].cut(snapshot) for name, _ in self._fields}
        return [cuts[table].now(field) for table, field in self._fields]


class _Workers:
    """The list of workers: its text with a place for each number and each core's tail, and the columns of these.

    Attributes:
        text: with SLOT at each place.
        places: how many there are.
        parts: which column fills which places.
    """

    def __init__(self, reader: Reader, form: Form, first: int) -> None:
        """`first` is the place of the first number, counting those before the workers."""
        self._minified = form.minified
        self._cores = 0 if form.no_cores else reader.cores
        self._idle = [self._tail(None).encode()] * (self._cores * reader.workers)
        worker = self._tabs(_WORKER_INDENT) + self._shape(reader)
        self.text = lay_out([Hole(worker)] * reader.workers, minified=form.minified, indent=_WORKER_INDENT - 1)
        self.places = worker.count(SLOT) * reader.workers
        self.parts = list(self._parts(reader, slice(first, first + self.places))) if self.places else []
        self._memo = Memo()
        self._known: dict[bytes, tuple[bytes, bytes]] = {}

    def ordered(self, columns: Columns) -> list[Sequence[Any]]:
        """The columns in the order of `parts`; equal ones are the same objects from one time to the next."""
        if not self.parts:
            return []
        found: list[Sequence[Any]] = [columns.workers[key] for key in WORKER_KEYS]
        found[_STATUS] = self._memo("status", _quoted, found[_STATUS])
        for app in columns.apps:
            found += [app[key] for key in APP_KEYS]
        if self._cores:
            found += [columns.cores[key] for key in CORE_KEYS]
            found.append(self._memo("tails", self._tails, columns.busy) if columns.busy else self._idle)
        return found

    def _parts(self, reader: Reader, places: slice) -> list[list[Part]]:
        """Numbers of a worker, of its apps, then of all its cores: a column of a core's numbers is one for all."""
        step = self.places // reader.workers
        of_worker = len(WORKER_KEYS) + len(APP_KEYS) * reader.apps
        found = [[Part(slice(places.start + at, places.stop, step), slice(None))] for at in range(of_worker)]
        keys = len(CORE_KEYS) + 1
        for key in range(keys if self._cores else 0):
            starts = [places.start + of_worker + core * keys + key for core in range(self._cores)]
            found.append(
                [
                    Part(slice(start, places.stop, step), slice(core, None, self._cores))
                    for core, start in enumerate(starts)
                ]
            )
        return found

    def _tails(self, busy: Mapping[int, Activity]) -> list[bytes]:
        """The tail of each core; what was laid out for a text is kept until no core shows that text."""
        tails = self._idle.copy()
        known, self._known = self._known, {}
        for row, (text, started) in busy.items():
            halves = known.get(text)
            if halves is None:
                before, after = self._tail(Activity(text, 0)).encode().split(MARK)
                halves = before, after
            self._known[text] = halves
            tails[row] = b"%b%d%b" % (halves[0], started, halves[1])
        return tails

    def _shape(self, reader: Reader) -> str:
        """One worker, indented, with a slot for each number and each core's tail."""
        worker: dict[str, Any] = dict.fromkeys(WORKER_KEYS, SLOT)
        worker["apps"] = [app_values(app_labels(reader.view, index), SLOT, SLOT, SLOT) for index in range(reader.apps)]
        if self._cores:
            worker["cores"] = [
                Hole(f"{self._tabs(_CORE_INDENT)}{self._core(index)}{SLOT}") for index in range(self._cores)
            ]
        return lay_out(worker, minified=self._minified, indent=_WORKER_INDENT)

    def _core(self, number: int) -> str:
        """A core up to its tail."""
        shape = core_values(number, [SLOT] * len(CORE_KEYS), None)
        text = lay_out(shape, minified=self._minified, indent=_CORE_INDENT)
        return text[: text.index(_TAIL)]

    def _tail(self, activity: Activity | None) -> str:
        """The end of a core, from `vars` on; a slot for the time when the request began."""
        shape = core_values(0, [0] * len(CORE_KEYS), None)
        if activity is not None:
            shape["vars"], shape["req_info"] = variables(activity.text), {"request_start": SLOT}
        text = lay_out(shape, minified=self._minified, indent=_CORE_INDENT)
        return text[text.index(_TAIL) :]

    def _tabs(self, indent: int) -> str:
        return "" if self._minified else "\t" * indent


def _quoted(words: Sequence[str]) -> list[bytes]:
    return [f'"{word}"'.encode() for word in words]
