"""Where the instance's lines go: the master's own, and with `log-master` everything its processes print.

Lines no alarm rule can match are only written; the others are kept for the link in a bounded queue. Writing never
waits, neither for the link nor for who reads the log: what is too much is dropped, oldest first, and counted. Each
worker has a pair of its own to the master, so that a storm of one fills nobody else's.
"""

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NamedTuple

from palatine.codec.alarm_grammar import Prefilter
from palatine.counters import Segment, memory
from palatine_app_server.config.log_settings import LogSettings
from palatine_app_server.config.settings import AlarmSettings
from palatine_app_server.log import log_opening
from palatine_app_server.log.log_encoders import chain
from palatine_app_server.log.log_grammar import Logger
from palatine_app_server.log.log_routing import Routing, Rules
from palatine_app_server.log.log_sinks import FileSink, Sink
from palatine_app_server.system import channel, own_lines
from palatine_app_server.system.loop import QUIET

#: One datagram is one write() of a process, at most this long: more than the kernel lets anybody write at once.
DATAGRAM_BYTES: Final = 4 * channel.BUFFER_BYTES
#: Datagrams read of one process per turn of the master's loop, so that a log storm starves neither it nor the others.
DATAGRAMS_PER_TURN: Final = 64
#: Lines waiting for a link that is down or slow.
QUEUE_LINES: Final = 10_000
#: uWSGI's own alarm lines never raise alarms (its anti-loop rule).
OWN_LINES: Final = b"[uwsgi-alarm"


class Ends(NamedTuple):
    """What a process of ours writes to: `output` is its stdout and stderr, `requests` takes its request lines."""

    output: int
    requests: int


class _Pair(NamedTuple):
    reader: socket.socket
    writer: socket.socket


