"""Segments of others as the host-wide view reads them: each table once per datagram; must never raise for a bad one.

One instance's segment that is damaged, or larger than any instance needs, costs that instance its values and nobody
else anything.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from palatine.codec.segment_rows import WORD
from palatine.counters import SegmentView
from palatine.errors import ProtocolError
from palatine.schema import SERVER_STATES

#: Rows of the largest table shown: 64 workers of 64 threads. A segment is its owner's to make.
MAX_ROWS: Final = 4096
#: Seconds whether somebody lives is believed; asking costs 10 us, and there may be hundreds.
LIVENESS_SECONDS: Final = 1.0
#: States of an instance that was told to stop.
_LEAVING: Final = frozenset({SERVER_STATES.index("draining"), SERVER_STATES.index("stopping")})

Values = Mapping[str, int]


class Pace:
    """Counts datagrams, so that whoever caches for one knows when it is over; `now` is unix time."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.datagram = 0
        self.now = clock()

    def begin(self) -> None:
        """Another datagram."""
        self.datagram += 1
        self.now = self._clock()


class Reading:
    """One segment; `name` is the instance's or daemon's. The segment may be gone from its directory."""

    def __init__(self, name: str, segment: SegmentView, pace: Pace) -> None:
        self.name = name
        self.segment = segment
        self.pace = pace
        self._datagram = 0
        self._tables: dict[str, list[dict[str, int]]] = {}
        self._copies: dict[str, bytes] = {}
        self._columns: dict[tuple[str, str], list[int]] = {}
        self._up = False
        self._asked = 0.0
        self._last_up = 0.0

    def close(self) -> None:
        """Close the segment; there are no rows afterwards."""
        self.segment.close()

    def count(self, table: str) -> int:
        """How many rows a table has; 0 if there is none or it has too many."""
        if table not in self.segment.tables:
            return 0
        rows = self.segment.rows(table)
        return rows if rows <= MAX_ROWS else 0

    def rows(self, table: str) -> list[dict[str, int]]:
        """The rows of a table as they were at this datagram's first look; none if they cannot be read."""
        self._begin()
        found = self._tables.get(table)
        if found is None:
            found = self._tables[table] = self._read(table)
        return found

    def column(self, table: str, field: str) -> list[int]:
        """A field of all rows of a table, all fields as they were at this datagram's first look; [] as `rows`."""
        self._begin()
        found = self._columns.get((table, field))
        if found is None:
            found = self._columns[table, field] = self._read_column(table, field)
        return found

    def _begin(self) -> None:
        if self._datagram != self.pace.datagram:
            self._tables.clear()
            self._copies.clear()
            self._columns.clear()
            self._datagram = self.pace.datagram

    def row(self, table: str, row: int = 0) -> Values:
        """One row, as `rows`; {} if there is none."""
        rows = self.rows(table)
        return rows[row] if row < len(rows) else {}

    def _read(self, table: str) -> list[dict[str, int]]:
        try:
            return self.segment.read(table) if self.count(table) else []
        except (ProtocolError, OSError):
            return []

    def _read_column(self, table: str, field: str) -> list[int]:
        try:
            if table not in self._copies:
                self._copies[table] = self.segment.copy(table) if self.count(table) else b""
            octets = self._copies[table]
            return self.segment.column(table, field, octets) if octets else []
        except (ProtocolError, OSError, KeyError):
            return []

    def texts(self, table: str) -> list[bytes]:
        """The texts of a table's rows; none if they cannot be read."""
        try:
            return self.segment.texts(table) if self.count(table) else []
        except (ProtocolError, OSError, KeyError):
            return []

    def label(self, table: str, row: int, name: str) -> str:
        """A label of a row, "" where there is none; labels are whatever the app wrote."""
        said = self.segment.row_labels(table, row).get(name, "") if self.count(table) else ""
        return "" if said is None else str(said)

    def set_values(self) -> list[int]:
        """Numbers of the custom values that are set, from 0."""
        table = "snmp_values"
        if not self.count(table):
            return []
        placed = self.segment.placed(table)
        try:
            words = memoryview(self.segment.copy(table)).cast("Q")
            return [row for row, kind in enumerate(words[placed.table.word("type") :: placed.stride // WORD]) if kind]
        except (ProtocolError, OSError, KeyError):
            return []

    def up(self) -> bool:
        """Whether who publishes it lives, as of a second ago at most."""
        if not 0 <= self.pace.now - self._asked < LIVENESS_SECONDS:
            self._asked = self.pace.now
            try:
                self._up = self.segment.alive()
            except OSError:
                self._up = False
            if self._up:
                self._last_up = self.pace.now
        return self._up

    def age(self) -> int:
        """Seconds since its values were the present ones: 0 while it lives.

        Of one that was dead when the agent began to look, since the last sign of life in its values.
        """
        if self.up():
            return 0
        return max(int(self.pace.now - (self._last_up or self._last_sign())), 0)

    def ended_well(self) -> bool:
        """Whether it was told to stop, as an instance says in its row; what is not readable has nothing to show."""
        server: Any = self.row("server")
        return not server or server.get("state") in _LEAVING

    def _last_sign(self) -> float:
        server = self.row("server")
        signs = [self.segment.created, float(server.get("last_reload", 0))]
        signs += [float(slot.get("last_spawn", 0)) for slot in self.rows("slots")]
        signs += [core.get("request_start_us", 0) / 1e6 for core in self.rows("cores")]
        return max(signs)
