"""What crashed workers have said last, kept where the master can read it; made only where an alarm is to carry it.

A file in memory of its own for each worker of either bank, since two generations overlap: its faulthandler writes
there instead of into the log, and the master, once it has reaped the worker, reads it, into log and alarm.
"""

import fcntl
import os
import signal
from collections.abc import Callable, Mapping
from typing import Final

from palatine_app_server.supervision import endings

#: More frames than that belong to a recursion without end.
_MOST_BYTES: Final = 64 * 1024
#: As uWSGI says them; it knows the first two.
_NAMES: Final[Mapping[int, str]] = {
    signal.SIGSEGV: "Segmentation Fault",
    signal.SIGFPE: "Floating Point Exception",
    signal.SIGBUS: "Bus Error",
    signal.SIGILL: "Illegal Instruction",
    signal.SIGABRT: "Abort",
    signal.SIGSYS: "Bad System Call",
}


class CrashReports:
    """Of one instance; `raise_alarm` is told of each crash, `say` puts a line into the log."""

    def __init__(
        self, workers: int, *, wanted: bool, raise_alarm: Callable[[str], None], say: Callable[[str], None]
    ) -> None:
        self._files = [_file() for _ in range(2 * workers)] if wanted else []
        self._raise = raise_alarm
        self._say = say

    def fd(self, worker: int, generation: int) -> int:
        """Where worker `worker` of `generation` says its last; without files stderr."""
        return self._files[self._row(worker, generation)] if self._files else 2

    def died(self, pid: int, status: int, text: str, worker: int = 0, generation: int = 0) -> None:
        """Process `pid`, who `text` says, ended with this wait status; a `worker` may have left a report."""
        if not endings.is_crash(status):
            return
        number = os.WTERMSIG(status)
        self._say(f"!!! uWSGI process {pid} got {_NAMES[number]} !!!")
        report = _take(self._files[self._row(worker, generation)]) if worker and self._files else ""
        for line in report.splitlines():
            self._say(line)
        self._raise(f"{text}\n{report}" if report else text)

    def _row(self, worker: int, generation: int) -> int:
        return 2 * (worker - 1) + (generation & 1)


def _file() -> int:
    fd = os.memfd_create("palatine-crash")  # close-on-exec
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)  # whoever has the slot next begins at the start, too
    return fd


def _take(fd: int) -> str:
    data = os.pread(fd, _MOST_BYTES, 0)
    os.ftruncate(fd, 0)
    return data.decode(errors="replace")
