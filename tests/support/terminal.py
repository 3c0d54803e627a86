"""Programs on a terminal of their own: what they show is read until it is there, whatever the machine's load."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from running import program

_ESCAPES: Final = re.compile(r"\x1b(?:[\[(][0-9;?]*[A-Za-z]|[=>])")


class Terminal:
    """A program in a pseudo-terminal; ended, with its output closed, when the `with` block ends."""

    def __init__(
        self, *argv: str, environ: Mapping[str, str] | None = None, rows: int = 50, columns: int = 160
    ) -> None:
        self._fd, tail = pty.openpty()
        fcntl.ioctl(tail, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        try:
            self.process = subprocess.Popen(
                [program(argv[0]), *argv[1:]],
                stdin=tail,
                stdout=tail,
                stderr=tail,
                env={**os.environ, "TERM": "xterm", **(environ or {})},
                start_new_session=True,
            )
        except BaseException:
            os.close(self._fd)
            raise
        finally:
            os.close(tail)
        self._shown = b""
        self._all = b""

    @property
    def raw(self) -> str:
        """Everything it has written, escape sequences and all."""
        return self._all.decode(errors="replace")

    @property
    def text(self) -> str:
        """What was shown since the last `wait_for`, each escape sequence as a blank."""
        return _ESCAPES.sub(" ", self._shown.decode(errors="replace"))

    def wait_for(self, *patterns: str, seconds: float = 30.0) -> str:
        """Read until every pattern is in what was shown since the last call; that text."""
        deadline = time.monotonic() + seconds
        while missing := [pattern for pattern in patterns if not re.search(pattern, self.text)]:
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"{missing} not shown by {self.process.args!r}:\n{self.text[-4000:]}")
        text, self._shown = self.text, b""
        return text

    def press(self, keys: str) -> None:
        """Type something."""
        os.write(self._fd, keys.encode())

    def leave(self, seconds: float = 30.0) -> int:
        """Read until the program has ended; its exit code."""
        deadline = time.monotonic() + seconds
        while self._read(deadline - time.monotonic()):
            pass
        return self.process.wait(max(1.0, deadline - time.monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(10)
        os.close(self._fd)

    def _read(self, seconds: float) -> bool:
        """Take more output; False at its end or when the time is up."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if seconds <= 0 or not poll.poll(seconds * 1000):
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # EIO: the program has closed its end
            return False
        self._shown += data
        self._all += data
        return bool(data)


def shows(argv: Sequence[str], *patterns: str) -> str:
    """Run a program until it shows everything wanted, then end it; what it showed."""
    with Terminal(*argv) as terminal:
        return terminal.wait_for(*patterns)
