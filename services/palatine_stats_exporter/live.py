"""The state of the host once a second, made once for all who watch, and not at all while nobody does.

A watcher gets the whole state first and then what has changed; one that was too slow for a change gets the whole again.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final

import attrs
import msgspec
import trio

#: Changes in a row after which the client's clock is set again even if nothing has moved.
_SECONDS: Final = 1.0

Sections = Mapping[str, Mapping[str, Any]]


@attrs.frozen
class Statistics:
    """How many watch, and how many states were made."""

    watchers: int
    made: int


class Live:
    """Broadcasts the latest state: a watcher that is slow misses states, it never delays others or piles them up."""

    def __init__(self, make: Callable[[], Sections], clock: Callable[[], float], seconds: float = _SECONDS) -> None:
        self._make = make
        self._clock = clock
        self._seconds = seconds
        self._watchers = 0
        self._made = 0
        self._state: Sections = {}
        self._change = b""
        self._wanted = trio.Event()
        self._news = trio.Event()

    def statistics(self) -> Statistics:
        """How it is used."""
        return Statistics(self._watchers, self._made)

    async def run(self) -> None:
        """Make states while somebody watches, until cancelled."""
        while True:
            await self._wanted.wait()
            while self._watchers:
                state = self._make()
                self._change = event("change", self._clock(), difference(self._state, state))
                self._state = state
                self._made += 1
                self._news.set()
                self._news = trio.Event()
                await trio.sleep(self._seconds)
            self._wanted = trio.Event()
            self._state = {}

    async def watch(self) -> AsyncGenerator[bytes, None]:
        """Events as they are made; the whole state at once if somebody watches already."""
        seen = -1
        fresh = self._watchers > 0 and self._state
        self._watchers += 1
        self._wanted.set()
        try:
            while True:
                if not fresh:
                    await self._news.wait()
                fresh = False
                made = self._made
                yield self._change if made == seen + 1 else event("state", self._clock(), self._state)
                seen = made
        finally:
            self._watchers -= 1


def difference(before: Sections, after: Sections) -> dict[str, dict[str, Any]]:
    """What is new or other in each section, None for what is gone; sections in which nothing moved are left out."""
    found = {}
    for section, items in after.items():
        known = before.get(section, {})
        changed = {name: item for name, item in items.items() if known.get(name) != item}
        changed.update(dict.fromkeys(known.keys() - items.keys()))
        if changed:
            found[section] = changed
    return found


def event(name: str, now: float, sections: Sections) -> bytes:
    """A server-sent event (WHATWG HTML, 9.2); JSON has no newline."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode({"now": now, **sections}))
