"""What mules and spoolers have in common inside their process: when to leave, and how long their work may take. Plain.

Asked to leave, one that works finishes first: between a message, signal or task it has taken and the next it asks for
it is at work, whoever's loop that is. One that waits, or runs a program that never asks, leaves at once.
"""

import contextlib
import faulthandler
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

from palatine import exits
from palatine.counters import Segment
from palatine_app_server.serving.worker import leave


class Aide:
    """The process of row `row` in `table`, which it alone writes; `on_exit` runs the app's exit handler."""

    def __init__(
        self, segment: Segment, table: str, row: int, *, harakiri_seconds: int, on_exit: Callable[[], None]
    ) -> None:
        self._segment = segment
        self._table = table
        self._cells = segment.cells(table, row)
        self._deadline = segment.word(table, "harakiri_deadline_ms")
        self._harakiri_seconds = harakiri_seconds
        self._on_exit = on_exit
        self._at_work = False
        self._leaving = False

    def install_signals(self) -> None:
        """In the main thread, before any work."""
        signal.signal(signal.SIGHUP, self._leave_soon)
        signal.signal(signal.SIGTERM, self._leave_now)
        # the terminal sends the first three to everybody: the master decides
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGALRM, signal.SIGTTIN, signal.SIGTTOU):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, lambda _number, _frame: None)  # wakes a spooler, and is harmless to a mule
        faulthandler.register(signal.SIGUSR2, file=2, all_threads=True, chain=False)

    def rest(self) -> None:
        """What was taken is done; leave now if that was asked for meanwhile."""
        self._at_work = False
        self.arm(0)
        if self._leaving:
            self.end(exits.OK)

    def take(self, *, harakiri: bool = True) -> None:
        """Something was taken and must be finished, within the configured time where `harakiri`."""
        self._at_work = True
        if harakiri:
            self.arm(self._harakiri_seconds)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Take something, and rest at the end of the block."""
        self.take()
        try:
            yield
        finally:
            self.rest()

    def arm(self, seconds: int) -> None:
        """The master ends this process in `seconds` unless it is armed anew; 0 disarms."""
        self._cells[self._deadline] = int((time.monotonic() + seconds) * 1000) if seconds else 0

    def count(self, name: str) -> None:
        """One more in this process's row."""
        self._cells[self._segment.word(self._table, name)] += 1

    def store(self, name: str, value: int) -> None:
        """A value of this process's row."""
        self._cells[self._segment.word(self._table, name)] = value

    def end(self, code: int) -> None:
        """End this process now."""
        leave(code, self._on_exit)

    def _leave_soon(self, _number: int, _frame: FrameType | None) -> None:
        self._leaving = True
        if not self._at_work:
            self.end(exits.OK)

    def _leave_now(self, _number: int, _frame: FrameType | None) -> None:
        self.end(exits.OK)
