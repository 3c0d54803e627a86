"""A worker's epoll set: accepts, reads, has requests answered, parks what waits. It hears of no signal and no master.

The kernel's listen queue stays the queue: a thread accepts only when it can serve at once, so `listen_queue` means what
operators think it means. Idle keep-alive and slow clients are parked in epoll and hold no thread.

Threads share one epoll set. A connection is armed one-shot, so exactly one thread gets it; a thread takes one event per
wait (`maxevents` 1), because an event fetched but not served is a client waiting behind somebody else's request. Where
there is but one thread, nobody else would serve it: it takes what there is, which saves most of the waits of a busy
worker. The listeners are exclusive (EPOLLEXCLUSIVE): a worker that is woken always accepts, and re-adds them once a
second so that the connection a killed sibling was woken for is not stranded.
"""

import contextlib
import errno
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from palatine.codec.http_head import HeadError
from palatine_app_server.serving import connection_kinds
from palatine_app_server.serving.clients import Limits, Listener, Next
from palatine_app_server.serving.connection import Connection
from palatine_app_server.serving.core import Core
from palatine_app_server.serving.drainer import Drainer
from palatine_app_server.serving.request import Requests, log
from palatine_app_server.system.last_words import print_exc

TICK_SECONDS: Final = 1.0
#: While draining: the sooner a worker is gone, the sooner its memory is.
DRAINING_TICK_SECONDS: Final = 0.1
#: How long after its last response a connection may still bring a request to a draining worker.
LAST_CALL_SECONDS: Final = 0.5
#: A thread that waited less than this for its event found somebody waiting for it: the worker is saturated. Where
#: requests then take longer than `WORTH_RECONNECTING_US`, a keep-alive connection is ended politely after its response,
#: so that its client comes back to whichever worker is free first.
SATURATED_SECONDS: Final = 0.001
WORTH_RECONNECTING_US: Final = 20_000
#: What the only thread of a worker takes of its epoll set at once.
EVENTS_AT_ONCE: Final = 64

_REASONS: Final = {
    400: "Bad Request",
    413: "Content Too Large",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    505: "HTTP Version Not Supported",
}
_IN: Final = select.EPOLLIN | select.EPOLLRDHUP
_OUT: Final = select.EPOLLOUT
_OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


#: Several of them a request: an enum's members are looked up slowly.
_SERVE: Final = Next.SERVE
_CLOSE: Final = Next.CLOSE
_PING: Final = Next.PING


