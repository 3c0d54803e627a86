"""The metrics collector: once a second metrics get their values, thresholds are looked at, files are written."""

import os
import time
from collections.abc import Callable
from typing import Final

from palatine.counters import Segment, SegmentView, SharedLock
from palatine.schema import U64
from palatine_app_server.config.metric_settings import Metric, MetricsSettings, Threshold
from palatine_app_server.sharing.metric_table import Facts, MetricTable
from palatine_app_server.system.part import Part

COLLECT_SECONDS: Final = 1.0
#: A metric's file is read that far, and fields are counted in it.
FILE_BYTES: Final = 4096


class Metrics(Part):
    """Collects into the segment's rows; `raise_alarm` takes an alarm and a message."""

    def __init__(
        self,
        settings: MetricsSettings,
        table: MetricTable,
        segment: Segment,
        lock: SharedLock,
        *,
        directory: str,
        raise_alarm: Callable[[str, str], None],
        say: Callable[[str], None],
    ) -> None:
        self._table = table
        self._segment = segment
        self._lock = lock
        self._directory = directory
        self._raise_alarm = raise_alarm
        self._say = say
        self._cells = [segment.cells("metrics", row) for row in range(len(table.entries))]
        self._word = segment.word("metrics", "value")
        self._thresholds = [(threshold, table.rows[threshold.metric]) for threshold in settings.thresholds]
        self._fired = dict.fromkeys(settings.thresholds, 0.0)
        self._initial = [entry.metric.initial for entry in table.entries]
        self._written: list[int | None] = [None] * len(table.entries)
        self._due = [0.0] * len(table.entries)
        self._collect_at = 0.0
        self._overloaded = 0
        self._view: SegmentView | None = None
        self._restore(wanted=settings.restore)

    def tick(self, now: float) -> None:
        """Collect what is due."""
        if now < self._collect_at:
            return
        self._collect_at = now + COLLECT_SECONDS
        facts = self._facts()
        for row, entry in enumerate(self._table.entries):
            if entry.source is not None:
                self._store(row, self._initial[row] + entry.source(facts))
            elif entry.metric.collector and now >= self._due[row]:
                self._due[row] = now + entry.metric.every
                self._store(row, self._collected(row, entry.metric))
        for row, entry in enumerate(self._table.entries):
            if entry.target is not None:
                self._store(row, self._value(entry.target))
        for threshold, row in self._thresholds:
            self._judge(threshold, row)
        if self._directory:
            self._write()

    def close_in_child(self) -> None:
        """In a forked child: the view's descriptor is the master's."""
        if self._view is not None:
            self._view.close()

    def _facts(self) -> Facts:
        if self._view is None:
            self._view = SegmentView.open(self._segment.path)
        facts = {table: self._view.read(table) for table in ("server", "slots", "workers", "cores", "sockets")}
        threads = len(facts["cores"]) // len(facts["slots"])
        there = [index for index, slot in enumerate(facts["slots"]) if slot["pid"]]
        busy = sum(
            any(core["in_request"] for core in facts["cores"][index * threads : (index + 1) * threads])
            or facts["workers"][index]["running_signal"] > 0
            for index in there
        )
        self._overloaded += bool(there) and busy == len(there)
        return {**facts, "collector": [{"busy": busy, "idle": len(there) - busy, "overloaded": self._overloaded}]}

    def _collected(self, row: int, metric: Metric) -> int:
        if metric.collector == "file":
            return self._initial[row] + _of_file(metric)
        children = [self._value(self._table.rows[name]) for name in metric.children]
        total = sum(children)
        if metric.collector == "avg":
            total = total // len(children) if children else 0
        elif metric.collector == "multiplier":
            total *= metric.number
        elif metric.collector == "adder":
            total += metric.number
        elif metric.collector == "accumulator":
            total += self._value(row) - self._initial[row]
        return self._initial[row] + total

    def _judge(self, threshold: Threshold, row: int) -> None:
        if self._value(row) < threshold.value:
            return
        if threshold.reset is not None and self._lock.acquire(0):
            try:
                self._store(row, threshold.reset)
            finally:
                self._lock.release()
        now = time.time()
        if threshold.alarm and self._fired[threshold] + threshold.rate <= now:
            self._fired[threshold] = now
            self._raise_alarm(threshold.alarm, threshold.message or threshold.metric)

    def _value(self, row: int) -> int:
        value: int = self._cells[row][self._word]
        return value - (1 << 64) if value >> 63 else value

    def _store(self, row: int, value: int) -> None:
        self._cells[row][self._word] = value & U64

    # ---------------------------------------------------------------- files

    def _restore(self, *, wanted: bool) -> None:
        for row, entry in enumerate(self._table.entries):
            if wanted and self._directory and entry.target is None:
                try:
                    with open(os.path.join(self._directory, entry.metric.name), "rb") as file:
                        self._initial[row] = int(file.read(FILE_BYTES).partition(b"\n")[0])
                except (OSError, ValueError):
                    continue  # never written: it begins as it does without files
            if entry.source is None and self._initial[row]:
                self._store(row, self._initial[row])

    def _write(self) -> None:
        """Each value that has changed, in a file of the metric's name, replaced whole."""
        for row, entry in enumerate(self._table.entries):
            value = self._value(row)
            if value == self._written[row]:
                continue
            path = os.path.join(self._directory, entry.metric.name)
            try:
                with open(f"{path}.new", "w", encoding="ascii") as file:
                    file.write(f"{value}\n")
                os.replace(f"{path}.new", path)
            except OSError as error:
                self._say(f"metrics-dir {self._directory}: {error.strerror}")
                return
            self._written[row] = value


def _of_file(metric: Metric) -> int:
    """Field `number` of a file; 0 where there is none, or no number in it."""
    try:
        with open(metric.file, "rb") as file:
            fields = file.read(FILE_BYTES).replace(b"\0", b" ").split()
        return int(fields[metric.number])
    except (OSError, ValueError, IndexError):
        return 0
