"""A worker: an epoll loop shared by its threads that accepts, reads, has requests answered and parks. It knows no bus.

The kernel's listen queue stays the queue: a thread accepts only when it can serve at once, so `listen_queue` means what
operators think it means. Idle keep-alive and slow clients are parked in epoll and hold no thread.

Threads share one epoll set. A connection is armed one-shot, so exactly one thread gets it; a thread takes one event per
wait (`maxevents` 1), because an event fetched but not served is a client waiting behind somebody else's request. The
listeners are exclusive (EPOLLEXCLUSIVE): a worker that is woken always accepts, and re-adds them once a second so that
the connection a killed sibling was woken for is not stranded.

A draining worker closes its listeners at once and serves to the end whoever it has accepted. Connections between two
requests are closed, unless they were answered just now: their clients were not told, and may be asking already.
"""

import atexit
import contextlib
import errno
import faulthandler
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Final, NamedTuple

from palatine import exits
from palatine.codec.http_head import HeadError
from palatine_app_server.connection import Connection, Listener, Next
from palatine_app_server.last_words import print_exc
from palatine_app_server.ledger import Ledger
from palatine_app_server.recycle_policy import RecycleSettings
from palatine_app_server.recycling import Recycling
from palatine_app_server.request import Core, Handler, Requests, WorkerSettings, WsgiApp, log

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
#: The signal by which the master tells a worker that a request of its has passed its deadline.
HARAKIRI_SIGNAL: Final = signal.SIGUSR2
#: The signal by which the kernel tells a worker that its master is gone (PR_SET_PDEATHSIG): a worker in a long request
#: does not look at its lifeline.
ORPHAN_SIGNAL: Final = signal.SIGPWR
#: The last resort of a mercy of zero seconds.
LEAST_MERCY_SECONDS: Final = 0.1

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
_SERVE, _CLOSE, _PING = Next.SERVE, Next.CLOSE, Next.PING


class Doors(NamedTuple):
    """The descriptors a worker inherits: where requests come from and how it hears of its master."""

    listeners: Sequence[Listener]
    lifeline: int  # readable (end of file) when the master is gone
    signals: Sequence[int]  # sockets on which uWSGI signals arrive, one byte each


