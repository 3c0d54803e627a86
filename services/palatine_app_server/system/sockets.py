"""Bind the sockets a config names: uWSGI's address grammar on one side, listening descriptors on the other."""

import fcntl
import os
import socket
import stat
import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from palatine.errors import ConfigError, PalatineError
from palatine_app_server.config.socket_settings import HTTP, SocketSettings, SocketWish
from palatine_app_server.system import linux, unix_sockets

#: linux/sockios.h
_SIOCGIFADDR: Final = 0x8915
#: systemd.socket(5): the first descriptor handed over by LISTEN_FDS.
_SD_LISTEN_FDS_START: Final = 3


#: Begins the address of a socket another instance gave us: its number follows.
GIVEN: Final = "zerg://"
#: The address of a socket an Emperor or inetd left.
STDIN: Final = "fd://0"
#: `Bound.file` of a socket whose file is somebody else's: no file is it.
_NOBODYS: Final = (0, 0)

#: As a config binds that says nothing about it.
PLAINLY: Final = SocketSettings()


class BindError(PalatineError):
    """An address cannot be bound."""


class Bound(NamedTuple):
    """A bound socket; `kind` and `name` are what the config said, `name` also what logs and stats show.

    `file` tells a UNIX socket's file from a later one at its path (inode and mtime); None where a predecessor bound it.
    """

    kind: str
    name: str
    socket: socket.socket
    inherited: bool = False
    file: tuple[int, int] | None = None

    @property
    def path(self) -> str:
        """The file of a UNIX socket, "" for others."""
        if self.socket.family != socket.AF_UNIX:
            return ""
        address = self.socket.getsockname()
        return address if isinstance(address, str) else ""

    def queue(self) -> tuple[int, int]:
        """(connections waiting, capacity) of a TCP or UNIX listener; (0, 0) where the kernel does not tell."""
        if self.socket.family == socket.AF_UNIX and self.socket.type == socket.SOCK_STREAM:
            return linux.unix_accept_queue(self.socket)
        if self.socket.family not in {socket.AF_INET, socket.AF_INET6} or self.socket.type != socket.SOCK_STREAM:
            return 0, 0
        return linux.accept_queue(self.socket)


def bind_stream(
    kind: str, address: str, backlog: int, *, defer_seconds: int = 0, how: SocketSettings = PLAINLY
) -> Bound:
    """A listening socket on `host:port`, `:port`, `[v6]:port`, `192.168.*:port`, a path, `@abstract` or `fd://N`.

    `defer_seconds` wakes the server only once data has arrived (TCP_DEFER_ACCEPT, tcp(7)).
    """
    if address.startswith("fd://"):
        return _inherited(kind, address, _allowed_backlog(backlog))
    backlog = _allowed_backlog(backlog)
    if ":" in address:
        sock = _tcp(address, socket.SOCK_STREAM, how.flags)
        # inherited by what is accepted: the pieces of a streamed response must not wait for acknowledgements
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if defer_seconds:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, defer_seconds)
    else:
        sock = _unix(address, how)
    try:
        for option, size in how.buffers:
            sock.setsockopt(socket.SOL_SOCKET, option, size)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise BindError(f"{address}: {error.strerror}") from error
    sock.setblocking(False)
    bound = Bound(kind, _shown(address, sock), sock)
    return bound._replace(file=_identity(os.stat(bound.path))) if bound.path else bound


def bind_door(option: str, kind: str, address: str, backlog: int, how: SocketSettings = PLAINLY) -> Bound:
    """A listening UNIX socket where descriptors are given away; ConfigError names the `option`."""
    sock = unix_sockets.listening(option, address, how.mode or None, _allowed_backlog(backlog))
    bound = Bound(kind, address, sock)
    return bound._replace(file=_identity(os.stat(bound.path))) if bound.path else bound


