"""structlog for a daemon: events to stderr only, console or JSON, secrets masked; must never raise into its caller."""

import logging
import os
import re
import stat
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from structlog.typing import EventDict, WrappedLogger

from palatine.daemon.console import ConsoleRenderer

LEVELS: Final[Mapping[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_METHODS: Final[Mapping[str, str]] = {"warn": "warning", "exception": "error", "fatal": "critical", "msg": "info"}

MASK: Final = "***"
_SECRET_KEY = re.compile(
    r"passw|secret|token|community|credential|authori[sz]ation|cookie|api[-_]?key|private[-_]?key", re.IGNORECASE
)
_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/@]+@", re.IGNORECASE)


class Logs:
    """The daemon's log: one line an event, each written to descriptor 2 by one write."""

    def __init__(self, daemon: str, style: str = "auto", level: str = "info") -> None:
        self.level = level
        #: Lines the descriptor refused (its reader is gone, the disk is full).
        self.dropped = 0
        #: Called for each event of level error and above.
        self.on_error: Callable[[], None] = _nothing
        self._daemon = daemon
        self._path = _regular_file(2)
        on_terminal = os.isatty(2)
        json = style == "json" or (style == "auto" and not on_terminal)
        colour = on_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        stamp = structlog.processors.TimeStamper
        self._processors: list[Any] = [
            self._filter,
            structlog.contextvars.merge_contextvars,
            stamp(fmt="iso", utc=True) if json else stamp(fmt="%H:%M:%S", utc=False),
            self._head,
            structlog.processors.format_exc_info,
            mask_secrets,
            structlog.processors.JSONRenderer(default=str) if json else ConsoleRenderer(colour=colour),
        ]

    def install(self) -> structlog.stdlib.BoundLogger:
        """Make this the log of the process, of libraries that use `logging` and of warnings; returns the logger."""
        structlog.configure(
            processors=self._processors,
            wrapper_class=structlog.stdlib.BoundLogger,
            context_class=dict,
            logger_factory=lambda *_: _Writer(self),
            cache_logger_on_first_use=False,
        )
        log: structlog.stdlib.BoundLogger = structlog.get_logger()
        logging.basicConfig(handlers=[_LibraryHandler(log)], level=logging.WARNING, force=True)
        logging.captureWarnings(True)
        return log

    def write(self, line: str) -> None:
        """Write a line; a descriptor that refuses is counted, because a log must not stop its daemon."""
        data = f"{line}\n".encode(errors="backslashreplace")
        try:
            while data:
                data = data[os.write(2, data) :]
        except OSError:
            self.dropped += 1

    def reopen(self) -> bool:
        """After a rotation: open the file stderr was started on again, by its first path; False if it is no file."""
        if self._path is None:
            return False
        fresh = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            if _same_file(1, 2):
                os.dup2(fresh, 1)
            os.dup2(fresh, 2)
        finally:
            os.close(fresh)
        return True

    def _filter(self, _: WrappedLogger, method: str, event: EventDict) -> EventDict:
        if LEVELS[_METHODS.get(method, method)] < LEVELS[self.level]:
            raise structlog.DropEvent
        if LEVELS[_METHODS.get(method, method)] >= LEVELS["error"]:
            self.on_error()
        return event

    def _head(self, _: WrappedLogger, method: str, event: EventDict) -> EventDict:
        first = {"timestamp": event.pop("timestamp"), "level": _METHODS.get(method, method), "daemon": self._daemon}
        return {**first, "event": event.pop("event"), **event}


def mask_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A processor: values under secret-looking keys, and passwords inside URLs, become `***`."""
    return {key: _masked(key, value) for key, value in event.items()}


def _masked(key: str, value: Any) -> Any:
    if _SECRET_KEY.search(key) and value is not None and not isinstance(value, bool):
        return MASK
    if isinstance(value, str):
        return _URL_PASSWORD.sub(rf"\1:{MASK}@", value) if "://" in value else value
    if isinstance(value, Mapping):
        return {str(name): _masked(str(name), item) for name, item in value.items()}
    return [_masked("", item) for item in value] if isinstance(value, list | tuple) else value


class _Writer:
    """What structlog wraps: every level ends in the same write."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    def msg(self, line: str) -> None:
        self._logs.write(line)

    debug = info = warning = error = critical = exception = fatal = warn = log = msg


class _LibraryHandler(logging.Handler):
    """Events of libraries that use the standard library's logging, as `library.log`."""

    def __init__(self, log: structlog.stdlib.BoundLogger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level = max(
            (name for name in LEVELS if LEVELS[name] <= record.levelno), key=LEVELS.__getitem__, default="debug"
        )
        say = getattr(self._log, level)
        say("library.log", logger=record.name, message=record.getMessage(), exc_info=record.exc_info)


def _nothing() -> None:
    """Nobody counts errors yet."""


def _regular_file(descriptor: int) -> str | None:
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:  # closed, or no /proc: then there is nothing to reopen
        return None
    return None


def _same_file(one: int, other: int) -> bool:
    try:
        return os.path.samestat(os.fstat(one), os.fstat(other))
    except OSError:  # one of them is closed
        return False


def standard_streams() -> None:
    """Give closed descriptors 0-2 something to be, so that no socket ever becomes one of them."""
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(null)
