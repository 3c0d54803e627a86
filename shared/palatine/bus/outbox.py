"""The sender's events in memory: waiting, under way, acknowledged; pure, and bounded by whoever adds."""

from collections import deque
from typing import NamedTuple

from palatine.bus.events import BATCH_BYTES, BATCH_EVENTS, WINDOW_BYTES, WINDOW_EVENTS


class Item(NamedTuple):
    """An event as JSON, ready to be sent."""

    seq: int
    raw: bytes


class Outbox:
    """Events in the order of their numbers. `flight` was sent in this session, `waiting` was not."""

    def __init__(self) -> None:
        self.waiting: deque[Item] = deque()
        self.flight: deque[Item] = deque()
        self.waiting_bytes = 0
        self.flight_bytes = 0
        #: The last acknowledged number, and the highest that may be.
        self.acked = 0
        self.highest_sent = 0
        self._previous = 0

    def __len__(self) -> int:
        return len(self.waiting) + len(self.flight)

    def add(self, item: Item) -> None:
        """Append an event."""
        self.waiting.append(item)
        self.waiting_bytes += len(item.raw)

    def drop_oldest(self) -> Item | None:
        """Give up the oldest event that is not under way."""
        if not self.waiting:
            return None
        item = self.waiting.popleft()
        self.waiting_bytes -= len(item.raw)
        return item

    def take(self) -> tuple[int, list[Item]]:
        """The next batch and the number sent before it; an empty batch if there is nothing or the window is full."""
        batch: list[Item] = []
        size = 0
        room = min(BATCH_EVENTS, WINDOW_EVENTS - len(self.flight))
        limit = min(BATCH_BYTES, WINDOW_BYTES - self.flight_bytes)
        # One event always fits an empty window, and an empty batch, however large it is.
        while self.waiting and len(batch) < room:
            length = len(self.waiting[0].raw)
            if size + length > limit and (batch or self.flight):
                break
            size += length
            batch.append(self.waiting.popleft())
        previous = self._previous
        if batch:
            self.waiting_bytes -= size
            self.flight_bytes += size
            self.flight.extend(batch)
            self._previous = batch[-1].seq
            self.highest_sent = max(self.highest_sent, self._previous)
        return previous, batch

    def ack(self, seq: int) -> int:
        """Everything up to `seq` is durable at the other side; how many events that ends. Never sent: ignored."""
        if seq > self.highest_sent:
            return 0
        ended = 0
        while self.flight and self.flight[0].seq <= seq:
            self.flight_bytes -= len(self.flight.popleft().raw)
            ended += 1
        while self.waiting and self.waiting[0].seq <= seq:  # sent in an earlier session, acknowledged in this one
            self.waiting_bytes -= len(self.waiting.popleft().raw)
            ended += 1
        self.acked = max(self.acked, seq)
        return ended

    def rewind(self) -> None:
        """The session is over: what was under way waits again."""
        self.waiting.extendleft(reversed(self.flight))
        self.waiting_bytes += self.flight_bytes
        self.flight.clear()
        self.flight_bytes = 0
        self._previous = 0
