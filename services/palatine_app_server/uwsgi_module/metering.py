"""The metrics: `uwsgi.metric_get` and its kin, on the segment's rows; changes are made under one lock."""

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from palatine.counters import Segment, SharedLock
from palatine.errors import DeadlineError
from palatine.schema import U64
from palatine_app_server.uwsgi_module import arguments

if TYPE_CHECKING:  # loaded only where metrics are on
    from palatine_app_server.sharing.metric_table import MetricTable

LOCK_SECONDS: Final = 5.0


class Metering:
    """Calls by a metric's name; `table` is None where metrics are off."""

    def __init__(self, table: "MetricTable | None", segment: Segment, lock: SharedLock) -> None:
        self._table = table
        self._segment = segment
        self._lock = lock

    def functions(self) -> dict[str, Any]:
        """What the module offers."""
        return {
            "metric_get": self._get,
            "metric_set": self._changer("metric_set", lambda _old, value: value),
            "metric_inc": self._changer("metric_inc", operator.add),
            "metric_dec": self._changer("metric_dec", operator.sub),
            "metric_mul": self._changer("metric_mul", operator.mul),
            "metric_div": self._changer("metric_div", arguments.divided),
            "metric_set_max": self._changer("metric_set_max", max),
            "metric_set_min": self._changer("metric_set_min", min),
        }

    def _get(self, name: str) -> int:
        """The value; 0 for a metric that does not exist."""
        wanted = arguments.text(name, "metric_get")
        if self._table is None or wanted not in self._table.rows:
            return 0
        row = self._table.rows[wanted]
        target = self._table.entries[row].target
        return self._value(row if target is None else target)

    def _value(self, row: int) -> int:
        value: int = self._segment.cells("metrics", row)[self._segment.word("metrics", "value")]
        return value - (1 << 64) if value >> 63 else value

    def _changer(self, function: str, operation: Callable[[int, int], int]) -> Callable[..., bool | None]:
        """A function that returns True, or None for what cannot be changed: unknown, collected, an alias."""

        def change(name: str, value: int = 1) -> bool | None:
            wanted, operand = arguments.text(name, function), arguments.long(value)
            row = None if self._table is None else self._table.rows.get(wanted)
            if self._table is None or row is None or not self._table.entries[row].writable:
                return None
            if function == "metric_div" and not operand:
                return None
            if not self._lock.acquire(LOCK_SECONDS):
                raise DeadlineError("the metrics stayed locked")
            try:
                cells = self._segment.cells("metrics", row)
                cells[self._segment.word("metrics", "value")] = operation(self._value(row), operand) & U64
            finally:
                self._lock.release()
            return True

        return change
