"""Serve stats documents on sockets handed over by masters: one thread, one epoll, no client ever waits for another.

A thread of its own rather than trio tasks, because a document costs less than waking an event loop twice (45 us a
scrape against uWSGI's 50 in the same run), and because a long `/metrics` page in the main thread must not delay a
scrape. Commands from outside come through a queue; every connection has a deadline; what the thread touches
(listeners, connections, the counters it was given) nobody else touches.
"""

import errno
import functools
import math
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from palatine.errors import PalatineError
from palatine_stats_exporter.sniffing import HEAD_BYTES, Verdict, judge, may_have_body
from palatine_stats_exporter.waiting import Client, Clients, Endpoint, Limits, Source, Tally

#: The header block of uWSGI's `stats-http`, to the byte: uwsgi_exporter compares the content type exactly.
HTTP_HEADER: Final = (
    b"HTTP/1.0 200 OK\r\nConnection: close\r\nAccess-Control-Allow-Origin: *\r\nContent-Type: application/json\r\n\r\n"
)
#: Wait before listeners are tried again when the process has no descriptor left and no client to give up.
_REST_SECONDS: Final = 0.1
#: A burst of accepts takes microseconds; one that takes this long hangs.
_ACCEPT_SECONDS: Final = 1.0
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class StatsServer:
    """The serving thread: `run` is its body; `add`, `remove`, `call` and `stop` are for the other threads."""

    def __init__(self, limits: Limits | None = None, on_error: Callable[[Exception], None] | None = None) -> None:
        self.limits = limits or Limits()
        self.tally = Tally()
        self._on_error = on_error or (lambda _: None)
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._commands: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._endpoints: dict[int, Endpoint] = {}
        self._clients = Clients(self.limits)
        self._resting_until = 0.0
        #: The listener connections are being taken from, and since when.
        self._accepting: tuple[socket.socket, float] | None = None
        #: Documents made in this turn: whoever is answered in the same turn gets the same one.
        self._rendered: dict[Source, bytes] = {}

    # --- for other threads ---

    def add(self, listener: socket.socket, source: Source) -> None:
        """Serve `source` on `listener` from now on; both belong to the thread."""
        listener.setblocking(False)
        self.call(functools.partial(self._add, listener, source))

    def remove(self, source: Source) -> None:
        """Stop serving `source` and close its listener; who is being answered gets the rest."""
        self.call(functools.partial(self._remove, source))

    def stop(self) -> None:
        """End `run` after what was asked before."""
        self.call(self._stop)

    def call(self, command: Callable[[], None]) -> None:
        """Run `command` in the serving thread."""
        self._commands.append(command)
        os.eventfd_write(self._wake, 1)

    def rescue(self) -> bool:
        """End an `accept` that hangs; whether there was one. To be called every few seconds.

        An app shares its listener with us and can make it blocking just before we accept; with nobody there that would
        hold up everybody's scrapes. What is shut down for it is that app's listener alone.
        """
        accepting = self._accepting
        if accepting is None or time.monotonic() - accepting[1] < _ACCEPT_SECONDS:
            return False
        accepting[0].shutdown(socket.SHUT_RDWR)
        return True

    # --- the thread ---

    def run(self) -> None:
        """Serve until `stop`; closes every listener and connection at its end."""
        try:
            while not self._stopping:
                self._turn()
        finally:
            self._close_all()

    def _turn(self) -> None:
        events = self._epoll.poll(self._patience())
        now = time.monotonic()
        for fd, _ in events:
            client = self._clients.get(fd)
            if client is not None:
                self._ready(fd, client, now)
            elif fd == self._wake:
                self._obey()
            elif (endpoint := self._endpoints.get(fd)) is not None:
                self._accept(endpoint, now)
        self._end_waits(now)
        self._rendered.clear()

    def _patience(self) -> float:
        """Seconds until the first deadline; -1 for none."""
        deadline = self._clients.deadline()
        if self._resting_until:
            deadline = min(deadline or self._resting_until, self._resting_until)
        return -1 if deadline is None else max(0.0, deadline - time.monotonic())

    def _obey(self) -> None:
        os.eventfd_read(self._wake)
        while self._commands:
            self._commands.popleft()()

    def _add(self, listener: socket.socket, source: Source) -> None:
        self._endpoints[listener.fileno()] = Endpoint(listener, source)
        self._epoll.register(listener.fileno(), select.EPOLLIN)

    def _remove(self, source: Source) -> None:
        for endpoint in [found for found in self._endpoints.values() if found.source is source]:
            self._close_listener(endpoint)
            for fd, client in list(endpoint.clients.items()):
                if client.queue in {self._clients.sniffing, self._clients.asking}:
                    self._close(fd, client)
        source.close()

    def _stop(self) -> None:
        self._stopping = True

    def _close_all(self) -> None:
        for client in self._clients.overdue(math.inf):
            self._close(client.sock.fileno(), client)
        for endpoint in list(self._endpoints.values()):
            self._close_listener(endpoint)
            endpoint.source.close()
        self._epoll.close()
        os.close(self._wake)

    # --- connections ---

    def _close_listener(self, endpoint: Endpoint) -> None:
        del self._endpoints[endpoint.listener.fileno()]
        endpoint.listener.close()

    def _accept(self, endpoint: Endpoint, now: float) -> None:
        """Take what waits, at most a burst: those already connected come next."""
        self._accepting = (endpoint.listener, now)
        endpoint.listener.setblocking(False)  # its owner shares the flag
        try:
            self._accept_burst(endpoint, now)
        finally:
            self._accepting = None

    def _accept_burst(self, endpoint: Endpoint, now: float) -> None:
        for _ in range(self.limits.burst):
            try:
                sock = _accepted(endpoint)
            except BlockingIOError:
                return
            except OSError as error:
                self._accept_failed(endpoint, error, now)
                return
            if len(self._clients) >= self.limits.connections:
                self._evict()
            fd = sock.fileno()
            client = self._clients.add(sock, endpoint, now)
            self._epoll.register(fd, select.EPOLLIN)
            self.tally.clients = len(self._clients)
            if endpoint.source.http:
                self._read(fd, client, now)  # its request is often there already

    def _accept_failed(self, endpoint: Endpoint, error: OSError, now: float) -> None:
        """Out of descriptors: give up a client, or else look away for a moment."""
        if error.errno == errno.EINVAL:  # shut down by its owner or by `rescue`: it will never give another client
            self._close_listener(endpoint)
        if error.errno not in _EXHAUSTED:
            if error.errno != errno.ECONNABORTED:
                self._failed(error)
            return
        if not _waits(endpoint.listener):  # accept(2) wants a descriptor before it looks
            return
        if not self._evict():
            self._failed(error)
            self._resting_until = now + _REST_SECONDS
            for fd in self._endpoints:
                self._epoll.modify(fd, 0)

    def _evict(self) -> bool:
        """End the oldest client of the socket that has most: a crowd there costs no other. Whether there was one."""
        most = max(self._endpoints.values(), key=lambda endpoint: len(endpoint.clients), default=None)
        if most is None or not most.clients:
            return False
        self.tally.evicted += 1
        self._close(*next(iter(most.clients.items())))
        return True

    def _end_waits(self, now: float) -> None:
        for client in self._clients.overdue(now):
            fd = client.sock.fileno()
            if client.queue in {self._clients.sniffing, self._clients.asking}:
                self._judge(fd, client, now, over=True)
            else:
                self._close(fd, client)
        if self._resting_until and self._resting_until <= now:
            self._resting_until = 0.0
            for fd in self._endpoints:
                self._epoll.modify(fd, select.EPOLLIN)

    def _ready(self, fd: int, client: Client, now: float) -> None:
        if client.queue is self._clients.sending:
            self._send(fd, client, now)
        else:
            self._read(fd, client, now)

    def _read(self, fd: int, client: Client, now: float) -> None:
        try:
            data = client.sock.recv(HEAD_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self._close(fd, client)
            return
        if client.queue is not self._clients.lingering:
            client.received += data
            self._judge(fd, client, now, over=not data)
        elif not data:
            self._close(fd, client)

    def _judge(self, fd: int, client: Client, now: float, *, over: bool) -> None:
        verdict = judge(client.received, http=client.endpoint.source.http, over=over)
        if verdict is Verdict.WAIT:
            if client.queue is self._clients.sniffing:
                self._clients.move(
                    fd, client, self._clients.asking, now
                )  # it speaks HTTP: it may take its time for the rest
            return
        if verdict is Verdict.CLOSE:
            self._close(fd, client)
            return
        try:
            answer = self._answer(client.endpoint.source, verdict)
        except (PalatineError, OSError) as error:
            self._failed(error)
            self._close(fd, client)
            return
        client.pending = answer
        self._send(fd, client, now)

    def _answer(self, source: Source, verdict: Verdict) -> bytes:
        if verdict is Verdict.HEAD:
            self.tally.http += 1
            return HTTP_HEADER
        document = self._rendered.get(source)
        if document is None:
            document = self._rendered[source] = source.render()
        if verdict is Verdict.RAW:
            self.tally.raw += 1
            return document
        self.tally.http += 1
        return HTTP_HEADER + document

    def _send(self, fd: int, client: Client, now: float) -> None:
        try:
            sent = client.sock.send(client.pending, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:  # it went away before it had read everything: its right
            self._close(fd, client)
            return
        self.tally.bytes_out += sent
        if sent < len(client.pending):
            client.pending = memoryview(client.pending)[sent:]
            if client.queue is not self._clients.sending:
                self._clients.move(fd, client, self._clients.sending, now)
                self._epoll.modify(fd, select.EPOLLOUT)
        elif may_have_body(client.received):
            self._linger(fd, client, now)
        else:
            self._close(fd, client)

    def _linger(self, fd: int, client: Client, now: float) -> None:
        """Say that nothing more comes, and read what the client still sends until it closes."""
        try:
            client.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(fd, client)
            return
        self._clients.move(fd, client, self._clients.lingering, now)
        self._epoll.modify(fd, select.EPOLLIN)

    def _close(self, fd: int, client: Client) -> None:
        self._clients.close(fd, client)
        self.tally.clients = len(self._clients)

    def _failed(self, error: Exception) -> None:
        self.tally.errors += 1
        self._on_error(error)


def _accepted(endpoint: Endpoint) -> socket.socket:
    """`listener.accept()` without what that spends on enumerations: a third of an accept with cold caches."""
    fd, _address = endpoint.listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001  # what accept() calls
    return socket.socket(endpoint.family, socket.SOCK_STREAM, fileno=fd)


def _waits(listener: socket.socket) -> bool:
    """Whether a connection waits to be accepted."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))
