"""What the cores that serve a request are doing, out of a segment's texts, which are read as seldom as can be.

A core's text is a kilobyte and most of a scrape's reading where all are busy. A request that had begun a second before
its text was read is not looked at again: its worker wrote the text once, microseconds after the time of its begin.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from palatine.codec.masking import masked_url
from palatine.codec.segment_rows import read_latch
from palatine.counters import SegmentView
from palatine_stats_exporter.snapshot import Cut

#: What the parts of a core's activity are called in `vars`.
VARIABLES: Final = ("REQUEST_METHOD", "REQUEST_URI", "HTTP_HOST", "REMOTE_ADDR")

_MICRO: Final = 1_000_000
_SETTLED_US: Final = 1_000_000
_NAMES: Final = tuple(name.encode() for name in VARIABLES)


class Activity(NamedTuple):
    """What a core is doing: variables, `NAME=value` with a NUL between; since when, in unix seconds."""

    text: bytes
    started: int


NOBODY: Final[Mapping[int, Activity]] = {}


class _Seen(NamedTuple):
    """What a core was doing.

    Attributes:
        bank: where it did that.
        begin: since when, in unix microseconds.
        settled: whether the text was read late enough to be that request's for sure.
        row: what was read.
        activity: what that means.
    """

    bank: int
    begin: int
    settled: bool
    row: bytes
    activity: Activity


class Doing:
    """Reads the texts of one segment, whose tables fit together. Used by one thread."""

    def __init__(self, view: SegmentView, now: Callable[[], float] = time.time) -> None:
        """`now` gives the unix time, as workers take it."""
        self._view = view
        self._now = now
        activity = view.placed("activity")
        variables = view.placed("variables") if "variables" in view.tables else activity
        #: All variables where the config asks for them.
        self._table = "variables" if variables.rows == activity.rows > 0 else "activity"
        placed = view.placed(self._table)
        self._rows, self._stride = placed.rows, placed.stride
        self._text_offset, self._text_bytes = placed.text_offset, placed.table.text_bytes
        self._seen: dict[int, _Seen] = {}
        self._last = NOBODY

    def busy(self, cores: Cut, bank: int) -> Mapping[int, Activity]:
        """What each core that serves a request is doing, by its row; the same object while nothing changes.

        `bank` is that of the serving generation; a core of the one before does it in the other.
        """
        serving = cores.total("in_request")
        if not any(serving):
            self._seen, self._last = {}, NOBODY
            return NOBODY
        rows = [row for row, busy in enumerate(serving) if busy]
        begins = self._begins(cores, rows, bank)
        seen, unsettled = self._seen, []
        for row, begin in zip(rows, begins, strict=True):
            known = seen.get(row)
            if known is None or not known.settled or (known.bank, known.begin) != begin:
                unsettled.append((row, begin))
        if unsettled or len(rows) != len(seen):
            fresh = self._read(unsettled)
            self._seen = {row: fresh[row] if row in fresh else seen[row] for row in rows}
            found = {row: one.activity for row, one in self._seen.items()}
            self._last = self._last if found == self._last else found
        return self._last

    def _begins(self, cores: Cut, rows: Sequence[int], bank: int) -> list[tuple[int, int]]:
        """The bank in which each of the rows is busy, and since when."""
        serving, begins = cores.now("in_request"), cores.now("request_start_us")
        past = begins if all(serving[row] for row in rows) else cores.past("request_start_us")
        return [(bank, begins[row]) if serving[row] else (1 - bank, past[row]) for row in rows]

    def _read(self, wanted: Sequence[tuple[int, tuple[int, int]]]) -> dict[int, _Seen]:
        """Some rows, by one read from the first of them to the last."""
        if not wanted:
            return {}
        places = [bank * self._rows + row for row, (bank, _) in wanted]
        first = min(places)
        data = self._view.copy_rows(self._table, first, max(places) - first + 1)
        latest = self._now() * _MICRO - _SETTLED_US
        found = {}
        for place, (row, (bank, begin)) in zip(places, wanted, strict=True):
            at = (place - first) * self._stride
            copied = data[at : at + self._stride]
            known = self._seen.get(row)
            if known is None or known.row != copied:
                activity = Activity(self._text(copied, row, bank), begin // _MICRO)
            elif known.begin != begin:
                activity = Activity(known.activity.text, begin // _MICRO)
            else:
                activity = known.activity
            found[row] = _Seen(bank, begin, begin < latest, copied, activity)
        return found

    def _text(self, copied: bytes, row: int, bank: int) -> bytes:
        text = read_latch(copied, self._text_offset, self._text_bytes)
        if text is None:
            text = self._view.text(self._table, row, bank)
        return text if self._table == "variables" else named(text)


def named(activity: bytes) -> bytes:
    """Method, URI, host and peer as variables; secrets in the URI masked."""
    if b"?" in activity:
        parts = activity.decode("latin-1").split("\0")
        activity = "\0".join(map(masked_url, parts)).encode("latin-1")
    return b"\0".join(b"%s=%s" % pair for pair in zip(_NAMES, activity.split(b"\0"), strict=False)) if activity else b""
