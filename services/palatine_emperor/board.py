"""The emperor's counter segment: a row for each vassal, sums for all; a new and larger file when the rows run out."""

import heapq
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from palatine.counters import Segment
from palatine.schema import DAEMON, EMPEROR, VASSAL_STATES
from palatine_emperor.supervisor import Supervisor
from palatine_emperor.vassal import Phase, Vassal
from palatine_emperor.vassal_note import split_key

#: Rows of the first segment; each takes 1.6 KiB, and each new segment has twice as many.
ROWS: Final = 64
_SIGNED: Final = 1 << 64
#: What is written last is where the shared text ends.
_TEXT_BYTES: Final = 680


def state_of(vassal: Vassal) -> str:
    """The state's word in `palatine.schema.VASSAL_STATES`."""
    match vassal.phase:
        case Phase.RUNNING:
            flags = (("reloading", vassal.reloading), ("loyal", vassal.loyal), ("accepting", vassal.accepting))
            return next((word for word, on in (*flags, ("ready", vassal.spawned)) if on), "starting")
        case Phase.REFUSED:
            return "paused" if vassal.held else "refused"
        case Phase.ABSENT:
            return "unused"
    return str(vassal.phase.value)


class Board:
    """Publishes a segment at `path` and keeps it true; `replaced` is called with each further one."""

    def __init__(
        self,
        path: Path,
        labels: Mapping[str, Any],
        offset: float,
        instance_of: Callable[[str], str],
        replaced: Callable[[Segment], None],
    ) -> None:
        self._path = path
        self._labels = dict(labels)
        self._offset = offset
        self._instance_of = instance_of
        self._replaced = replaced
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._shown: dict[str, tuple[Vassal, str]] = {}
        self._segment = self._publish(ROWS)

    def show(self, key: str, vassal: Vassal, url: str) -> None:
        """Bring a vassal's row up to date; one that is gone leaves it, once nothing is on uWSGI's blacklist for it."""
        if vassal.phase is Phase.ABSENT and vassal.blame is None:
            self._shown.pop(key, None)
            slot = self._slots.pop(key, None)
            if slot is not None:
                self._clear(slot)
            return
        self._shown[key] = vassal, url
        if key not in self._slots:
            if not self._free:
                self._grow()
                return
            self._slots[key] = heapq.heappop(self._free)
        self._write(self._slots[key], key, vassal, url)

    def sums(self, supervisor: Supervisor, keeper_pid: int, *, tyrant: bool) -> None:
        """Bring the emperor's own row up to date."""
        vassals = supervisor.vassals.values()
        totals = supervisor.totals
        values: dict[str, int] = {
            "vassals": sum(vassal.phase is not Phase.ABSENT for vassal in vassals),
            "running": sum(vassal.pid > 0 for vassal in vassals),
            "accepting": sum(vassal.accepting for vassal in vassals),
            "blacklisted": sum(vassal.blame is not None and vassal.phase is not Phase.ABSENT for vassal in vassals),
            "last_scan": self._unix(totals.last_scan),
            "tyrant": int(tyrant),
            "keeper_pid": keeper_pid,
        }
        counted = attrs.asdict(totals, filter=lambda field, _: field.name != "last_scan")
        self._store("emperor", 0, {**values, **counted})

    def relabel(self, labels: Mapping[str, Any]) -> None:
        """Publish anew with other labels."""
        self._labels = dict(labels)
        self._publish_again(self._segment.rows("vassals"))

    def close(self) -> None:
        """Take the segment away: nobody keeps it true any more."""
        self._segment.close(unlink=True)

    # Segments

    def _publish(self, rows: int) -> Segment:
        tables = tuple(dict.fromkeys((*DAEMON, *EMPEROR)))
        segment = Segment.create(self._path, tables, {"vassals": rows}, self._labels)
        self._slots = {}
        self._free = list(range(rows))
        self._replaced(segment)
        segment.publish()
        return segment

    def _grow(self) -> None:
        self._publish_again(2 * self._segment.rows("vassals"))

    def _publish_again(self, rows: int) -> None:
        before = self._segment
        self._segment = self._publish(rows)
        before.close(unlink=False)
        for key, (vassal, url) in self._shown.items():
            self._slots[key] = heapq.heappop(self._free)
            self._write(self._slots[key], key, vassal, url)

    # Rows

    def _write(self, slot: int, key: str, vassal: Vassal, url: str) -> None:
        wanted = vassal.wanted or vassal.started
        name = split_key(key)[1]
        texts = (name, url, wanted.socket if wanted else "", self._instance_of(key))
        self._segment.text("vassals", slot).write("\0".join(texts).encode(errors="surrogateescape")[:_TEXT_BYTES])
        self._store("vassals", slot, self._row(vassal))

    def _row(self, vassal: Vassal) -> dict[str, int]:
        wanted = vassal.wanted or vassal.started
        times, blame = vassal.times, vassal.blame
        uid, gid = (wanted.uid, wanted.gid) if wanted else (None, None)
        return {
            "pid": vassal.pid or -1,
            "state": VASSAL_STATES.index(state_of(vassal)),
            "ready": int(vassal.spawned),
            "accepting": int(vassal.accepting),
            "loyal": int(vassal.loyal),
            "respawns": vassal.respawns,
            "born": self._unix(times.born),
            "last_mod": wanted.stamp // 10**9 if wanted else 0,
            "last_heartbeat": self._unix(times.last_heartbeat),
            "first_run": self._unix(times.first_run),
            "last_start": self._unix(times.last_run),
            "last_ready": self._unix(times.last_ready),
            "last_accepting": self._unix(times.last_accepting),
            "last_loyal": self._unix(times.last_loyal),
            "cursed_at": self._unix(times.cursed) if vassal.phase is Phase.STOPPING else 0,
            "on_demand": int(bool(wanted and wanted.socket)),
            "adopted": int(vassal.adopted),
            "zerg": int(bool(wanted and wanted.zerg)),
            "uid": os.geteuid() if uid is None else uid,
            "gid": os.getegid() if gid is None else gid,
            "last_exit_status": vassal.status or 0,
            "blacklist_level": blame.level if blame else 0,
            "attempts": blame.attempt if blame else 0,
            "first_attempt": self._unix(blame.first) if blame else 0,
            "last_attempt": self._unix(blame.last) if blame else 0,
        }

    def _clear(self, slot: int) -> None:
        cells = self._segment.cells("vassals", slot)
        self._segment.text("vassals", slot).write(b"")
        for number in range(len(cells)):
            cells[number] = 0
        heapq.heappush(self._free, slot)

    def _store(self, table: str, slot: int, values: Mapping[str, int]) -> None:
        cells = self._segment.cells(table, slot)
        for field, value in values.items():
            cells[self._segment.word(table, field)] = value % _SIGNED

    def _unix(self, monotonic: float) -> int:
        return int(monotonic + self._offset) if monotonic else 0