def bind_datagram(kind: str, address: str) -> Bound:
    """A bound UDP socket on `host:port` or `:port`; a multicast group is joined."""
    if ":" not in address:
        raise ConfigError(f"{kind} takes host:port, not {address!r}")
    sock = _tcp(address, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return Bound(kind, address, sock)


def taken_over(kind: str, address: str, fd: int) -> Bound:
    """The socket an earlier master of this process bound to `address`, or another instance gave us."""
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    sock.setblocking(False)
    return Bound(kind, _shown(address, sock), sock, True, _NOBODYS if address.startswith(GIVEN) else None)


def request_variables(bound: Bound) -> dict[str, str]:
    """The CGI variables all requests on this socket have in common (uWSGI's http-socket sets the same)."""
    if bound.kind not in HTTP:
        return {}
    name = bound.socket.getsockname()
    port = str(name[1]) if isinstance(name, tuple) else "80"  # PEP 3333: never empty; what uWSGI says of UNIX sockets
    variables = {"SCRIPT_NAME": "", "SERVER_NAME": socket.gethostname(), "SERVER_PORT": port}
    return variables | {"HTTPS": "on"} if bound.kind == "https" else variables


def remove_path(bound: Bound) -> bool:
    """Unlink a UNIX socket's file if it is still the one we bound; False where somebody else's has taken its place."""
    try:
        there = os.stat(bound.path)
    except FileNotFoundError:
        return True
    if not stat.S_ISSOCK(there.st_mode) or bound.file not in {None, _identity(there)}:
        return False
    os.unlink(bound.path)
    return True


def _identity(there: os.stat_result) -> tuple[int, int]:
    return there.st_ino, there.st_mtime_ns


def split_host_port(address: str) -> tuple[str, int]:
    """("127.0.0.1", 9090) of uWSGI's address; an empty host or `*` means all interfaces. ConfigError otherwise."""
    host, _, port = address.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{address!r}: the port must be a number up to 65535")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _tcp(address: str, kind: int, flags_set: Sequence[tuple[int, int, int]] = ()) -> socket.socket:
    host, port = split_host_port(address)
    if host.endswith("*") and host != "*":
        host = _interface_address(host.removesuffix("*"))
    flags = socket.AI_PASSIVE
    try:
        # as bytes: of text Python makes IDNA's ASCII, for which it loads a fifth of a megabyte
        name = None if host in {"", "*"} else host.encode() if host.isascii() else host
        found = socket.getaddrinfo(name, port, socket.AF_UNSPEC, kind, 0, flags)
    except OSError as error:
        raise BindError(f"{address}: {error.strerror}") from error
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)  # uWSGI's `:port` is IPv4
    family, kind_, protocol, _, place = found[0]
    sock = socket.socket(family, kind_, protocol)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for level, option, value in flags_set:
            sock.setsockopt(level, option, value)
        sock.bind(place)
        if kind == socket.SOCK_DGRAM and family == socket.AF_INET and 224 <= int(str(place[0]).split(".", 1)[0]) <= 239:
            group = socket.inet_aton(str(place[0])) + socket.inet_aton("0.0.0.0")
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    except OSError as error:
        sock.close()
        raise BindError(f"{address}: {error.strerror}") from error
    return sock


def _interface_address(prefix: str) -> str:
    """The first IPv4 address of an interface that begins with `prefix`: netdevice(7), SIOCGIFADDR."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # an interface without an address
            address = socket.inet_ntoa(answer[20:24])
            if address.startswith(prefix):
                return address
    raise BindError(f"unable to find an interface whose address begins with {prefix}")


def _unix(address: str, how: SocketSettings) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if address.startswith("@"):
            sock.bind("\0" + address[1:])
            return sock
        if os.path.lexists(address) and stat.S_ISSOCK(os.lstat(address).st_mode):
            os.unlink(address)
        _make_file(sock, os.path.abspath(address), how.mode)
        if (how.uid, how.gid) != (-1, -1):
            os.chown(address, how.uid, how.gid, follow_symlinks=False)
    except OSError as error:
        sock.close()
        raise BindError(f"{address}: {error.strerror or error}") from error  # "path too long" has no number
    return sock


def _make_file(sock: socket.socket, path: str, mode: int) -> None:
    """Bind to a path whose file has `mode` from the first: the directory's owner could lead a chmod(2) elsewhere."""
    if not mode:
        sock.bind(path)
        return
    before = os.umask(0o777 & ~mode)
    try:
        sock.bind(path)
    finally:
        os.umask(before)


