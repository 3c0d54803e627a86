"""The alarm-daemon's numbers, stored in its segment as they happen; it must never keep a total of its own beside it."""

from collections.abc import Callable
from typing import Final

from palatine.counters import Segment
from palatine_alarm_daemon.values import DELIVERED, Lane

#: Alarms with a row of their own; those beyond it count in the totals only.
ROWS: Final = 1024
_TOTALS: Final = "alarm_totals"
_ALARMS: Final = "alarms"


class Counters:
    """Counters in the daemon's own segment; one row for each lane, given back when the table is full."""

    def __init__(self, segment: Segment, keep: Callable[[Lane], bool]) -> None:
        """`keep(lane)` tells whether a lane's row is still wanted: its instance is there, or something is pending."""
        self._segment = segment
        self._keep = keep
        self._totals = segment.cells(_TOTALS)
        self._total_words = {field: segment.word(_TOTALS, field) for field in _TOTAL_FIELDS}
        self._words = {field: segment.word(_ALARMS, field) for field in _ALARM_FIELDS}
        self._rows: dict[Lane, memoryview] = {}
        self._numbers: dict[Lane, int] = {}
        self._free = list(range(segment.rows(_ALARMS) - 1, -1, -1))

    def events(self, count: int) -> None:
        """`count` events came in."""
        self._total("events", count)

    def lines(self, count: int) -> None:
        """`count` log lines were matched."""
        self._total("log_lines", count)

    def matched(self) -> None:
        """A line matched a rule."""
        self._total("matched")

    def raised(self, lane: Lane, at: float) -> None:
        """An alarm was raised."""
        self._total("raised")
        self._add(lane, "raised")
        self._store(lane, "last_raised", int(at))

    def suppressed(self, lane: Lane) -> None:
        """... and dropped by the anti-storm rule."""
        self._total("suppressed")
        self._add(lane, "suppressed")

    def rule_errors(self, count: int) -> None:
        """Rules, alarms or actions refused."""
        self._total("rule_errors", count)

    def queued(self, lane: Lane) -> None:
        """A delivery waits."""
        self._total("pending")
        self._add(lane, "pending")

    def retried(self) -> None:
        """A delivery is tried again."""
        self._total("retries")

    def finished(self, lane: Lane, outcome: str, at: float) -> None:
        """A delivery waits no more."""
        word = "delivered" if outcome == DELIVERED else "failed"
        self._total("pending", -1)
        self._total(word)
        self._add(lane, "pending", -1)
        self._add(lane, word)
        self._store(lane, f"last_{word}", int(at))

    def gauges(self, oldest: float, journal_bytes: int, instances: int) -> None:
        """When the oldest pending delivery was raised (0: none), the journal's size, and instances that are there."""
        daemon = self._segment.cells("daemon")
        daemon[self._segment.word("daemon", "instances")] = instances
        self._totals[self._total_words["oldest_pending"]] = int(oldest)
        self._totals[self._total_words["journal_bytes"]] = journal_bytes

    def totals(self) -> dict[str, int]:
        """The totals by name."""
        return {field: self._totals[word] for field, word in self._total_words.items()}

    def _total(self, field: str, count: int = 1) -> None:
        word = self._total_words[field]
        self._totals[word] = max(0, self._totals[word] + count)

    def _add(self, lane: Lane, field: str, count: int = 1) -> None:
        row = self._row(lane)
        if row is not None:
            word = self._words[field]
            row[word] = max(0, row[word] + count)

    def _store(self, lane: Lane, field: str, value: int) -> None:
        row = self._row(lane)
        if row is not None:
            row[self._words[field]] = value

    def _row(self, lane: Lane) -> memoryview | None:
        row = self._rows.get(lane)
        return row if row is not None else self._new_row(lane)

    def _new_row(self, lane: Lane) -> memoryview | None:
        if not self._free:
            self._give_back()
        if not self._free:
            return None
        number = self._free.pop()
        row = self._rows[lane] = self._segment.cells(_ALARMS, number)
        self._numbers[lane] = number
        for word in self._words.values():
            row[word] = 0
        self._segment.text(_ALARMS, number).write(f"{lane.instance}\0{lane.alarm}".encode())
        return row

    def _give_back(self) -> None:
        for lane in [lane for lane in self._rows if not self._keep(lane)]:
            del self._rows[lane]
            number = self._numbers.pop(lane)
            self._segment.text(_ALARMS, number).write(b"")
            self._free.append(number)


_TOTAL_FIELDS: Final = (
    "events",
    "log_lines",
    "matched",
    "raised",
    "suppressed",
    "delivered",
    "failed",
    "retries",
    "pending",
    "oldest_pending",
    "journal_bytes",
    "rule_errors",
)
_ALARM_FIELDS: Final = (
    "raised",
    "suppressed",
    "delivered",
    "failed",
    "pending",
    "last_raised",
    "last_delivered",
    "last_failed",
)
