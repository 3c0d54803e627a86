"""The state of all instances once a second, made once for all who watch, and not at all while nobody does."""

from collections.abc import AsyncGenerator, Callable

import attrs
import trio


@attrs.frozen
class Statistics:
    """How many watch, and how many states were made."""

    watchers: int
    made: int


class Live:
    """Broadcasts the latest state: a watcher that is slow misses states, it never delays others or piles them up."""

    def __init__(self, make: Callable[[], bytes], seconds: float = 1.0) -> None:
        self._make = make
        self._seconds = seconds
        self._watchers = 0
        self._made = 0
        self._latest = b""
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
                self._latest = self._make()
                self._made += 1
                self._news.set()
                self._news = trio.Event()
                await trio.sleep(self._seconds)
            self._wanted = trio.Event()

    async def watch(self) -> AsyncGenerator[bytes, None]:
        """States as they are made; the latest at once if somebody watches already."""
        fresh = self._watchers > 0 and self._latest
        self._watchers += 1
        self._wanted.set()
        try:
            if fresh:
                yield self._latest
            while True:
                await self._news.wait()
                yield self._latest
        finally:
            self._watchers -= 1
