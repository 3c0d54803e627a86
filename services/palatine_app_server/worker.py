"""A worker: an epoll loop shared by its threads that accepts, reads, calls the app and answers. It knows no bus.

The kernel's listen queue stays the queue: a thread accepts only when it can serve at once, so `listen_queue` means what
operators think it means. Idle keep-alive and slow clients are parked in epoll and hold no thread.

Threads share one epoll set. A connection is armed one-shot, so exactly one thread gets it; a thread takes one event per
wait (`maxevents` 1), because an event fetched but not served is a client waiting behind somebody else's request. The
listeners are exclusive (EPOLLEXCLUSIVE): a worker that is woken always accepts, and re-adds them once a second so that
the connection a killed sibling was woken for is not stranded.
"""

import atexit
import faulthandler
import io
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Any, Final, NamedTuple

from palatine.codec.http_head import HeadError
from palatine.codec.uwsgi_packet import vars_size
from palatine_app_server import request_log
from palatine_app_server.connection import Connection, Limits, Listener, Next
from palatine_app_server.ledger import Ledger
from palatine_app_server.response import DateHeader, FileWrapper, Response, ResponseError

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Any]

TICK_SECONDS: Final = 1.0
#: A keep-alive connection that would wait longer than this behind others is ended politely, so that its client
#: comes back to a worker that has a free thread.
WORTH_RECONNECTING_US: Final = 20_000
#: The signal by which the master tells a worker that a request of its has passed its deadline.
HARAKIRI_SIGNAL: Final = signal.SIGUSR2

_REASONS: Final = {
    400: "Bad Request",
    413: "Content Too Large",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}
_IN = select.EPOLLIN | select.EPOLLRDHUP


class WorkerSettings(NamedTuple):
    """What a worker needs of the config."""

    worker: int  # 1-based
    threads: int
    limits: Limits
    harakiri_seconds: int
    log_requests: bool
    multiprocess: bool


class Doors(NamedTuple):
    """The descriptors a worker inherits: where requests come from and how it hears of its master."""

    listeners: Sequence[Listener]
    lifeline: int  # readable (end of file) when the master is gone
    signals: Sequence[int]  # sockets on which uWSGI signals arrive, one byte each


class Core:
    """One thread's share of a worker: its ledger and the request it is in."""

    __slots__ = ("connection", "id", "ledger", "may_keep", "response", "started_ns")

    def __init__(self, number: int, ledger: Ledger) -> None:
        self.id = number
        self.ledger = ledger
        self.connection: Connection | None = None
        self.response: Response | None = None
        self.started_ns = 0
        self.may_keep: Callable[[], bool] = bool


