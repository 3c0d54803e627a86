"""Where the instance's lines go: the master's own, and with `log-master` everything its processes print.

Lines no alarm rule can match are only written; the others are kept for the link in a bounded queue. Writing never
waits for the link: when the queue is full the oldest lines are dropped and counted.
"""

import os
import socket
import sys
import time
from collections import deque
from typing import Final

from palatine.codec.alarm_grammar import Prefilter
from palatine.counters import Segment
from palatine_app_server import channel
from palatine_app_server.settings import AlarmSettings, LogSettings

#: One datagram is one write() of a process, at most this long (uWSGI's log-master-bufsize is 8192).
DATAGRAM_BYTES: Final = 65536
#: Datagrams read per turn of the master's loop, so that a log storm cannot starve it.
DATAGRAMS_PER_TURN: Final = 256
#: Lines waiting for a link that is down or slow.
QUEUE_LINES: Final = 10_000
#: uWSGI's own alarm lines never raise alarms (its anti-loop rule).
OWN_LINES: Final = b"[uwsgi-alarm"


class Logs:
    """The log of one instance."""

    def __init__(self, settings: LogSettings, alarms: AlarmSettings, segment: Segment) -> None:
        self._out = _open(settings.logto) if settings.logto else os.dup(2)
        self._prefilter = Prefilter(alarms.rules) if alarms.rules else None
        self._cells = segment.cells("server")
        self._lines, self._bytes, self._dropped = (
            segment.word("server", name) for name in ("log_lines", "log_bytes", "log_dropped")
        )
        self.waiting: deque[str] = deque()
        self.reader: socket.socket | None = None
        self.writer: socket.socket | None = None
        if settings.log_master:
            self.reader, self.writer = channel.pair()
            self.reader.setblocking(False)

    @property
    def child_fd(self) -> int:
        """What children must use as stdout and stderr; -1: they keep the master's."""
        if self.writer is not None:
            return self.writer.fileno()
        return self._out

    def say(self, text: str) -> None:
        """One line of the master's own."""
        self._take(text.encode("utf-8", "surrogateescape") + b"\n")

    def say_dated(self, text: str) -> None:
        """One line in the form of uWSGI's verbose ones: ctime, " - ", text."""
        self.say(f"{time.ctime()} - {text}")

    def say_alarm(self, text: str) -> None:
        """A line an alarm wrote: it is written, and matched with no rule, or it would raise itself for ever."""
        self._write(f"{time.ctime()} - {text}\n".encode("utf-8", "surrogateescape"))

    def read(self) -> None:
        """Take what the processes printed."""
        assert self.reader is not None
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                data = self.reader.recv(DATAGRAM_BYTES)
            except BlockingIOError:
                return
            if not data:
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        self._write(data)
        self._offer(data)

    def _write(self, data: bytes) -> None:
        self._cells[self._lines] += 1
        self._cells[self._bytes] += len(data)
        try:
            os.write(self._out, data)
        except OSError:  # a full disk or a closed terminal must not stop the server; the counter tells
            self._cells[self._dropped] += 1

    def _offer(self, data: bytes) -> None:
        """Keep for the link what a rule may match."""
        if self._prefilter is None or data.startswith(OWN_LINES) or not self._prefilter.may_match(data):
            return
        if len(self.waiting) >= QUEUE_LINES:
            self.waiting.popleft()
            self._cells[self._dropped] += 1
        self.waiting.append(data.decode("latin-1"))


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        sys.stderr.write(f"open({path}): {error.strerror}\n")
        return os.dup(2)
