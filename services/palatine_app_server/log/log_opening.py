"""Open what the log options name: the log itself, loggers with their arguments. ConfigError says what is wrong."""

import socket
from collections.abc import Sequence

from palatine.errors import ConfigError
from palatine_app_server.config.log_settings import LogSettings
from palatine_app_server.log import log_grammar, log_sinks
from palatine_app_server.log.log_grammar import Logger
from palatine_app_server.log.log_sinks import DatagramSink, FileSink, ProgramSink, Sink, StreamSink


def open_log(settings: LogSettings, path: str, *, begun: bool) -> Sink:
    """The log itself: a file, `host:port` for datagrams, or what standard error is. `begun`: it is not truncated."""
    if not path:
        return log_sinks.inherited(2)
    if ":" in path:
        return DatagramSink(path, 0, lambda data: data)
    return FileSink(
        path,
        mode=settings.file_mode,
        most_bytes=settings.most_bytes,
        backup=settings.backup,
        truncate=settings.truncate and not begun,
    )


def open_loggers(settings: LogSettings, wanted: Sequence[Logger], log: Sink) -> list[tuple[str, Sink]]:
    """(name, sink) of each logger; `log` is what `stdio` writes to."""
    return [(logger.name, _open(settings, logger, log)) for logger in wanted]


def _open(settings: LogSettings, logger: Logger, log: Sink) -> Sink:
    argument = logger.argument
    if logger.plugin == "stdio":
        return log
    if logger.plugin == "file":
        return _file(settings, argument)
    if logger.plugin == "fd":
        return _descriptor(argument)
    if logger.plugin == "socket":
        address, _, prefix = argument.partition(",")
        head = prefix.encode("utf-8", "surrogateescape")
        return DatagramSink(address, 0, lambda data: head + data)
    if logger.plugin == "syslog":
        return DatagramSink(log_sinks.SYSLOG_SOCKET, 0, log_sinks.syslog_shape(argument))
    if logger.plugin == "rsyslog":
        address, _, rest = argument.partition(",")
        shape = log_sinks.rsyslog_shape(rest, socket.gethostname(), settings.packet_bytes)
        pieces = settings.packet_bytes - log_sinks.RSYSLOG_HEAD_BYTES if settings.split_packets else 0
        return DatagramSink(address, log_sinks.SYSLOG_PORT, shape, pieces)
    if not argument:
        raise ConfigError("logger pipe: it takes a command")
    return ProgramSink(argument)


def _file(settings: LogSettings, argument: str) -> FileSink:
    if "=" not in argument:
        if not argument:
            raise ConfigError("logger file: it takes a path")
        return FileSink(argument, mode=settings.file_mode)
    given = log_grammar.parse_keyvals(argument)
    path, most = given.get("logfile", ""), given.get("maxsize", "0")
    if not path or not most.isdigit():
        raise ConfigError(f"logger file:{argument}: it takes logfile=PATH, and maxsize=BYTES as a number")
    return FileSink(path, mode=settings.file_mode, most_bytes=int(most), backup=given.get("backupname", ""))


def _descriptor(argument: str) -> StreamSink:
    try:
        return log_sinks.inherited(int(argument))
    except (ValueError, OSError) as error:
        raise ConfigError(f"logger fd:{argument}: no such descriptor") from error
