"""What `palatine up` shows: a screen redrawn on a terminal, plain lines elsewhere; must never decide what runs."""

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from palatine import __version__
from palatine.cli.found import Found
from palatine.cli.status_command import thing_lines
from palatine.cli.text import Paint
from palatine.cli.top_command import Rates
from palatine.companions import Status

_HOME: Final = "\033[H"
_CLEAR_LINE: Final = "\033[K"
_CLEAR_REST: Final = "\033[J"
_CLEAR_ALL: Final = "\033[2J"
_KEPT_LINES: Final = 200
_LOG_BYTES: Final = 8 << 20


class Lines:
    """Without a terminal: children write to the same stderr; this adds a line when something changes."""

    #: What the children's output has to be read from; nothing here.
    log_fd: int | None = None

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def say(self, text: str) -> None:
        """One line."""
        sys.stderr.write(f"palatine up: {text}\n")
        sys.stderr.flush()

    def show(self, things: Sequence[Found], parts: dict[str, Status], now: float) -> None:
        """A line for whatever has changed its state."""
        del now
        states = {name: status.phase for name, status in parts.items() if status.phase != "running"}
        states |= {thing.name: f"{thing.state} (pid {thing.pid})" for thing in things}
        for name, state in states.items():
            if self._known.get(name) != state:
                self.say(f"{name} is {state}")
        self._known = states

    def read_log(self) -> None:
        """Nothing to read."""

    def end(self) -> None:
        """Nothing to put back."""


class Screen:
    """On a terminal: children write into a pipe, whose last lines stand below the table, and into a log file."""

    def __init__(self, terminal: int, log_path: Path, head: Callable[[], Sequence[str]]) -> None:
        self._terminal = terminal
        self._head = head
        self._paint = Paint(on=not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb")
        self._rates = Rates()
        self._tail: deque[str] = deque(maxlen=_KEPT_LINES)
        self._partial = b""
        if log_path.exists() and log_path.stat().st_size > _LOG_BYTES:
            log_path.replace(log_path.with_suffix(".log.1"))
        self._file = log_path.open("ab", buffering=0)
        self._own = os.dup(2)
        self.log_fd: int | None
        self.log_fd, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.log_fd, False)
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(write)
        self._draw(_CLEAR_ALL)

    def say(self, text: str) -> None:
        """A line in the log."""
        self._take(f"palatine up: {text}\n".encode())

    def read_log(self) -> None:
        """Take what the children have written."""
        assert self.log_fd is not None
        while True:
            try:
                data = os.read(self.log_fd, 65536)
            except BlockingIOError:
                return
            if not data:
                return
            self._take(data)

    def show(self, things: Sequence[Found], parts: dict[str, Status], now: float) -> None:
        """Draw everything anew."""
        size = os.get_terminal_size(self._terminal)
        width, height = size.columns or 80, size.lines or 24
        absent = [
            f"  {name}  {status.phase}"
            for name, status in parts.items()
            if name not in {thing.name for thing in things}
        ]
        rates = self._rates.update(list(things), time.monotonic())
        lines = [
            self._paint("1", f"palatine {__version__} is up") + "   Ctrl-C stops everything",
            "",
            *thing_lines(list(things), now, self._paint, rates),
            *absent,
            "",
            *self._head(),
        ]
        room = height - len(lines) - 2
        if room > 0:
            lines += ["", *list(self._tail)[-room:]]
        cut = [line if "\033" in line else line[: width - 1] for line in lines[: height - 1]]
        self._draw(_HOME + "\n".join(line + _CLEAR_LINE for line in cut) + _CLEAR_REST)

    def end(self) -> None:
        """Give stdout and stderr back."""
        self._draw("\n")
        os.close(self._terminal)
        os.dup2(self._own, 1)
        os.dup2(self._own, 2)
        self._file.close()

    def _draw(self, text: str) -> None:
        """Whole or in part: a terminal that is held (Ctrl-S) must not hold the parent; the next picture is whole."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._terminal, text.encode())

    def _take(self, data: bytes) -> None:
        self._file.write(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._tail += [line.decode(errors="replace") for line in lines]


def open_view(log_path: Path, head: Callable[[], Sequence[str]]) -> Lines | Screen:
    """A screen where stdout and stderr are a terminal, else plain lines."""
    if sys.stdout.isatty() and sys.stderr.isatty():
        # a description of our own: the shell's must not become non-blocking
        terminal = os.open(os.ttyname(1), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        return Screen(terminal, log_path, head)
    return Lines()