class Worker:
    """Serve until told to stop; `run` returns the exit code.

    `pause_wanted` says what the master wants, whenever it signals; `on_pause` hears what has come into force.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        doors: Doors,
        ledgers: Sequence[Ledger],
        app: WsgiApp | Handler | None,
        *,
        on_signal: Callable[[int], None],
        total_requests: Callable[[], int],
        on_exit: Callable[[], None] = lambda: None,
        pause_wanted: Callable[[], bool] = lambda: False,
        on_pause: Callable[[bool], None] = lambda _paused: None,
        recycle: RecycleSettings | None = None,
        on_leaving: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._settings = settings
        self._doors = doors
        self._on_signal = on_signal
        self._on_exit = on_exit
        self._read_pause = pause_wanted
        self._on_pause = on_pause
        self._listeners = {listener.fd: listener for listener in doors.listeners}
        self._secure = Connection
        if any(listener.tls is not None for listener in doors.listeners):
            from palatine_app_server.tls_connection import TlsConnection  # where nobody asks, no ssl in memory

            self._secure = TlsConnection
        self._one_shot = select.EPOLLONESHOT if settings.threads > 1 else 0
        self._events = _IN | self._one_shot  # what parked connections wait for
        self._parked: dict[int, Connection] = {}
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC | os.EFD_SEMAPHORE)
        self._draining = False
        self._accepting = True
        self._watching = False
        self._orphan = False
        self._paused = False
        self._pause_wanted = pause_wanted()
        self._pace = TICK_SECONDS
        self._next_tick = 0.0
        self._door_lock = threading.Lock()
        self._on_leaving = on_leaving
        recycling = None
        if recycle is not None and (recycle.watches_requests or recycle.watches_exceptions):
            before = sum(ledger.finished for ledger in ledgers)
            recycling = Recycling(recycle, lambda: sum(ledger.finished for ledger in ledgers) - before, self._go)
        self._requests = Requests(
            settings, ledgers, app, total_requests=total_requests, may_keep=self._may_keep, recycling=recycling
        )
        self._heads = {listener.fd: self._requests.heads(listener) for listener in doors.listeners}

    @property
    def cores(self) -> Sequence[Core]:
        """One for each thread."""
        return self._requests.cores

    def run(self) -> int:
        """Serve with all threads until drained; called in the main thread, after `install_signals`."""
        for fd in (self._wake, self._doors.lifeline, *self._doors.signals):
            self._epoll.register(fd, select.EPOLLIN)
        with self._door_lock:
            self._watch_listeners(wanted=True)
        self._apply_pause()
        cores = self._requests.cores
        threads = [
            threading.Thread(target=self._serve_in_thread, args=(core,), name=self._thread_name(core))
            for core in cores[1:]
        ]
        for thread in threads:
            thread.daemon = True
            thread.start()
        self._serve(cores[0])
        for thread in threads:
            thread.join()
        return exits.OK

    def drain(self) -> None:
        """Accept nothing more, finish what is being served, then return from `run`. Safe in a signal handler."""
        self._draining = True
        self._pace, self._next_tick = DRAINING_TICK_SECONDS, 0.0
        self._pause_wanted = False
        os.eventfd_write(self._wake, self._settings.threads)
        if self._door_lock.acquire(blocking=False):  # else whoever has it, or `_retire`
            try:
                self._close_doors()
            finally:
                self._door_lock.release()

    def _go(self, reason: str) -> None:
        """This worker has served long enough: the master hears of it first, since it counts the mercy."""
        self._on_leaving(reason)
        log(f"...The work of process {os.getpid()} is done. Seeya!\n")
        self.drain()

    def look(self) -> None:
        """The master may want a pause, or no longer. Safe in a signal handler.

        What it wants is read and not signalled: of two signals Python runs the one with the lower number first.
        """
        self._pause_wanted = self._read_pause() and not self._draining
        os.eventfd_write(self._wake, 1)

    # ------------------------------------------------------------------ the loop

    def _serve_in_thread(self, core: Core) -> None:
        try:
            self._serve(core)
        except BaseException:  # noqa: BLE001 - a fault of ours: better another worker than one with a thread less
            print_exc()
            leave(exits.FAILURE, self._on_exit)

    def _serve(self, core: Core) -> None:
        core.thread = threading.get_ident()
        while not self._draining:
            self._turn(core)
        self._retire(core)

    def _turn(self, core: Core) -> None:
        """Wait for one thing and do it."""
        if self._pause_wanted is not self._paused:
            self._apply_pause()
        events = self._epoll.poll(self._pace, 1)
        now = time.monotonic()
        if now >= self._next_tick:
            self._tick(now)
        if not events:
            core.rest(now)
        for fd, _mask in events:
            connection = self._parked.pop(fd, None)
            if connection is not None:
                self._attend(core, connection, now)
                continue
            listener = self._listeners.get(fd)
            if listener is not None:
                self._accept(core, listener, now)
            else:
                self._hear(fd)

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
        make = Connection if listener.tls is None else self._secure
        self._attend(core, make(fd, peer, listener, self._settings.limits, now, heads), now)

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
        except HeadError as error:
            self._refuse(connection, error, now)
            return
        except OSError:
            core.ledger.count(core.ledger.read_errors)
            step = _CLOSE
        if step is _CLOSE:
            self._close(connection)
        else:
            self._park(connection)

    def _park(self, connection: Connection) -> None:
        if self._draining and connection.idle and self._dismissed(connection):
            return
        simple = connection.unsent is None and not connection.pipelined
        events = self._events if simple else self._events_for(connection)
        fd, watched = connection.fd, connection.watched
        connection.watched = events
        self._parked[fd] = connection  # before arming: another thread may get the event at once
        try:
            if watched < 0:
                self._epoll.register(fd, events)
            elif watched != events or self._one_shot:
                self._epoll.modify(fd, events)
        except OSError:
            if self._parked.get(fd) is connection:
                raise  # else a thread that retires or tidies up has taken it meanwhile, and ended it

    def _dismissed(self, connection: Connection) -> bool:
        """Close it, or let it live until its last call, which is set once: every thread that retires comes by here."""
        now = time.monotonic()
        if connection.deadline > now + LAST_CALL_SECONDS:
            connection.deadline -= self._settings.limits.idle_seconds - LAST_CALL_SECONDS
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

    def _refuse(self, connection: Connection, error: HeadError, now: float) -> None:
        """Exactly one answer, then the end: nothing behind a head we could not read is a request."""
        if not error.status:
            log(f"{error}\n")
            self._close(connection)
            return
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

    def _hear(self, fd: int) -> None:
        """A word from our own signal handlers, the lifeline or a uWSGI signal."""
        if fd == self._wake:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(fd)
        elif fd == self._doors.lifeline:
            self._orphaned()
        elif fd in self._doors.signals:
            try:
                data = os.read(fd, 1)
            except BlockingIOError:
                return  # another worker took it
            if data:
                self._on_signal(data[0])

    def _tick(self, now: float) -> None:
        """Once a second, by whichever thread comes first: close what is overdue, and look at the listeners afresh."""
        if not self._door_lock.acquire(blocking=False):
            return
        try:
            self._next_tick = now + self._pace
            self._requests.see_clock()
            for fd, connection in list(self._parked.items()):
                if connection.deadline < now and (connection.unsent is not None or not self._paused):
                    overdue = self._parked.pop(fd, None)
                    if overdue is not None:
                        self._close(overdue)
            self._watch_listeners(wanted=False)
            self._watch_listeners(wanted=self._accepting and not self._paused)
        finally:
            self._door_lock.release()

    def _make_room(self) -> None:
        """Out of descriptors: give up who has waited longest, the idle first, or accept nobody for a while."""
        parked = list(self._parked.values())
        if not parked:
            with self._door_lock:
                self._watch_listeners(wanted=False)  # until the next tick
            return
        least = min(parked, key=lambda connection: (not connection.idle, connection.deadline))
        if self._parked.pop(least.fd, None) is not None:
            self._close(least)

    # ------------------------------------------------------------------ doors

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
            paused = self._pause_wanted
            if paused is self._paused:
                return
            self._paused = paused
            self._events = self._one_shot | (0 if paused else _IN)
            self._watch_listeners(wanted=self._accepting and not paused)
            resumed_until = time.monotonic() + self._settings.limits.read_seconds
            for connection in list(self._parked.values()):
                connection.deadline = max(connection.deadline, resumed_until)
                connection.watched = self._events_for(connection)
                with contextlib.suppress(OSError):  # another thread has just closed it
                    self._epoll.modify(connection.fd, connection.watched)
        self._on_pause(paused)

    def _retire(self, core: Core) -> None:
        """A draining thread: close the doors, dismiss the idle, and serve the others to their end."""
        with self._door_lock:
            self._close_doors()
        for fd in list(self._parked):
            connection = self._parked.pop(fd, None)
            if connection is not None:
                self._attend(core, connection, time.monotonic())  # it may have asked just now
        while self._parked:
            self._turn(core)

    def _may_keep(self, core: Core) -> bool:
        """Whether a connection may stay: not while draining, nor where it would wait for a thread for long."""
        if self._draining:
            return False
        if len(self._parked) < self._settings.threads or core.waited > SATURATED_SECONDS:
            return True
        return core.ledger.average_us <= WORTH_RECONNECTING_US

    def _thread_name(self, core: Core) -> str:
        return f"uWSGIWorker{self._settings.worker}Core{core.id}"

    # ------------------------------------------------------------------ signals

    def install_signals(self) -> None:
        """In the main thread, before the master hears that this worker accepts: from then on it may send them."""
        signal.signal(signal.SIGHUP, lambda _number, _frame: self.drain())
        signal.signal(ORPHAN_SIGNAL, lambda _number, _frame: self._orphaned())
        signal.signal(signal.SIGTSTP, lambda _number, _frame: self.look())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, self._leave_now)
        signal.signal(HARAKIRI_SIGNAL, self._harakiri)
        # the C-level half runs at once, also when no thread ever lets go of the GIL: it shows where the request hangs
        faulthandler.register(HARAKIRI_SIGNAL, file=2, all_threads=True, chain=True)
        for number in (signal.SIGUSR1, signal.SIGALRM, signal.SIGTTIN, signal.SIGTTOU):
            signal.signal(number, signal.SIG_IGN)

    def _orphaned(self) -> None:
        """The master is gone: finish within the mercy it would have had, also where the GIL is never let go."""
        if self._orphan:
            return
        self._orphan = True
        with contextlib.suppress(OSError):  # another thread was first; readable for ever, it would keep us awake
            self._epoll.unregister(self._doors.lifeline)
        mercy = max(float(self._settings.mercy_seconds), LEAST_MERCY_SECONDS)
        faulthandler.dump_traceback_later(mercy, exit=True, file=2)
        self.drain()

    def _leave_now(self, _number: int, _frame: FrameType | None) -> None:
        leave(exits.OK, self._on_exit)

    def _harakiri(self, _number: int, _frame: FrameType | None) -> None:
        """Tell the clients of overdue requests before the master kills this worker; threads in time go on meanwhile."""
        self.drain()
        self._requests.refuse_overdue()


def leave(code: int, on_exit: Callable[[], None]) -> None:
    """End this process now: the app's exit handlers run, its threads are not waited for."""
    try:
        on_exit()
        atexit._run_exitfuncs()  # noqa: SLF001 - os._exit would skip them, sys.exit would wait for the app's threads
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
