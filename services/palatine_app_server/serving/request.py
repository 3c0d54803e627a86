"""One request in a worker: from the variables a connection has read to the app's answer, the counters and the log line.

Whatever an app does ends here: no exception of its climbs into the loop that serves the other clients.
"""

import contextlib
import io
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from palatine.codec.http_head import HeadParser
from palatine.codec.uwsgi_packet import vars_size
from palatine_app_server.log import shared_pipe
from palatine_app_server.log.request_log import RequestLog, RequestLogSettings, Served
from palatine_app_server.serving.clients import ClientGoneError, Limits, Listener
from palatine_app_server.serving.connection import Connection
from palatine_app_server.serving.core import Core, Handler
from palatine_app_server.serving.file_wrapper import FileWrapper
from palatine_app_server.serving.ledger import Ledger
from palatine_app_server.serving.recycling import Recycling
from palatine_app_server.serving.response import Response, http_date
from palatine_app_server.system.last_words import print_exc
from palatine_app_server.system.own_lines import stamp

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Any]

#: What a line says of a request: its variables or some of them, their number, and their bytes in a uwsgi packet.
Asked = tuple[dict[str, Any], int, int]
_ADDRESS_BYTES: Final = len("REMOTE_ADDR") + 4  # two lengths

_HTTPS: Final = frozenset({"on", "1", "true"})
_OVERDUE: Final = b"The request took too long.\n"
_GATEWAY_TIMEOUT: Final = (
    b"HTTP/1.1 504 Gateway Timeout\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
    % (len(_OVERDUE), _OVERDUE)
)


class WorkerSettings(NamedTuple):
    """What a worker needs of the config; times in seconds."""

    worker: int  # 1-based
    threads: int
    limits: Limits
    harakiri_seconds: int
    mercy_seconds: int
    multiprocess: bool
    request_log: RequestLogSettings = RequestLogSettings()
    request_log_fd: int = 2
    catch_exceptions: bool = False  # the client sees the traceback
    hooks_timed: bool = True  # harakiri counts for those, too
    after_request: tuple[Callable[[], Any], ...] = ()  # the app's functions, called when a request has been answered