class Reactor:
    """`hear` is told of descriptors that are neither listeners nor connections; `on_pause` what has come into force.

    `brief` says that a request ends with its answer: nobody works on behind it, and no other thread comes between.

    What the worker changes, from signal handlers too: `draining`, `pause_wanted`.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        limits: Limits,
        threads: int,
        *,
        hear: Callable[[int], None],
        on_pause: Callable[[bool], None],
        brief: bool = False,
    ) -> None:
        self.draining = False
        self.pause_wanted = False
        self.parked: dict[int, Connection] = {}
        self._limits = limits
        self._threads = threads
        self._hear = hear
        self._on_pause = on_pause
        self._listeners = {listener.fd: listener for listener in listeners}
        self._kinds = {listener.fd: connection_kinds.of(listener, brief=brief) for listener in listeners}
        self._one_shot = select.EPOLLONESHOT if threads > 1 else 0
        self._at_once = 1 if threads > 1 else EVENTS_AT_ONCE
        self._events = _IN | self._one_shot  # what parked connections wait for
        self._epoll = select.epoll()
        self._accepting = True
        self._watching = False
        self._paused = False
        self._pace = TICK_SECONDS
        self._next_tick = 0.0
        self._door_lock = threading.Lock()
        self._drainer = Drainer(limits.write_seconds)

    def watch(self, fd: int) -> None:
        """Have `hear` called whenever `fd` is readable."""
        self._epoll.register(fd, select.EPOLLIN)

    def forget(self, fd: int) -> None:
        """No longer."""
        with contextlib.suppress(OSError):  # another thread was first
            self._epoll.unregister(fd)

    def open_doors(self, requests: Requests) -> None:
        """Before the first turn: connections are accepted, unless a pause is wanted, and `requests` answers them."""
        self._requests = requests
        self._heads = {fd: requests.heads(listener) for fd, listener in self._listeners.items()}
        with self._door_lock:
            self._watch_listeners(wanted=True)
        self._apply_pause()

    def drain(self) -> None:
        """Accept nothing more. Safe in a signal handler."""
        self.draining = True
        self._pace, self._next_tick = DRAINING_TICK_SECONDS, 0.0
        self.pause_wanted = False
        if self._door_lock.acquire(blocking=False):  # else whoever has it, or `retire`
            try:
                self._close_doors()
            finally:
                self._door_lock.release()

    def turn(self, core: Core) -> None:
        """Wait, and do what there is to do."""
        if self.pause_wanted is not self._paused:
            self._apply_pause()
        events = self._epoll.poll(self._pace, self._at_once)
        now = time.monotonic()
        if now >= self._next_tick:
            self._tick(core, now)
        if not events:
            core.rest(now)
        for fd, _mask in events:
            connection = self.parked.pop(fd, None)
            if connection is not None:
                self._attend(core, connection, now)
            else:
                listener = self._listeners.get(fd)
                if listener is not None:
                    self._accept(core, listener, now)
                else:
                    self._hear(fd)
            if self.draining or self.pause_wanted is not self._paused:
                return  # whatever is left is still there
            now = max(now, core.ended)  # later by the request that was served

    def retire(self, core: Core) -> None:
        """A draining thread: close the doors and dismiss the idle; the others are served by further turns."""
        with self._door_lock:
            self._close_doors()
        for fd in list(self.parked):
            connection = self.parked.pop(fd, None)
            if connection is not None:
                self._attend(core, connection, time.monotonic())  # it may have asked just now

    def may_keep(self, core: Core) -> bool:
        """Whether a connection may stay: not while draining, nor where it would wait for a thread for long."""
        if self.draining:
            return False
        if len(self.parked) < self._threads or core.waited > SATURATED_SECONDS:
            return True
        return core.ledger.average_us <= WORTH_RECONNECTING_US

    def _accept(self, core: Core, listener: Listener, now: float) -> None:
        try:
            # _accept: a bare descriptor saves a socket object and a system call a connection
            fd, address = listener.socket._accept()  # type: ignore[attr-defined]  # noqa: SLF001
        except BlockingIOError:
            return
        except OSError as error:  # ECONNABORTED, EBADF while draining: the next connection may fare better
            if error.errno in _OUT_OF_DESCRIPTORS:
                self._make_room()
            return
        os.set_blocking(fd, False)
        peer = address[0] if isinstance(address, tuple) else "0.0.0.0"  # uWSGI's word for clients of a UNIX socket
        heads = self._heads[listener.fd]
        make = self._kinds[listener.fd]
        connection = make(fd, peer, listener, self._limits, now, heads)
        connection.drainer = self._drainer
        self._attend(core, connection, now)

    def _attend(self, core: Core, connection: Connection, now: float) -> None:
        """Read from a connection and serve every request that is complete; then park or close it."""
        try:
            step = connection.receive(now) if connection.unsent is None else connection.flush(now)
            if step is _SERVE:
                step = connection.following() if self._requests.answer(core, connection, now) else connection.ending()
            if step is _PING:
                log("PING\n")
                connection.pong()
                step = _CLOSE
            elif step is Next.SIGNAL:
                from palatine_app_server.serving import packet_signal  # few clients send any

                packet_signal.take(connection)
                step = _CLOSE
        except HeadError as error:
            self._refuse(connection, error, now)
            return
        except OSError as gone:  # a name of its own: what mypyc makes of a second `error` is a TypeError
            core.ledger.count(core.ledger.read_errors)
            _log_shortfall(connection, "Error", gone.strerror)
            self._close(connection)
            return
        except Exception:
            if core.connection is not None:
                raise  # in a request: better another worker than one that counts wrong
            print_exc()  # a fault of ours in what one client sent, and no other client's end
            core.ledger.count(core.ledger.read_errors)
            step = _CLOSE
        if step is _CLOSE:
            self._end(core, connection, "Error", "Client closed connection")
        else:
            self._park(connection)

    def _park(self, connection: Connection) -> None:
        if self.draining and connection.idle and self._dismissed(connection):
            return
        simple = connection.unsent is None and not connection.pipelined
        events = self._events if simple else self._events_for(connection)
        fd, watched = connection.fd, connection.watched
        connection.watched = events
        self.parked[fd] = connection  # before arming: another thread may get the event at once
        try:
            if watched < 0:
                self._epoll.register(fd, events)
            elif watched != events or self._one_shot:
                self._epoll.modify(fd, events)
        except OSError:
            if self.parked.get(fd) is connection:
                raise  # else a thread that retires or tidies up has taken it meanwhile, and ended it

    def _dismissed(self, connection: Connection) -> bool:
        """Close it, or let it live until its last call, which is set once: every thread that retires comes by here."""
        now = time.monotonic()
        if connection.deadline > now + LAST_CALL_SECONDS:
            connection.deadline -= self._limits.idle_seconds - LAST_CALL_SECONDS
        if connection.deadline > now:
            return False
        self._close(connection)
        return True

    def _events_for(self, connection: Connection) -> int:
        if connection.unsent is not None or (connection.pipelined and not self._paused):
            return _OUT | self._one_shot  # a socket that can be written to comes last among those that are ready
        return self._events

    def _close(self, connection: Connection) -> None:
        if connection.watched >= 0:
            # closing alone would leave it in the set where a child of the app holds a copy of the descriptor
            with contextlib.suppress(OSError):  # another thread was about to arm it: `_park` finds it taken
                self._epoll.unregister(connection.fd)
        connection.close()

    def _end(self, core: Core, connection: Connection, what: str, why: str | None = None) -> None:
        """Close it; where the client still owed something of a body, the log and a counter say so."""
        if _log_shortfall(connection, what, why):
            core.ledger.count(core.ledger.read_errors)
        if connection.unsent is not None:
            core.ledger.count(core.ledger.write_errors)
        self._close(connection)

    def _refuse(self, connection: Connection, error: HeadError, now: float) -> None:
        """Exactly one answer, then the end: nothing behind a head we could not read is a request."""
        if not error.status:
            log(f"{error}\n")
            self._close(connection)
            return
        said = str(error)
        kind = "" if said[:7].lower() == "invalid" else "invalid HTTP request: "
        log(f"{kind}{said} ({error.status} to {connection.peer})\n")
        body = f"{error.status} {_REASONS[error.status]}\n".encode()
        head = (
            f"HTTP/1.1 {error.status} {_REASONS[error.status]}\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        try:
            connection.send(head.encode() + body)
            connection.linger(now)
        except OSError:  # the client is gone: nothing is owed to it
            self._close(connection)
        else:
            self._park(connection)

    def _tick(self, core: Core, now: float) -> None:
        """Once a second, by whichever thread comes first: close what is overdue, and look at the listeners afresh."""
        if not self._door_lock.acquire(blocking=False):
            return
        try:
            self._next_tick = now + self._pace
            self._requests.see_clock()
            for fd, connection in list(self.parked.items()):
                if connection.deadline < now and (connection.unsent is not None or not self._paused):
                    overdue = self.parked.pop(fd, None)
                    if overdue is not None:
                        self._end(core, overdue, "Timeout")
            self._watch_listeners(wanted=False)
            self._watch_listeners(wanted=self._accepting and not self._paused)
        finally:
            self._door_lock.release()

    def _make_room(self) -> None:
        """Out of descriptors: give up who has waited longest, the idle first, or accept nobody for a while."""
        parked = list(self.parked.values())
        if not parked:
            with self._door_lock:
                self._watch_listeners(wanted=False)  # until the next tick
            return
        least = min(parked, key=lambda connection: (not connection.idle, connection.deadline))
        if self.parked.pop(least.fd, None) is not None:
            self._close(least)

    def _watch_listeners(self, *, wanted: bool) -> None:
        """Called with the door lock held."""
        if wanted is self._watching:
            return
        self._watching = wanted
        for fd in self._listeners:
            if wanted:
                self._epoll.register(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)
            else:
                self._epoll.unregister(fd)

    def _close_doors(self) -> None:
        """Let go of the listeners, so that they end with the master's. Called with the door lock held."""
        self._accepting = False
        self._watch_listeners(wanted=False)
        listeners = list(self._listeners.values())
        self._listeners.clear()
        for listener in listeners:
            listener.socket.close()

    def _apply_pause(self) -> None:
        """Stop or resume accepting and reading; requests being served go on."""
        with self._door_lock:
            paused = self.pause_wanted
            if paused is self._paused:
                return
            self._paused = paused
            self._events = self._one_shot | (0 if paused else _IN)
            self._watch_listeners(wanted=self._accepting and not paused)
            resumed_until = time.monotonic() + self._limits.read_seconds
            for connection in list(self.parked.values()):
                connection.deadline = max(connection.deadline, resumed_until)
                connection.watched = self._events_for(connection)
                with contextlib.suppress(OSError):  # another thread has just closed it
                    self._epoll.modify(connection.fd, connection.watched)
        self._on_pause(paused)


def _log_shortfall(connection: Connection, what: str, why: str | None) -> bool:
    """Say in uWSGI's words that a body did not come to its end; whether that is so."""
    missing = connection.shortfall() if connection.body is not None else ""
    if missing:
        log(f"[uwsgi-body-read] {what} reading {missing}{f' message: {why}' if why else ''}\n")
    return bool(missing)
