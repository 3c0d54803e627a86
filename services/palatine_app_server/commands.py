"""What the command line can ask for besides serving: print, list, signal, ping; each answers and is done.

They are uWSGI's, with its words and exit codes where scripts compare them. Nothing here binds or serves anything.
"""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from palatine import __version__, config, exits
from palatine.codec import uwsgi_packet
from palatine.codec.uwsgi_packet import PacketHeader
from palatine.config.readers import default_readers
from palatine.errors import PeerError
from palatine_app_server.connect_and_read import connect_and_read
from palatine_app_server.serving import build
from palatine_app_server.system.dialling import dial

#: Options that name a pidfile, and what the master of that pid is sent.
_SIGNALS: Final = {"reload": signal.SIGHUP, "stop": signal.SIGINT, "pause": signal.SIGTSTP}
#: uWSGI's remote signals.
_SIGNAL_MODIFIER: Final = 110
_PING_SECONDS: Final = 3
#: What Nagios reads from an exit code.
_WARNING: Final = 1
_CRITICAL: Final = 2
_UNKNOWN: Final = 3


def run(read: config.Config, environ: Mapping[str, str], cwd: str) -> int | None:
    """Do what `read` asks for; the exit code where that was all, None where the instance is to serve."""
    settings = read.settings
    for option in (*settings.items("iprint"), *settings.items("print")):
        _say(option.value or "")
    for name, listing in _LISTINGS.items():
        if settings.flag(name):
            _list(*listing)
    for name, answer in _ANSWERS.items():
        if settings.flag(name):
            _say(answer())
            return exits.OK
    wanted = settings.items("get")
    for option in wanted:
        _get(read, option.value or "")
    return exits.OK if wanted else _talk(read, environ, cwd)


def _talk(read: config.Config, environ: Mapping[str, str], cwd: str) -> int | None:
    """The commands that speak with another instance, or read something."""
    settings = read.settings
    for name, number in _SIGNALS.items():
        if (asked := settings.given(name)) is not None:
            return _signal_master(asked, number)
    if (asked := settings.given("test")) is not None:
        return _try_import(read, asked.value or "")
    if (asked := settings.given("connect-and-read")) is not None:
        connect_and_read(asked.value or "")
        return exits.OK
    if (asked := settings.given("extract")) is not None:
        return _extract(asked.value or "", environ, cwd)
    if (asked := settings.given("signal")) is not None:
        return _send_signal(asked)
    seconds = settings.integer("ping-timeout", _PING_SECONDS, minimum=1)
    if settings.flag("nagios"):
        sockets = settings.items("socket")
        return _nagios(sockets[0].value or "" if sockets else "", seconds)
    if (asked := settings.given("ping")) is not None:
        return _ping(asked.value or "", seconds)
    return None


def _try_import(read: config.Config, module: str) -> int:
    """Whether a module can be imported where the app would be; this process is none that serves."""
    from palatine_app_server.config import app_settings
    from palatine_app_server.serving import loader
    from palatine_app_server.system import last_words

    try:
        loader.prepare_path(app_settings.read(read))
        __import__(module)
    except BaseException:  # noqa: BLE001 - whatever it raises is the answer
        last_words.print_exc()
        return exits.FAILURE
    return exits.OK


def _say(text: str) -> None:
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")
    sys.stdout.flush()


# ------------------------------------------------------------------ what there is


def _get(read: config.Config, name: str) -> None:
    """The first value of the option or placeholder, as uWSGI; nothing where it has none."""
    value = next((option.value for option in read.options if option.name == name), None)
    if value is not None:
        _say(value)


def _list(title: str, end: str, names: Callable[[], Iterator[str]]) -> None:
    lines = [f"*** uWSGI loaded {title} ***", *names(), f"--- end of {end} list ---"]
    sys.stderr.write("\n" + "\n".join(lines) + "\n\n")
    sys.stderr.flush()


def _loggers() -> Iterator[str]:
    from palatine_app_server.config.log_settings import PLUGINS

    yield from sorted(PLUGINS)


def _alarms() -> Iterator[str]:
    from palatine.codec.alarm_grammar import APP_ACTIONS, NETWORK_ACTIONS

    yield from sorted(APP_ACTIONS | NETWORK_ACTIONS)


def _algorithms() -> Iterator[str]:
    from palatine_app_server.supervision.cheaper_policy import ALGORITHMS

    yield from ALGORITHMS


def _routers() -> Iterator[str]:
    from palatine_app_server.routing.route_grammar import ACTIONS

    yield from ACTIONS


def _plugins() -> Iterator[str]:
    from palatine.config.plugins import BUILT_IN

    yield from BUILT_IN.split()