class Logs:
    """The log of one instance of `workers` workers; `log` is what `open_log` opened before privileges were dropped."""

    def __init__(self, settings: LogSettings, alarms: AlarmSettings, segment: Segment, workers: int, log: Sink) -> None:
        self._settings = settings
        self._stamp = own_lines.dating(settings.date_format)
        self._log = log
        if settings.logto2:
            self._log = log_opening.open_log(settings, settings.logto2, begun=False)
        self._prefilter = Prefilter(alarms.rules) if alarms.rules else None
        self._cells = segment.cells("server")
        self._lines, self._bytes, self._dropped = (
            segment.word("server", name) for name in ("log_lines", "log_bytes", "log_dropped")
        )
        self.waiting: deque[str] = deque()
        self._touched = {path: _changed_at(path) for path in (*settings.touch_rotate, *settings.touch_reopen)}
        self._routing = self._routed(settings.loggers, _rules(settings))
        self._request_routing = self._routed(settings.request_loggers, _request_rules(settings))
        # the first is the zygote's and everybody else's
        self._pairs = [_pair() for _ in range(workers + 1)] if settings.log_master else []
        self._request_pairs = [_pair() for _ in range(workers + 1)] if settings.requests_apart else []
        self._room = memory.private(DATAGRAM_BYTES) if self._pairs or self._request_pairs else None
        sinks = [self._log, *self._routing.sinks, *self._request_routing.sinks]
        self._slow = not all(isinstance(sink, FileSink) for sink in sinks)
        #: Kept open for processes that write to the log themselves.
        self._direct = -1 if self._pairs else self._descriptor()

    # ------------------------------------------------------------------ what processes write to

    @property
    def child_fd(self) -> int:
        """What processes other than workers must use as stdout and stderr."""
        return self._pairs[0].writer.fileno() if self._pairs else self._direct

    def ends(self, worker: int) -> Ends:
        """What worker `worker` writes to; 0 is the zygote."""
        output = self._pairs[worker].writer.fileno() if self._pairs else self._direct
        requests = self._request_pairs[worker].writer.fileno() if self._request_pairs else 2
        return Ends(output, requests)

    def readers(self) -> Iterator[tuple[int, Callable[[], object]]]:
        """Descriptors to watch, and what to call when they are readable."""
        for pairs, take in ((self._pairs, self._take), (self._request_pairs, self._take_request)):
            for pair in pairs:
                yield pair.reader.fileno(), partial(self._read, pair.reader, take)

    def close_in_child(self) -> None:
        """In a forked child: only the writers are for it."""
        for pair in (*self._pairs, *self._request_pairs):
            pair.reader.close()

    # ------------------------------------------------------------------ what the master writes

    def say(self, text: str) -> None:
        """One line of the master's own."""
        prefix = self._stamp() if self._settings.dated else ""
        self._take(f"{prefix}{text}\n".encode("utf-8", "surrogateescape"))

    def say_dated(self, text: str) -> None:
        """One line in the form of uWSGI's verbose ones: the date, " - ", text."""
        self._take(f"{self._stamp()}{text}\n".encode("utf-8", "surrogateescape"))

    def say_alarm(self, text: str) -> None:
        """A line an alarm wrote: it is written, and matched with no rule, or it would raise itself for ever."""
        self._write(self._routing, f"{time.ctime()} - {text}\n".encode("utf-8", "surrogateescape"))

    # ------------------------------------------------------------------ files

    def tick(self) -> None:
        """Once a second: rotate or reopen where a touched file asks for it."""
        if self._touched:
            touched = {path for path in self._touched if self._was_touched(path)}
            if touched.intersection(self._settings.touch_rotate):
                self.rotate()
            elif touched:
                self.reopen()

    def rotate(self) -> None:
        """Rename the log to its backup name and begin it anew."""
        if isinstance(self._log, FileSink):
            self._log.rotate()

    def reopen(self) -> None:
        """Open the log's path anew; processes forked from now on write there, too."""
        if isinstance(self._log, FileSink):
            self._log.reopen()
            if self._direct >= 0:
                os.dup2(self._log.fd, self._direct, inheritable=False)

    def reloading(self) -> None:
        """The instance reloads: `log-reopen` asks for the path to be opened anew."""
        if self._settings.reopen:
            self.reopen()

    def flush(self) -> bool:
        """Pass on what slow readers have not taken; whether nothing is left."""
        sinks = [self._log, *self._routing.sinks, *self._request_routing.sinks]
        left = [sink for sink in sinks if not sink.flush()]
        return not left

    # ------------------------------------------------------------------ inside

    def _read(self, reader: socket.socket, take: Callable[[bytes], None]) -> object:
        """Take what a process printed; QUIET when it is where it belongs."""
        assert self._room is not None
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                size = reader.recv_into(self._room)
            except BlockingIOError:
                break
            if not size:
                break
            take(bytes(self._room[:size]))
        return None if self.waiting or self._slow else QUIET

    def _take(self, data: bytes) -> None:
        self._write(self._routing, data)
        self._offer(data)

    def _take_request(self, data: bytes) -> None:
        self._write(self._request_routing, data)

    def _write(self, routing: Routing, data: bytes) -> None:
        self._cells[self._lines] += 1
        self._cells[self._bytes] += len(data)
        lost = routing.take(data)
        if lost:  # a full disk or a reader that does not read must not stop the server; the counter tells
            self._cells[self._dropped] += lost

    def _offer(self, data: bytes) -> None:
        """Keep for the link what a rule may match."""
        if self._prefilter is None or data.startswith(OWN_LINES) or not self._prefilter.may_match(data):
            return
        if len(self.waiting) >= QUEUE_LINES:
            self.waiting.popleft()
            self._cells[self._dropped] += 1
        self.waiting.append(data.decode("latin-1"))

    def _routed(self, wanted: tuple[Logger, ...], rules: Rules) -> Routing:
        return Routing(rules, log_opening.open_loggers(self._settings, wanted, self._log), self._log)

    def _descriptor(self) -> int:
        return os.dup(self._log.fd if isinstance(self._log, FileSink) else 2)

    def _was_touched(self, path: str) -> bool:
        before, now = self._touched[path], _changed_at(path)
        self._touched[path] = now
        return now > before


def _rules(settings: LogSettings) -> Rules:
    return Rules(settings.drains, settings.filters, settings.routes, chain(settings.encoders))


def _request_rules(settings: LogSettings) -> Rules:
    return Rules(routes=settings.request_routes, encoders=chain(settings.request_encoders))


def _pair() -> _Pair:
    pair = _Pair(*channel.pair())
    pair.reader.setblocking(False)
    return pair


def _changed_at(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