def _inherited(kind: str, address: str, backlog: int) -> Bound:
    number = address.removeprefix("fd://")
    if not number.isascii() or not number.isdigit() or len(number) > 9:
        raise ConfigError(f"{address!r}: fd:// takes a number")
    try:
        sock = socket.socket(fileno=_off_stdin() if int(number) == 0 else int(number))
        sock.set_inheritable(False)  # link and companions must not hold it when we are gone
        if sock.type != socket.SOCK_STREAM:
            sock.detach()
            raise ConfigError(f"{address!r} is not a stream socket")
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            sock.listen(backlog)
    except OSError as error:
        raise BindError(f"{address}: {error.strerror}") from error
    sock.setblocking(False)
    return Bound(kind, _shown(address, sock), sock, inherited=True)


def listens(fd: int) -> bool:
    """Whether descriptor `fd` is a listening stream socket."""
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def _off_stdin() -> int:
    """Move the socket on descriptor 0 elsewhere: children get /dev/null there."""
    fd = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return fd


def activated(
    wishes: Sequence[SocketWish], environ: Mapping[str, str], pid: int
) -> tuple[dict[SocketWish, int], list[int]]:
    """What systemd passed: descriptors for sockets the config names, and the others."""
    return matched(wishes, systemd_sockets(environ, pid))


def matched(wishes: Sequence[SocketWish], fds: Sequence[int]) -> tuple[dict[SocketWish, int], list[int]]:
    """Which of the descriptors are at an address the config names, and the others."""
    named: dict[SocketWish, int] = {}
    others = []
    for fd in fds:
        found = [wish for wish in wishes if wish not in named and _is_at(fd, wish.address)]
        if found:
            named[found[0]] = fd
        elif not any(wish.address == f"fd://{fd}" for wish in wishes):
            others.append(fd)
    return named, others


def _is_at(fd: int, address: str) -> bool:
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            name = sock.getsockname()
    except OSError:
        return False
    if isinstance(name, tuple):
        if ":" not in address or address.startswith("fd://"):
            return False
        host, port = split_host_port(address)
        return (host if host not in {"", "*"} else "0.0.0.0", port) == name[:2]
    path: str = os.fsdecode(name)
    if address.startswith("@") or path.startswith("\0"):
        return path.rstrip("\0") == f"\0{address[1:]}"
    return os.path.abspath(path) == os.path.abspath(address)  # a uWSGI binds a name as it is written


def systemd_sockets(environ: Mapping[str, str], pid: int) -> list[int]:
    """The descriptors systemd passed to this very process: sd_listen_fds(3)."""
    if environ.get("LISTEN_PID") != str(pid):
        return []
    count = environ.get("LISTEN_FDS", "0")
    return [_SD_LISTEN_FDS_START + n for n in range(int(count))] if count.isdigit() else []


def _allowed_backlog(backlog: int) -> int:
    with open("/proc/sys/net/core/somaxconn", "rb", buffering=0) as file:
        limit = int(file.read())
    if backlog > limit:
        raise ConfigError(f"Listen queue size is greater than the system max net.core.somaxconn ({limit}).")
    return backlog


def _shown(address: str, sock: socket.socket) -> str:
    """The address as logs and stats show it: as configured, with the kernel's choice in place of port 0."""
    name = sock.getsockname()
    if isinstance(name, tuple) and address.endswith(":0"):
        return f"{address[:-1]}{name[1]}"
    if not address.startswith(("fd://", GIVEN)):
        return address
    if isinstance(name, tuple):
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
    path = os.fsdecode(name)
    return f"@{path[1:].rstrip(chr(0))}" if path.startswith("\0") else path