class Requests:
    """Calls the app; `may_keep` says whether a core's connection may stay open after its response."""

    def __init__(
        self,
        settings: WorkerSettings,
        ledgers: Sequence[Ledger],
        app: WsgiApp | Handler | None,
        *,
        total_requests: Callable[[], int],
        may_keep: Callable[[Core], bool],
        recycling: Recycling | None = None,
    ) -> None:
        self._settings = settings
        self._recycling = recycling
        self._done: Callable[[], None] | None = recycling.request_done if recycling is not None else None
        if settings.after_request:
            self._done = self._run_hooks
        self._handler = app if isinstance(app, Handler) else None
        self._app = None if isinstance(app, Handler) else app
        self._total_requests = total_requests
        self._harakiri_seconds = settings.harakiri_seconds
        self._several = settings.threads > 1
        self._date, self._date_until = "", 0
        self._pid = os.getpid()
        self._logs_requests = settings.request_log.wanted
        self._logs_plainly = settings.request_log.plain and self._handler is None
        self._request_log = RequestLog(settings.request_log, self._write_request_line)
        self._log_fd = settings.request_log_fd
        self._late = shared_pipe.LateLines(self._log_fd)
        self.cores = [Core(number, ledger) for number, ledger in enumerate(ledgers)]
        for core in self.cores:
            core.may_keep = partial(may_keep, core)
            if self._handler is not None:
                core.ledger.choose_apps()
        self._wsgi_base: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": settings.threads > 1,
            "wsgi.multiprocess": settings.multiprocess,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            "wsgi.input_terminated": True,  # by it Werkzeug knows that the body of a chunked request is all there
            "uwsgi.version": b"2.0.31",
            "uwsgi.node": socket.gethostname().encode(),
            "wsgi.url_scheme": "http",
            "wsgi.input": None,  # each request has its own
        }
        self._variables_added = len(self._wsgi_base) + 1  # to those the parser knows: REMOTE_ADDR is the connection's
        self.see_clock()

    def see_clock(self) -> None:
        """Look at the clock on the wall; between two looks, a second or so, the monotonic clock counts."""
        self._unix_offset = time.time() - time.monotonic()
        self._date_until = 0

    def _format_date(self, now: int) -> None:
        """Once a second: it would cost a tenth of a request. Two threads may do it at once: harmless."""
        self._date = http_date(now)
        self._date_until = (now + 1) * 1_000_000

    def heads(self, listener: Listener) -> HeadParser:
        """The parser of the heads that come by `listener`.

        What it parses is all an app gets to see, made in one piece. Where what the client sent is needed by itself, for
        the request log and the stats, `answer` adds the rest.
        """
        shown = self.cores[0].ledger.shows_variables or (self._logs_requests and not self._logs_plainly)
        if shown or listener.protocol == "uwsgi":
            return HeadParser(listener.variables)
        return HeadParser(self._wsgi_base | listener.variables)

    def answer(self, core: Core, connection: Connection, now: float) -> bool:  # noqa: C901 - a call is a hundredth of it
        """Call the app and send what it says; whether the connection lives on. The request was complete at `now`."""
        assert connection.head is not None
        _, keep_alive, _, http11, _ = connection.head
        framed, ledger, seconds = connection.framed, core.ledger, self._harakiri_seconds
        environ = connection.environ
        if "wsgi.version" not in environ:
            environ = environ | self._wsgi_base
            environ.setdefault("SCRIPT_NAME", "")  # nginx does not send one, and the request line counts what it sends
        get = environ.get
        started_us = int((now + self._unix_offset) * 1_000_000)
        method = environ["REQUEST_METHOD"]
        if started_us >= self._date_until:
            self._format_date(started_us // 1_000_000)
        may_keep, date, head_only = core.may_keep, self._date, framed and method == "HEAD"
        if self._handler is None:
            response = Response(connection, may_keep, date, framed, http11, keep_alive, head_only)
        else:
            response = self._handler.respond(connection, may_keep, date, framed, http11, keep_alive, head_only)
        core.enter(now, connection, response)
        if ledger.shows_variables:
            ledger.show(connection.environ)
        ledger.begin(
            started_us,
            int((now - core.rested) * 1_000_000),
            f"{method}\0{get('REQUEST_URI', '')}\0{get('HTTP_HOST', '')}\0{get('REMOTE_ADDR', '')}",
        )
        if seconds:
            ledger.arm(int((now + seconds) * 1000))
        if "HTTPS" in environ or "UWSGI_SCHEME" in environ:
            environ["wsgi.url_scheme"] = _scheme(environ)
        asked = self._asked(connection, environ) if self._logs_plainly and framed else None
        environ["wsgi.input"] = connection.body or io.BytesIO()
        if self._several:
            environ["uwsgi.core"] = core.id
        alive = self._call_app(core, environ, response) and response.keep_alive
        ended = core.ended = core.rested = time.monotonic()
        micros = int((ended - now) * 1_000_000)
        core.connection = core.response = None
        ledger.end(micros, response.body_bytes + response.header_bytes, connection.write_wait)
        if self._logs_requests or core.notes is not None:
            self._log(core, asked, connection.environ, response, started_us, micros)
        if alive:
            connection.finish(ended)
        if self._done is not None:
            self._done()
        return alive

    def _run_hooks(self) -> None:
        thread, seconds = threading.get_ident(), self._harakiri_seconds if self._settings.hooks_timed else 0
        timed = [core for core in self.cores if core.thread == thread] if seconds else []
        for core in timed:
            core.ledger.arm(int((core.started + seconds) * 1000))  # they are part of their request's time
        for hook in self._settings.after_request:
            try:
                hook()
            except BaseException:  # noqa: BLE001 - the app's, as its requests are
                _print_exception()
        for core in timed:
            core.ledger.arm(0)
        if self._recycling is not None:
            self._recycling.request_done()

    def refuse_overdue(self) -> None:
        """Harakiri: tell the clients of overdue requests that no answer will come. Runs in a signal handler."""
        now_ms = time.monotonic_ns() // 1_000_000
        for core in self.cores:
            connection, response = core.connection, core.response
            if connection is None or response is None or response.head_sent or not core.ledger.overdue(now_ms):
                continue
            response.abandon()
            try:
                connection.interject(_GATEWAY_TIMEOUT)
            except OSError:
                continue  # the client did not wait

    def _call_app(self, core: Core, environ: dict[str, Any], response: Response) -> bool:
        """Run the app; False when the connection must end."""
        if self._app is None and self._handler is None:
            log("--- no python application found, check your startup logs for errors ---\n")
            response.keep_alive = False
            return self._send_error(core, response)
        result = None
        try:
            if self._handler is None:
                result = self._app(environ, response.start_response)  # type: ignore[misc]  # see above
            else:
                result = self._handler.handle(core, environ, response)
            if result.__class__ is bytes:
                result = [result]  # uWSGI takes a whole body for a list of one
            response.send_result(result)
        except ClientGoneError:
            core.ledger.count(core.ledger.write_errors)
            core.note().write_errors += 1
            return False
        except BaseException as error:  # noqa: BLE001 - whatever an app raises is its client's 500, nobody else's business
            _print_exception()
            core.ledger.count_exception()
            if self._recycling is not None:
                self._recycling.app_raised(error)
            return not response.head_sent and self._send_error(core, response, self._shown(error))
        finally:
            close = None if type(result) is list else getattr(result, "close", None)  # a list has none
            if close is not None:
                if isinstance(result, FileWrapper) and result.sent:
                    core.note().via = "sendfile"
                self._close_result(core, close)
        return True

    @staticmethod
    def _close_result(core: Core, close: Callable[[], Any]) -> None:
        try:
            close()
        except BaseException:  # noqa: BLE001 - likewise; the response is complete
            _print_exception()
            core.ledger.count_exception()

    def _shown(self, error: BaseException) -> str:
        if self._settings.catch_exceptions:
            from traceback import format_exception  # where it is used, or it would cost every process 300 KB

            return "".join(format_exception(error))
        return "Internal Server Error"

    @staticmethod
    def _send_error(core: Core, response: Response, text: str = "Internal Server Error") -> bool:
        try:
            response.send_plain("500 Internal Server Error", text)
        except ClientGoneError:
            core.ledger.count(core.ledger.write_errors)
            return False
        return True

    def _asked(self, connection: Connection, environ: dict[str, Any]) -> Asked:
        """What the default line says of a request, taken before the app has it. Known header lines were counted."""
        assert connection.head is not None
        count, size = connection.head.variables
        if count + self._variables_added != len(environ):
            return _texts(environ)
        peer, method, uri = environ["REMOTE_ADDR"], environ["REQUEST_METHOD"], environ["REQUEST_URI"]
        said = {
            "REMOTE_ADDR": peer,
            "REQUEST_METHOD": method,
            "REQUEST_URI": uri,
            "SERVER_PROTOCOL": environ["SERVER_PROTOCOL"],
        }
        size += _ADDRESS_BYTES + len(peer)
        size += len(method) + len(uri) + len(environ["PATH_INFO"]) + len(environ["QUERY_STRING"])
        return said, count + 1, size

    def _log(
        self,
        core: Core,
        asked: Asked | None,
        environ: dict[str, Any],
        response: Response,
        started_us: int,
        micros: int,
    ) -> None:
        try:
            self._consider(core, asked or _texts(environ), response, started_us, micros)
        except Exception:  # noqa: BLE001 - what an app or a final route left there costs its line, not the worker
            _print_exception()

    def _consider(self, core: Core, asked: Asked, response: Response, started_us: int, micros: int) -> None:
        notes = core.notes
        if notes is not None and notes.at_end is not None:
            notes.at_end()
        nobody = self._app is None and self._handler is None
        environ, count, size = asked
        app = -1 if nobody else 0 if notes is None else notes.app
        if app < 0:
            requests = -1
        elif self._several:
            requests = sum([each.ledger.app_requests(app) for each in self.cores])
        else:
            requests = core.ledger.app_requests(app)
        self._request_log.consider(
            Served(  # by position: keywords would cost a third of the line
                self._pid, self._settings.worker, core.id, app, requests, self._total_requests(),
                environ, count, size, started_us, micros, response.body_bytes, response.status,
                response.header_count, response.header_bytes, response.switches, notes,
            )
        )  # fmt: skip

    def _write_request_line(self, line: str) -> None:
        data = line.encode("latin-1", "replace") + b"\n"
        try:
            written = os.write(self._log_fd, data)
        except BlockingIOError:
            written = 0
        except OSError:
            return  # a log that is full or gone costs no client its answer
        if written < len(data):
            self._write_late(data[written:])

    def _write_late(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # likewise
            self._late.write(data)


def _texts(environ: dict[str, Any]) -> Asked:
    """All a client has sent, and what it takes; an app may have put anything there."""
    if "wsgi.version" in environ:
        environ = {key: value for key, value in environ.items() if isinstance(value, str) and "." not in key}
    return environ, len(environ), vars_size(environ)


def _scheme(environ: dict[str, Any]) -> str:
    """What a front end or a route says; else as uWSGI does."""
    said: str = environ.get("UWSGI_SCHEME", "")
    return said or ("https" if environ.get("HTTPS", "").lower() in _HTTPS else "http")


def log(line: str) -> None:
    """Write one line. A log that is full or gone costs no client its answer."""
    with contextlib.suppress(OSError):
        os.write(2, f"{stamp()}{line}".encode("latin-1", "replace"))


def _print_exception() -> None:
    with contextlib.suppress(OSError, ValueError):  # likewise
        print_exc()
