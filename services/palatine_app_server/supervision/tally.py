"""The master's own row of the segment, and sums over the workers': what it shows, counts and knows of requests."""

from palatine.counters import Segment


class Tally:
    """Of one instance; the master is the one writer of the row `server`."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._server = segment.cells("server")

    def show(self, name: str, value: int) -> None:
        """The value of a field as it is now."""
        self._server[self._segment.word("server", name)] = value

    def show_outbox(self, waiting: int, dropped: int) -> None:
        """How many events no alarm-daemon has taken yet, and how many were given up."""
        self.show("events_waiting", waiting)
        self.show("events_dropped", dropped)

    def value(self, name: str) -> int:
        """What it shows."""
        value: int = self._server[self._segment.word("server", name)]
        return value

    def count(self, name: str) -> None:
        """One more."""
        self._server[self._segment.word("server", name)] += 1

    def requests(self) -> int:
        """Requests finished by all workers of both banks, since the master was started."""
        word = self._segment.word("cores", "requests")
        return sum(
            self._segment.cells("cores", row, bank)[word]
            for row in range(self._segment.rows("cores"))
            for bank in (0, 1)
        )

    def accepts(self, worker: int, generation: int) -> bool:
        """Whether this worker takes requests."""
        cells = self._segment.cells("workers", worker - 1, generation & 1)
        return bool(cells[self._segment.word("workers", "accepting")])
