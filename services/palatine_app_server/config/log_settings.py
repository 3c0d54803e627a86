"""The log options of a config as one frozen value; ConfigError names the line that is wrong."""

import re
from typing import Final, NamedTuple

from palatine.config import Config
from palatine_app_server.log import log_grammar
from palatine_app_server.log.log_grammar import Encoder, Logger, Route
from palatine_app_server.log.request_log import RequestLogSettings

_ON: Final = frozenset({"", "true", "1", "on", "yes"})
#: Loggers of uWSGI that speak to a service we have nothing for, and what to use instead.
_ELSEWHERE: Final = "is not served: use socket, rsyslog, or pipe with a program that speaks to it"
PLUGINS: Final = frozenset({"file", "fd", "stdio", "socket", "syslog", "rsyslog", "pipe"})


class LogSettings(NamedTuple):
    """Where lines go and which are written."""

    logto: str = ""
    logto2: str = ""  # opened after the privileges are dropped
    file_mode: int = 0
    chown: bool = False
    truncate: bool = False
    reopen: bool = False  # at every reload
    most_bytes: int = 0
    backup: str = ""
    touch_rotate: tuple[str, ...] = ()
    touch_reopen: tuple[str, ...] = ()
    log_master: bool = False
    dated: bool = False
    date_format: str = ""  # strftime; "": ctime
    loggers: tuple[Logger, ...] = ()
    request_loggers: tuple[Logger, ...] = ()
    encoders: tuple[Encoder, ...] = ()
    request_encoders: tuple[Encoder, ...] = ()
    routes: tuple[Route, ...] = ()
    request_routes: tuple[Route, ...] = ()
    drains: tuple["re.Pattern[bytes]", ...] = ()
    filters: tuple["re.Pattern[bytes]", ...] = ()
    packet_bytes: int = 1024  # of rsyslog
    split_packets: bool = False  # a longer line becomes several packets
    requests: RequestLogSettings = RequestLogSettings()

    @property
    def requests_apart(self) -> bool:
        """Whether request lines have a way of their own to the master."""
        return bool(self.request_loggers or self.request_routes or self.request_encoders)


def read(config: Config) -> LogSettings:
    """The log options of `config`."""
    settings = config.settings
    date = settings.given("log-date")
    date_format = "" if date is None or (date.value or "").lower() in _ON else date.value or ""
    most_bytes = settings.size("log-maxsize")
    touches = {name: settings.texts(name) for name in _TOUCHES}
    logs = LogSettings(
        logto=settings.text("logto", ""),
        logto2=settings.text("logto2", ""),
        file_mode=_mode(config),
        chown=settings.flag("logfile-chown"),
        truncate=settings.flag("log-truncate"),
        reopen=settings.flag("log-reopen"),
        most_bytes=most_bytes,
        backup=settings.text("log-backupname", ""),
        touch_rotate=touches["touch-logrotate"],
        touch_reopen=touches["touch-logreopen"],
        log_master=settings.flag("log-master"),
        dated=date is not None,
        date_format=date_format,
        loggers=_loggers(config, "logger") + _loggers(config, "log-syslog") + _loggers(config, "log-socket"),
        request_loggers=_loggers(config, "req-logger"),
        encoders=settings.each("log-encoder", log_grammar.parse_encoder),
        request_encoders=settings.each("log-req-encoder", log_grammar.parse_encoder),
        routes=settings.each("log-route", log_grammar.parse_route),
        request_routes=settings.each("log-req-route", log_grammar.parse_route),
        drains=settings.each("log-drain", log_grammar.compile_pattern),
        filters=settings.each("log-filter", log_grammar.compile_pattern),
        split_packets=settings.flag("rsyslog-split-messages"),
        packet_bytes=settings.integer("rsyslog-packet-size", 1024, minimum=64, maximum=65000),
        requests=_requests(config, date_format),
    )
    # routes, encoders and datagrams are the master's business, wherever the lines come from
    through_master = logs.requests_apart or ":" in logs.logto + logs.logto2
    return logs._replace(log_master=logs.log_master or through_master)


_TOUCHES: Final = ("touch-logrotate", "touch-logreopen")


def _requests(config: Config, date_format: str) -> RequestLogSettings:
    settings = config.settings
    return RequestLogSettings(
        enabled=not settings.flag("disable-logging"),
        format=settings.text("log-format", ""),
        date_format=date_format if settings.flag("logformat-strftime") else "",
        micros=settings.flag("log-micros"),
        forwarded=settings.flag("log-x-forwarded-for"),
        memory=settings.flag("memory-report"),
        host=settings.flag("vhost"),
        client_errors=settings.flag("log-4xx"),
        server_errors=settings.flag("log-5xx"),
        slow_ms=settings.integer("log-slow", 0),
        empty=settings.flag("log-zero"),
        big_bytes=settings.size("log-big"),
        sendfile=settings.flag("log-sendfile"),
        io_errors=settings.flag("log-ioerror"),
    )


def _loggers(config: Config, name: str) -> tuple[Logger, ...]:
    loggers = []
    for option in config.settings.items(name):
        value = option.value or ""
        if name in {"log-syslog", "log-socket"}:
            logger = Logger("", name.removeprefix("log-"), value)
        else:
            logger = log_grammar.parse_logger(value)
        if logger.plugin not in PLUGINS:
            raise option.origin.error(f'logger "{logger.plugin}" {_ELSEWHERE}')
        loggers.append(logger)
    return tuple(loggers)


def _mode(config: Config) -> int:
    option = config.settings.given("logfile-chmod")
    if option is None:
        return 0
    value = option.value or ""
    if len(value) != 3 or not set(value) <= set("01234567"):
        raise option.origin.error(f"logfile-chmod takes three octal digits, not {value!r}")
    return int(value, 8)
