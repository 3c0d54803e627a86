"""The request sockets a config asks for, in uWSGI's spellings; ConfigError names the line. Nothing is bound here."""

import re
import socket
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from palatine.config import Config, Option
from palatine_app_server.config import http_settings, tls_settings
from palatine_app_server.config.tls_settings import TlsSettings
from palatine_app_server.serving.clients import MODIFIERS
from palatine_app_server.starting import privileges

#: Option → protocol; "" is what `protocol` says, uwsgi without it.
KINDS: Final = {
    "socket": "", "s": "", "uwsgi-socket": "uwsgi", "http-socket": "http", "http11-socket": "http", "http": "http",
    "fastcgi-socket": "fastcgi", "fastcgi-nph-socket": "fastcgi-nph", "scgi-socket": "scgi",
    "scgi-nph-socket": "scgi-nph",
    "http-to-https": "redirect", **dict.fromkeys(tls_settings.OPTIONS, "https"),
}  # fmt: skip
#: Kinds whose clients speak HTTP.
HTTP: Final = frozenset({"http", "https", "redirect"})
#: Kinds of other front ends; those with -nph are told an HTTP status line, the others a Status header.
CGI: Final = frozenset({"fastcgi", "fastcgi-nph", "scgi", "scgi-nph"})
#: What `protocol` may say.
PROTOCOLS: Final = {
    "": "uwsgi", "uwsgi": "uwsgi", "http": "http", "http11": "http", "fastcgi": "fastcgi",
    "fastcgi-nph": "fastcgi-nph", "scgi": "scgi", "scgi-nph": "scgi-nph",
}  # fmt: skip


class SocketWish(NamedTuple):
    """A socket the config asks for: for requests (see KINDS), or "stats", "snmp", "udp" for a daemon."""

    kind: str
    address: str


class Traits(NamedTuple):
    """What is special about a request socket.

    `proxied`: a connection may begin with a PROXY header. `port` is where a "redirect" leads. `workers` are those that
    accept from it, all where it is empty. `router`: of one of uWSGI's router options, which its zergs never get.
    """

    proxied: bool = False
    port: str = ""
    workers: tuple[int, ...] = ()
    router: bool = False


class SocketSettings(NamedTuple):
    """How sockets are bound; -1 leaves an owner as it is."""

    mode: int = 0  # of UNIX sockets' files; 0: by the umask
    uid: int = -1
    gid: int = -1
    flags: tuple[tuple[int, int, int], ...] = ()  # (level, option, value) set on TCP sockets before they are bound
    buffers: tuple[tuple[int, int], ...] = ()  # (option of SOL_SOCKET, bytes) of every stream socket
    defer: bool = True  # TCP_DEFER_ACCEPT


def read_sockets(config: Config) -> tuple[SocketWish, ...]:
    """The request sockets in the order of their lines."""
    return tuple(
        SocketWish(KINDS[option.name] or protocol(config), _address(config, option)) for option in _given(config)
    )


def read_traits(config: Config, others: Sequence[str] = ()) -> tuple[Traits, ...]:
    """What is special about each of them, in the same order; then about those somebody else bound, by their kinds."""
    maps = _maps(config)
    everywhere = config.settings.flag("enable-proxy-protocol")
    router = config.settings.flag("http-enable-proxy-protocol")
    traits = []
    for number, option in enumerate(_given(config)):
        speaks_http = (KINDS[option.name] or protocol(config)) in HTTP
        proxied = speaks_http and (everywhere or (router and option.name in http_settings.ROUTER))
        port = http_settings.redirect(option)[1] if option.name == "http-to-https" else ""
        traits.append(Traits(proxied, port, maps.get(number, ()), option.name in http_settings.ROUTER))
    for kind in others:
        traits.append(Traits(kind in HTTP and everywhere, workers=maps.get(len(traits), ())))
    return tuple(traits)


def _given(config: Config) -> list[Option]:
    return [option for option in config.options if option.name in KINDS and option.value]


def _maps(config: Config) -> dict[int, tuple[int, ...]]:
    """`map-socket = N:WORKER[,WORKER]`: the workers that accept from the N-th socket."""
    found: dict[int, tuple[int, ...]] = {}
    for option in config.settings.items("map-socket"):
        number, _, workers = (option.value or "").partition(":")
        words = workers.split(",")
        if not all(word.isascii() and word.isdigit() for word in (number, *words)):
            raise option.origin.error(f"map-socket = {option.value}: it takes a socket, a colon and workers")
        found[int(number)] = tuple(map(int, words))
    return found


