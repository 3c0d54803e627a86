"""The request log of a worker: which requests get a line, and uWSGI's default line byte for byte. It never waits long.

A line is built from what the request left behind and handed to `write`; nothing here decides where it ends up.
"""

import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple

#: uWSGI's buffer: a longer line loses what the client sent and keeps its figures.
MOST_CHARACTERS: Final = 4096
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
#: uWSGI's default line. By % and no f-string: of twenty fields that makes one string and not twenty-one.
_LINE: Final = (
    "[pid: %d|app: %d|req: %d/%d] %s (%s) {%d vars in %d bytes} [%s] %s %s => generated %d bytes in %s%s(%s %d) "
    "%d headers in %d bytes (%d switches on core %d)"
)


class RequestLogSettings(NamedTuple):
    """What the config says about request lines. `slow_ms` in milliseconds, `big_bytes` in bytes; 0: off."""

    enabled: bool = True
    format: str = ""
    date_format: str = ""  # strftime of %(ftime), where log-format-strftime asks for it
    micros: bool = False
    forwarded: bool = False  # log-x-forwarded-for
    memory: bool = False  # memory-report
    host: bool = False  # vhost
    client_errors: bool = False  # log-4xx
    server_errors: bool = False  # log-5xx
    slow_ms: int = 0
    empty: bool = False  # log-zero
    big_bytes: int = 0
    sendfile: bool = False
    io_errors: bool = False

    @property
    def wanted(self) -> bool:
        """Whether any request at all may get a line without asking for it."""
        return self.enabled or self.filtered

    @property
    def plain(self) -> bool:
        """Whether each request gets the default line, which says little of what the client sent."""
        return self.enabled and not (self.format or self.forwarded or self.host)

    @property
    def filtered(self) -> bool:
        """Whether an option picks requests that get a line although the log is off."""
        return bool(
            self.client_errors
            or self.server_errors
            or self.slow_ms
            or self.empty
            or self.big_bytes
            or self.sendfile
            or self.io_errors
        )


class Notes:
    """What was said about one request while it was served: by its app, by a route, by what went wrong.

    Most requests have none; `Core.notes` makes them when somebody has something to say.
    """

    __slots__ = ("app", "at_end", "log_this", "silent", "variables", "via", "write_errors")

    def __init__(self) -> None:
        self.app = 0  # the number of the app; -1: none had the request
        self.via = ""  # "sendfile", "route", "offload"
        self.at_end: Callable[[], None] | None = None  # before the line is written
        self.log_this = False
        self.silent = False
        self.variables: dict[str, str] = {}
        self.write_errors = 0


class Served(NamedTuple):
    """What a line can say of one request; `started_us` is unix time and `micros` a duration, both microseconds.

    `environ` has what the line needs of `environ_count` variables, which take `environ_bytes` in a uwsgi packet.
    """

    pid: int
    worker: int
    core: int
    app: int
    app_requests: int
    total_requests: int
    environ: dict[str, str]
    environ_count: int
    environ_bytes: int
    started_us: int
    micros: int
    body_bytes: int
    status: int
    header_count: int
    header_bytes: int
    switches: int
    notes: Notes | None = None


class RequestLog:
    """Writes the line of each request that should have one."""

    def __init__(self, settings: RequestLogSettings, write: Callable[[str], None]) -> None:
        self._settings = settings
        self._write = write
        self._second, self._date = -1, ""
        self._formatted: Callable[[Served], str] | None = None
        if settings.format:
            from palatine_app_server.log import log_format  # only where it is used: a default worker does without

            self._formatted = log_format.compiled(settings)

    def consider(self, served: Served) -> None:
        """Write the line of `served`, if it is to have one."""
        settings, notes = self._settings, served.notes
        if notes is not None and notes.silent:
            return
        if settings.enabled or (notes is not None and notes.log_this) or picked(settings, served):
            text = self.line(served) if self._formatted is None else self._formatted(served)
            self._write(text if text.find("\n") < 0 else text.replace("\n", "\\n"))

    def line(self, served: Served) -> str:
        """UWSGI's default line, without its newline."""
        settings, get = self._settings, served.environ.get
        (
            pid, _worker, core, app, app_requests, total_requests, environ, count, environ_bytes, started_us, micros,
            body_bytes, status, header_count, header_bytes, switches, notes,
        ) = served  # fmt: skip
        via = " " if notes is None or not notes.via else f" via {notes.via}() "
        took = f"{micros} micros" if settings.micros else f"{micros // 1000} msecs"
        peer = address(settings, environ) if settings.forwarded else get("REMOTE_ADDR", "")
        line = _LINE % (
            pid, app, app_requests, total_requests, peer, get("REMOTE_USER", ""), count * 2, environ_bytes,
            self._ctime(started_us), get("REQUEST_METHOD", ""), get("REQUEST_URI", ""), body_bytes, took, via,
            get("SERVER_PROTOCOL", ""), status, header_count, header_bytes, switches, core,
        )  # fmt: skip
        if len(line) >= MOST_CHARACTERS:
            line = _LINE % (
                pid, app, app_requests, total_requests, "0.0.0.0", "", count * 2, environ_bytes,
                self._ctime(started_us), "-", "-", body_bytes, took, via,
                "-", status, header_count, header_bytes, switches, core,
            )  # fmt: skip
        if settings.memory:
            space, resident = memory()
            line = (
                f"{{address space usage: {space} bytes/{space >> 20}MB}} "
                f"{{rss usage: {resident} bytes/{resident >> 20}MB}} {line}"
            )
        return f"{get('HTTP_HOST', '')} {line}" if settings.host else line

    def _ctime(self, started_us: int) -> str:
        """Formatted once a second. Two threads may format the same one: harmless."""
        second = started_us // 1_000_000
        if second != self._second:
            self._date = time.ctime(second)
            self._second = second
        return self._date


def picked(settings: RequestLogSettings, served: Served) -> bool:
    """Whether an option such as log-4xx wants a line of this request though the log is off."""
    if not settings.filtered:
        return False
    notes = served.notes
    return bool(
        (settings.empty and served.body_bytes == 0)
        or (settings.slow_ms and served.micros >= settings.slow_ms * 1000)
        or (settings.client_errors and 400 <= served.status <= 499)
        or (settings.server_errors and 500 <= served.status <= 599)
        or (settings.big_bytes and served.body_bytes >= settings.big_bytes)
        or (notes is not None and settings.sendfile and notes.via == "sendfile")
        or (notes is not None and settings.io_errors and notes.write_errors)
    )


def address(settings: RequestLogSettings, environ: dict[str, str]) -> str:
    """The client's address as the config wants to see it."""
    peer = environ.get("REMOTE_ADDR", "")
    return environ.get("HTTP_X_FORWARDED_FOR", peer) if settings.forwarded else peer


def memory() -> tuple[int, int]:
    """(address space, resident set) of this process in bytes: proc(5), statm."""
    with open("/proc/self/statm", "rb") as file:
        fields = file.read().split()
    return int(fields[0]) * _PAGE, int(fields[1]) * _PAGE
