"""Looks at the counters of instances and of the emperor, and tells what happened; must never hold anybody up.

A look costs a few system calls an instance. One that cannot be read is told nothing of, and looked at again.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import trio

from palatine.counters import SegmentView
from palatine.errors import PeerError, ProtocolError
from palatine.schema import VASSAL_STATES
from palatine_snmp_agent.watch_policy import (
    InstanceSeen,
    Told,
    Values,
    VassalSeen,
    WorkerSeen,
    instance_news,
    vassal_news,
)

#: Seconds between two looks.
PACE: Final = 1.0

Tell = Callable[[str, Values], None]
Segments = Callable[[], Iterator[tuple[str, SegmentView]]]


class Watch:
    """Remembers what was seen last. Nothing is looked at while nobody is to be told (`wanted`)."""

    def __init__(
        self, segments: Segments, emperor: Path, tell: Tell, wanted: Callable[[], bool] = lambda: True
    ) -> None:
        self._segments = segments
        self._wanted = wanted
        self._emperor = emperor
        self._tell = tell
        self._instances: dict[str, InstanceSeen] = {}
        self._vassals: dict[str, VassalSeen] | None = None
        self._uuid = b""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            if self._wanted():
                self.look()
            await trio.sleep(PACE)

    def meet(self) -> None:
        """Remember how instances are that are new, so that nothing is missed that happens to them from here on."""
        for name, segment in self._segments() if self._wanted() else ():
            if name not in self._instances and (now := _instance(segment)) is not None:
                self._instances[name] = now

    def look(self) -> None:
        """Look once."""
        seen: dict[str, InstanceSeen] = {}
        for name, segment in self._segments():
            now = _instance(segment)
            if now is None:
                continue
            before = self._instances.get(name)
            seen[name], told = (now, []) if before is None else instance_news(name, before, now)
            self._tell_all(told)
        self._instances = seen
        self._look_at_vassals()

    def _look_at_vassals(self) -> None:
        try:
            with SegmentView.open(self._emperor) as segment:
                now = _vassals(segment)
                same = segment.uuid == self._uuid
                self._uuid = segment.uuid
        except FileNotFoundError:  # its vassals go on, and what the next one says is compared with what it said
            if self._vassals is None:
                self._vassals = {}  # there was none yet: all that its first one has is news
            return
        except (OSError, PeerError, ProtocolError, KeyError, IndexError):
            return
        if self._vassals is not None:
            # Another segment is another start, or a larger one: what is not in it yet may come with the next look.
            before = self._vassals if same else {name: seen for name, seen in self._vassals.items() if name in now}
            self._tell_all(vassal_news(before, now))
        self._vassals = now

    def _tell_all(self, told: list[Told]) -> None:
        for name, values in told:
            self._tell(name, values)


def _instance(segment: SegmentView) -> InstanceSeen | None:
    """What is to be seen; None in another's file that was cut short or is strange, which is its owner's loss."""
    try:
        server = segment.row("server")
        workers = tuple(
            WorkerSeen(slot["respawn_count"], slot["harakiri_count"], slot["last_exit_status"], slot["generation"])
            for slot in segment.read("slots")
        )
        return InstanceSeen(
            segment.uuid,
            server["reload_failures"],
            server["listen_queue"],
            server["listen_queue_max"],
            server["listen_queue_errors"],
            workers,
        )
    except (ProtocolError, KeyError, IndexError):
        return None


def _vassals(segment: SegmentView) -> dict[str, VassalSeen]:
    seen = {}
    for text, row in zip(segment.texts("vassals"), segment.read("vassals"), strict=True):
        name = text.partition(b"\0")[0].decode("utf-8", "replace")
        state = VASSAL_STATES[row["state"]] if row["state"] < len(VASSAL_STATES) else "unknown"
        if name and state != "unused":
            seen[name] = VassalSeen(
                row["pid"] > 0, bool(row["accepting"]), row["blacklist_level"], state, bool(row["adopted"])
            )
    return seen