#: Option → title, end, names: uWSGI's lists and their words.
_LISTINGS: Final[Mapping[str, tuple[str, str, Callable[[], Iterator[str]]]]] = {
    "cheaper-algo-list": ("cheaper algorithms", "cheaper algorithms", _algorithms),
    "alarm-list": ("alarms", "alarms", _alarms),
    "logger-list": ("loggers", "loggers", _loggers),
    "router-list": ("internal routers", "internal routers", _routers),
    "clock-list": ("clocks", "clocks", lambda: iter(["unix"])),
    "loop-list": ("loop engines", "loop engines", lambda: iter(["simple"])),
    "plugins-list": ("generic plugins", "plugins", _plugins),
    "imperial-monitor-list": ("imperial monitors", "imperial monitors", lambda: iter(["dir", "glob", "zmq"])),
}


def version() -> str:
    """What `--version` says."""
    return f"palatine-app-server {__version__}{build.suffix()} (uWSGI 2.0.31)"


def _options() -> str:
    from palatine.config.table import Table

    return "\n".join(Table().names())


_ANSWERS: Final[Mapping[str, Callable[[], str]]] = {
    "version": version,
    "python-version": lambda: sys.version.split()[0],
    "dump-options": _options,
}


# ------------------------------------------------------------------ other instances


def _signal_master(option: config.Option, number: int) -> int:
    """`--reload PIDFILE` and its kin: the signal uWSGI sends, to the master whose pid the file holds."""
    try:
        with open(option.value or "", encoding="ascii") as file:
            pid = int(file.read())
        if pid <= 0:  # a group of processes, or all there are
            raise ValueError(pid)
        os.kill(pid, number)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "holds no process id"
        raise option.origin.error(f"--{option.name} {option.value}: {reason}") from error
    return exits.OK


def _extract(address: str, environ: Mapping[str, str], cwd: str) -> int:
    """Copy what a configuration could be read from: a path, `-`, or a scheme such as exec:// or fd://."""
    readers = default_readers(cwd, environ)
    scheme, separator, rest = address.partition("://")
    known = bool(separator) and scheme in readers
    sys.stdout.buffer.write(readers[scheme if known else ""](rest if known else address))
    sys.stdout.flush()
    return exits.OK


def _send_signal(option: config.Option) -> int:
    address, comma, text = (option.value or "").rpartition(",")
    if not comma or not text.isdigit() or int(text) > 255:
        raise option.origin.error(f"signal takes an address, a comma and a number up to 255, not {option.value!r}")
    number = int(text)
    try:
        reply, _ = _exchange(address, PacketHeader(_SIGNAL_MODIFIER, 0, number), _PING_SECONDS)
    except (OSError, ValueError, PeerError):
        sys.stderr.write(f"unable to deliver signal {number} to node {address}\n")
        return exits.FAILURE
    if not reply.modifier2:
        sys.stderr.write(f"node {address} rejected signal {number}\n")
        return exits.USAGE
    sys.stderr.write(f"signal {number} delivered to node {address}\n")
    return exits.OK


def _ping(address: str, seconds: int) -> int:
    sys.stderr.write(f"PING uwsgi host {address} (timeout: {seconds})\n")
    try:
        _, message = _exchange(address, PacketHeader(uwsgi_packet.PING, 0, 0), seconds)
    except (OSError, ValueError, PeerError) as error:
        sys.stderr.write(f"{error}\n")
        return exits.FAILURE
    if message:
        sys.stderr.write(f"[WARNING] node {address} message: {message.decode(errors='replace')}\n")
        return exits.USAGE
    return exits.OK


def _nagios(address: str, seconds: int) -> int:
    if not address:
        _say("UWSGI UNKNOWN: you have specified an invalid socket")
        return _UNKNOWN
    try:
        _, message = _exchange(address, PacketHeader(uwsgi_packet.PING, 0, 0), seconds)
    except PermissionError as error:
        _say(f"UWSGI CRITICAL: could not connect() to workers {error.strerror}")
        return _UNKNOWN
    except TimeoutError:
        _say("UWSGI CRITICAL: timed out waiting for response")
        return _CRITICAL
    except (OSError, ValueError, PeerError) as error:
        _say(f"UWSGI CRITICAL: could not connect() to workers {error}")
        return _CRITICAL
    if message:
        _say(f"UWSGI WARNING: {message.decode(errors='replace')}")
        return _WARNING
    _say("UWSGI OK: armed and ready")
    return exits.OK


def _exchange(address: str, packet: PacketHeader, seconds: int) -> tuple[PacketHeader, bytes]:
    """Send a packet without variables; what comes back. OSError, or PeerError for an answer cut short."""
    with dial(address, float(seconds)) as sock:
        sock.sendall(uwsgi_packet.encode_header(packet))
        header = uwsgi_packet.parse_header(_receive(sock, uwsgi_packet.HEADER_BYTES))
        return header, _receive(sock, header.size)


def _receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise PeerError("the answer is cut short", "protocol")
        data += part
    return data