def read_tls(config: Config) -> tuple[TlsSettings, ...]:
    """The HTTPS sockets among them."""
    given = [option for option in config.options if option.name in tls_settings.OPTIONS and option.value]
    if not given:
        return ()
    extras = tls_settings.read_extras(config)
    return tuple(
        tls_settings.parse(option)._replace(address=_address(config, option), extras=extras) for option in given
    )


def read(config: Config) -> SocketSettings:
    """How they are bound."""
    settings = config.settings
    owner = settings.given("chown-socket")
    uid = gid = None
    if owner is not None:
        uid, gid = owner.parsed(lambda text: privileges.ids(*text.partition(":")[::2]))
    flags = []
    if settings.flag("reuse-port"):
        flags.append((socket.SOL_SOCKET, socket.SO_REUSEPORT, 1))
    if settings.flag("freebind"):
        flags.append((socket.IPPROTO_IP, _IP_FREEBIND, 1))
    if settings.integer("tcp-fast-open"):
        flags.append((socket.IPPROTO_TCP, socket.TCP_FASTOPEN, settings.integer("tcp-fast-open")))
    sizes = ((socket.SO_SNDBUF, "socket-sndbuf"), (socket.SO_RCVBUF, "socket-rcvbuf"))
    return SocketSettings(
        mode=_mode(config),
        uid=-1 if uid is None else uid,
        gid=-1 if gid is None else gid,
        flags=tuple(flags),
        buffers=tuple((number, settings.integer(name)) for number, name in sizes if settings.integer(name)),
        defer=not settings.flag("no-defer-accept"),
    )


#: ip(7); the socket module does not name it.
_IP_FREEBIND: Final = 15


def protocol(config: Config) -> str:
    """What is spoken on sockets that do not say it themselves."""
    option = config.settings.given("protocol")
    if option is None:
        return "uwsgi"
    found = PROTOCOLS.get(option.value or "")
    if found is None:
        raise option.origin.error(f"protocol = {option.value}: only uwsgi, http, fastcgi and scgi are spoken here")
    return found


def _address(config: Config, option: Option) -> str:
    """Where a socket is: `=N` is the shared socket of that number; what uWSGI calls abstract is `@name`."""
    address = option.value or ""
    if option.name in tls_settings.OPTIONS:
        address = tls_settings.parse(option).address
    elif option.name == "http-to-https":
        address = http_settings.redirect(option)[0]
    if address.startswith("="):
        shared = config.settings.items("shared-socket") + config.settings.items("undeferred-shared-socket")
        number = address[1:]
        if not number.isdigit() or int(number) >= len(shared):
            raise option.origin.error(f"unable to use shared socket {number}")
        address = shared[int(number)].value or ""
    if address.startswith("\\0"):
        return f"@{address[2:]}"
    is_path = ":" not in address and not address.startswith("@")
    return f"@{address}" if is_path and config.settings.flag("abstract-socket") else address


def _mode(config: Config) -> int:
    option = config.settings.given("chmod-socket")
    if option is None:
        return 0
    if not option.value or option.value in {"true", "1"}:
        return 0o666
    try:
        return int(option.value, 8)
    except ValueError as error:
        raise option.origin.error(f"chmod-socket takes an octal mode, not {option.value!r}") from error


def modifiers(config: Config) -> Mapping[int, int]:
    """What allowed-modifiers leaves, and remap-modifier adds: FROM:TO has requests of TO treated as FROM."""
    allowed, mapped = (config.settings.given(name) for name in ("allowed-modifiers", "remap-modifier"))
    known = dict(MODIFIERS)
    if allowed is not None:
        wanted = set(_numbers(allowed, ","))
        known = {number: kind for number, kind in known.items() if number in wanted}
    if mapped is not None:
        pairs = _numbers(mapped, ",:")
        for source, target in zip(pairs[::2], pairs[1::2], strict=True):
            if source in known:
                known[target] = known[source]
            else:
                known.pop(target, None)
    return known


def _numbers(option: Option, separators: str) -> list[int]:
    words = re.split(f"[{separators}]", option.value or "")
    if not all(word.strip().isdigit() for word in words) or len(words) % len(separators):
        raise option.origin.error(f"{option.name} = {option.value}: it takes numbers with {separators} between")
    return [int(word) for word in words]