class Worker:
    """Serve until told to stop; `run` returns the exit code."""

    def __init__(
        self,
        settings: WorkerSettings,
        doors: Doors,
        ledgers: Sequence[Ledger],
        app: WsgiApp | None,
        *,
        on_signal: Callable[[int], None],
        total_requests: Callable[[], int],
        on_exit: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._doors = doors
        self._app = app
        self._on_signal = on_signal
        self._on_exit = on_exit
        self._total_requests = total_requests
        self._listeners = {listener.fd: listener for listener in doors.listeners}
        self._one_shot = select.EPOLLONESHOT if settings.threads > 1 else 0
        self._parked: dict[int, Connection] = {}
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._draining = False
        self._accepting = True
        self._next_tick = 0.0
        self._tick_lock = threading.Lock()
        self._date = DateHeader()
        self._pid = os.getpid()
        self.cores = [Core(number, ledger) for number, ledger in enumerate(ledgers)]
        for core in self.cores:
            core.may_keep = partial(self._may_keep, core)
        self.current = threading.local()
        self._wsgi_base: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": settings.threads > 1,
            "wsgi.multiprocess": settings.multiprocess,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            "uwsgi.version": b"2.0.31",
            "uwsgi.node": socket.gethostname().encode(),
        }

    def run(self) -> int:
        """Serve with all threads until drained; called in the main thread."""
        self._install_signals()
        for fd in (self._wake, self._doors.lifeline, *self._doors.signals):
            self._epoll.register(fd, select.EPOLLIN)
        self._watch_listeners()
        threads = [
            threading.Thread(target=self._serve, args=(core,), name=f"uWSGIWorker{self._settings.worker}Core{core.id}")
            for core in self.cores[1:]
        ]
        for thread in threads:
            thread.daemon = True
            thread.start()
        self._serve(self.cores[0])
        for thread in threads:
            thread.join()
        return 0

    def drain(self) -> None:
        """Accept nothing more, finish what is being served, then return from `run`. Safe in a signal handler."""
        self._draining = True
        os.eventfd_write(self._wake, 1)

    # ------------------------------------------------------------------ the loop

    def _serve(self, core: Core) -> None:
        self.current.core = core
        poll, parked, listeners = self._epoll.poll, self._parked, self._listeners
        while not self._draining:
            events = poll(TICK_SECONDS, 1)
            now = time.monotonic()
            if now >= self._next_tick:
                self._tick(now)
            for fd, _mask in events:
                listener = listeners.get(fd)
                if listener is not None:
                    self._accept(core, listener, now)
                    continue
                connection = parked.pop(fd, None)
                if connection is not None:
                    self._attend(core, connection, now)
                elif fd != self._wake:
                    self._hear(fd)
        self._retire(core)

    def _accept(self, core: Core, listener: Listener, now: float) -> None:
        try:
            # _accept: a bare descriptor saves a socket object and a system call a connection
            fd, address = listener.socket._accept()  # type: ignore[attr-defined]  # noqa: SLF001
        except BlockingIOError:
            return
        except OSError:  # ECONNABORTED, EMFILE: the next connection may fare better
            return
        os.set_blocking(fd, False)
        peer = address[0] if address else ""
        self._attend(core, Connection(fd, peer, listener, self._settings.limits, now), now)

    def _attend(self, core: Core, connection: Connection, now: float) -> None:
        """Read from a connection and serve every request that is complete; then park or close it."""
        try:
            step = connection.receive(now)
            while step is Next.SERVE:
                if not self._answer(core, connection):
                    connection.close()
                    return
                step = connection.advance() if connection.has_more else Next.WAIT
        except HeadError as error:
            self._refuse(connection, error)
            return
        except OSError:
            core.ledger.count(core.ledger.read_errors)
            connection.close()
            return
        if step is Next.CLOSE:
            connection.close()
        else:
            self._park(connection)

    def _park(self, connection: Connection) -> None:
        if self._draining:
            connection.close()
            return
        fd = connection.fd
        self._parked[fd] = connection  # before arming: another thread may get the event at once
        if not connection.registered:
            connection.registered = True
            self._epoll.register(fd, _IN | self._one_shot)
        elif self._one_shot:
            self._epoll.modify(fd, _IN | self._one_shot)

    def _refuse(self, connection: Connection, error: HeadError) -> None:
        """Exactly one answer, then the end: nothing behind a head we could not read is a request."""
        if error.status:
            body = f"{error.status} {_REASONS[error.status]}\n".encode()
            head = (
                f"HTTP/1.1 {error.status} {_REASONS[error.status]}\r\nContent-Type: text/plain\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            try:
                connection.send(head.encode() + body)
                end = socket.socket(fileno=os.dup(connection.fd))
                end.shutdown(socket.SHUT_WR)
                end.close()
            except OSError:
                pass  # the client is gone: nothing is owed to it
        else:
            sys.stderr.write(f"{error}\n")
        connection.close()

    def _hear(self, fd: int) -> None:
        """The lifeline or a uWSGI signal."""
        if fd == self._doors.lifeline:
            self.drain()
        elif fd in self._doors.signals:
            try:
                data = os.read(fd, 1)
            except BlockingIOError:
                return  # another worker took it
            if data:
                self._on_signal(data[0])

    def _tick(self, now: float) -> None:
        """Once a second, by whichever thread comes first: close what is overdue, and look at the listeners afresh."""
        if not self._tick_lock.acquire(blocking=False):
            return
        try:
            self._next_tick = now + TICK_SECONDS
            for fd in [fd for fd, connection in list(self._parked.items()) if connection.deadline < now]:
                overdue = self._parked.pop(fd, None)
                if overdue is not None:
                    overdue.close()
            if self._accepting:
                self._unwatch_listeners()
                self._watch_listeners()
        finally:
            self._tick_lock.release()

    def _watch_listeners(self) -> None:
        for fd in self._listeners:
            self._epoll.register(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def _unwatch_listeners(self) -> None:
        for fd in self._listeners:
            self._epoll.unregister(fd)

    def _retire(self, core: Core) -> None:
        """The last acts of a draining thread: close the doors, serve who has just asked, close the idle."""
        with self._tick_lock:
            if self._accepting:
                self._accepting = False
                self._unwatch_listeners()
        while self._parked:
            try:
                _, connection = self._parked.popitem()
            except KeyError:  # another thread took the last one
                return
            self._attend(core, connection, time.monotonic())

    # ------------------------------------------------------------------ one request

    def _answer(self, core: Core, connection: Connection) -> bool:
        """Call the app and send what it says; whether the connection lives on."""
        head, ledger, settings = connection.head, core.ledger, self._settings
        assert head is not None
        environ: dict[str, Any] = dict(connection.environ)
        started_ns = core.started_ns = time.monotonic_ns()
        unix_us = time.time_ns() // 1000
        framed = connection.listener.protocol != "uwsgi"
        response = Response(
            connection,
            framed=framed,
            http11=head.http11,
            keep_alive=head.keep_alive,
            may_keep=core.may_keep,
            head_only=framed and environ["REQUEST_METHOD"] == "HEAD",
            date=self._date.at(unix_us // 1_000_000),
        )
        core.connection, core.response = connection, response
        ledger.begin(
            unix_us,
            f"{environ['REQUEST_METHOD']}\0{environ.get('REQUEST_URI', '')}\0{environ.get('HTTP_HOST', '')}\0"
            f"{environ.get('REMOTE_ADDR', '')}".encode("latin-1"),
        )
        if settings.harakiri_seconds:
            ledger.arm(started_ns // 1_000_000 + settings.harakiri_seconds * 1000)
        environ.update(self._wsgi_base)
        environ["wsgi.url_scheme"] = "https" if environ.get("HTTPS", "").lower() in {"on", "1", "true"} else "http"
        environ["wsgi.input"] = connection.body if connection.body is not None else io.BytesIO()
        if settings.threads > 1:
            environ["uwsgi.core"] = core.id
        alive = self._call_app(core, environ, response)
        micros = (time.monotonic_ns() - started_ns) // 1000
        core.connection = core.response = None
        if settings.harakiri_seconds:
            ledger.arm(0)
        ledger.end(micros, response.body_bytes + response.header_bytes)
        if settings.log_requests:
            self._log(core, connection.environ, response, unix_us // 1_000_000, micros)
        alive = alive and response.keep_alive
        if alive:
            connection.finish(time.monotonic())
        return alive

    def _call_app(self, core: Core, environ: dict[str, Any], response: Response) -> bool:
        """Run the app; False when the connection must end."""
        if self._app is None:
            sys.stderr.write("--- no python application found, check your startup logs for errors ---\n")
            response.keep_alive = False
            return self._send_plain(core, response, "500 Internal Server Error", "Internal Server Error")
        result = None
        try:
            result = self._app(environ, response.start_response)
            response.send_result(result)
        except (BrokenPipeError, ConnectionResetError, TimeoutError) as error:
            if not response.head_sent or isinstance(error, TimeoutError):
                traceback.print_exc()
            core.ledger.count(core.ledger.write_errors)
            return False
        except Exception:  # noqa: BLE001 - whatever an app raises is its client's 500 and nobody else's business
            traceback.print_exc()
            core.ledger.count_exception()
            if response.head_sent:
                return False
            return self._send_plain(core, response, "500 Internal Server Error", "Internal Server Error")
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        return True

    def _send_plain(self, core: Core, response: Response, status: str, text: str) -> bool:
        try:
            response.send_plain(status, text)
        except (OSError, ResponseError):
            core.ledger.count(core.ledger.write_errors)
            return False
        return True

    def _may_keep(self, core: Core) -> bool:
        """Whether a connection may stay: not while draining, nor where it would wait for a thread for long."""
        if self._draining:
            return False
        excess = len(self._parked) + 1 - self._settings.threads
        return excess <= 0 or excess * core.ledger.average_us <= WORTH_RECONNECTING_US

    def _log(self, core: Core, environ: dict[str, str], response: Response, started: int, micros: int) -> None:
        served = request_log.Served(
            pid=self._pid,
            app=0 if self._app is not None else -1,
            app_requests=sum(each.ledger.app_requests for each in self.cores) if self._app is not None else -1,
            total_requests=self._total_requests(),
            environ_items=len(environ),
            environ_bytes=vars_size(environ),
            started=started,
            micros=micros,
            body_bytes=response.body_bytes,
            status=response.status,
            header_count=response.header_count,
            header_bytes=response.header_bytes,
            switches=response.switches,
            core=core.id,
        )
        os.write(2, request_log.line(served, environ).encode("latin-1", "replace"))

    # ------------------------------------------------------------------ signals

    def _install_signals(self) -> None:
        signal.signal(signal.SIGHUP, lambda _number, _frame: self.drain())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, self._leave_now)
        signal.signal(HARAKIRI_SIGNAL, self._harakiri)
        # the C-level half runs at once, also when no thread ever lets go of the GIL: it shows where the request hangs
        faulthandler.register(HARAKIRI_SIGNAL, file=2, all_threads=True, chain=True)
        for number in (signal.SIGUSR1, signal.SIGALRM, signal.SIGTTIN, signal.SIGTTOU):
            signal.signal(number, signal.SIG_IGN)

    def _leave_now(self, _number: int, _frame: FrameType | None) -> None:
        leave(0, self._on_exit)

    def _harakiri(self, _number: int, _frame: FrameType | None) -> None:
        """Tell the clients of overdue requests before the master kills this worker; threads in time go on meanwhile."""
        self._draining = True
        os.eventfd_write(self._wake, 1)
        now_ms = time.monotonic_ns() // 1_000_000
        for core in self.cores:
            connection, response = core.connection, core.response
            if connection is None or response is None or response.head_sent or not core.ledger.overdue(now_ms):
                continue
            response.abandon()
            text = b"The request took too long.\n"
            head = f"HTTP/1.1 504 Gateway Timeout\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n"
            try:
                os.write(connection.fd, head.encode() + b"Connection: close\r\n\r\n" + text)
            except OSError:
                continue  # the client did not wait


def leave(code: int, on_exit: Callable[[], None]) -> None:
    """End this process now: the app's exit handlers run, its threads are not waited for."""
    try:
        on_exit()
        atexit._run_exitfuncs()  # noqa: SLF001 - os._exit would skip them, sys.exit would wait for the app's threads
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
