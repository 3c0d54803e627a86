"""The host's own UDP sockets: bound by address or host name, or given by systemd; must never say "no" without a remedy.

A socket of a port below 1024 needs CAP_NET_BIND_SERVICE, or is bound by systemd (sd_listen_fds(3)) and inherited.
"""

import errno
import os
import socket
from collections.abc import MutableMapping, Sequence
from typing import Any, Final

import structlog
import trio

from palatine.daemon import Document
from palatine.errors import ConfigError
from palatine_snmp_agent.settings import parse_address
from palatine_snmp_agent.sockets import Door, Endpoint
from palatine_snmp_agent.tally import Tally

#: What the sockets that systemd handed over are called.
INHERITED: Final = "systemd"
#: The first descriptor systemd hands over.
_FIRST_FD: Final = 3
#: A socket that failed is tried again after so long; what the kernel says once, of a peer, is no failure of a socket.
_RETRY_SECONDS: Final = 1.0

_REMEDIES: Final = {
    errno.EACCES: (
        "ports below 1024 need the capability CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=), or the socket unit"
        " palatine-snmp-agent.socket"
    ),
    errno.EADDRINUSE: (
        "another program has it, perhaps snmpd or another agent; `ss -lunp` tells which; take another port, or let"
        " snmpd pass requests on (deploy/snmpd)"
    ),
    errno.EADDRNOTAVAIL: "no interface of this machine has this address; `ip address` shows those it has",
    errno.EAFNOSUPPORT: "this machine does not speak this family of addresses (IPv6 may be switched off)",
}
_LOOKUP_REMEDY: Final = "the name is not known here; see `getent ahosts`, or write the address"

#: A family and a socket address of it, or which of systemd's sockets.
_Where = tuple[Any, Any]

_log = structlog.get_logger()


class HostSockets:
    """The sockets of `listen` and of systemd, each served by a task in `nursery`, all through one door."""

    def __init__(self, nursery: trio.Nursery, tally: Tally, door: Door) -> None:
        self._nursery = nursery
        self._tally = tally
        self._door = door
        self._served: dict[_Where, tuple[Endpoint, trio.CancelScope]] = {}

    async def listen(self, document: Document, addresses: Sequence[str]) -> None:
        """Serve these addresses, and no others but systemd's; names are looked up anew.

        ConfigError for one that cannot be bound, and then nothing has changed.
        """
        wanted: dict[_Where, str] = {}
        opened: dict[_Where, socket.socket] = {}
        try:
            for index, address in enumerate(addresses):
                try:
                    for where in await _meant(address):
                        if wanted.setdefault(where, address) == address and where not in self._served:
                            opened[where] = _bound(where)
                except OSError as error:
                    raise document.error(("listen", index), _refusal(address, error)) from error
        except BaseException:
            _close([*opened.values()])
            raise
        for where in {*self._served} - {*wanted}:
            if where[0] != INHERITED:
                self._end(where)
        for where, sock in opened.items():
            self._serve(where, wanted[where], sock)

    def inherit(self, sockets: Sequence[socket.socket]) -> None:
        """Serve the sockets systemd handed over until the end; owns them from here on."""
        for number, sock in enumerate(sockets):
            self._serve((INHERITED, number), INHERITED, sock)

    def _serve(self, where: _Where, name: str, sock: socket.socket) -> None:
        endpoint, scope = Endpoint(sock, name, self._tally, self._door), trio.CancelScope()
        self._served[where] = endpoint, scope
        self._tally.add("endpoints")
        self._nursery.start_soon(self._keep_serving, endpoint, scope)

    def statistics(self) -> list[dict[str, Any]]:
        """What is served, for `ctl status`."""
        return [{"host": True, **endpoint.statistics()} for endpoint, _ in self._served.values()]

    def close(self) -> None:
        """Let go of all sockets."""
        for where in list(self._served):
            self._end(where)

    def _end(self, where: _Where) -> None:
        endpoint, scope = self._served.pop(where)
        scope.cancel()
        endpoint.__exit__()
        self._tally.add("endpoints", -1)

    async def _keep_serving(self, endpoint: Endpoint, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                try:
                    await endpoint.serve()
                except OSError as error:
                    _log.warning("host_socket.failed", address=endpoint.name, reason=str(error))
                await trio.sleep(_RETRY_SECONDS)


async def _meant(address: str) -> list[_Where]:
    """The families and socket addresses a name stands for. OSError (gaierror for an unknown name)."""
    host, port = parse_address(address)
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, where) for family, _, _, _, where in found))


def _bound(where: _Where) -> socket.socket:
    """A UDP socket there; OSError if it cannot be had."""
    family, address = where
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _refusal(address: str, error: OSError) -> str:
    lookup = isinstance(error, socket.gaierror)
    remedy = _LOOKUP_REMEDY if lookup else _REMEDIES.get(error.errno or 0, "")
    return f"{address} cannot be bound: {error.strerror}{'; ' if remedy else ''}{remedy}"


def inherited_sockets(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The sockets systemd handed over, whose variables are taken out of `environ`: sd_listen_fds(3).

    Raises:
        ConfigError: one of them is no UDP socket.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    sockets: list[socket.socket] = []
    for fd in range(_FIRST_FD, _FIRST_FD + int(count)):
        try:
            sockets.append(sock := socket.socket(fileno=fd))
        except OSError as error:
            _close(sockets)
            raise ConfigError(f"descriptor {fd} from systemd is no socket: {error.strerror}") from error
        sock.set_inheritable(False)
        if sock.type != socket.SOCK_DGRAM or sock.family not in {socket.AF_INET, socket.AF_INET6}:
            _close(sockets)
            raise ConfigError(
                f"descriptor {fd} from systemd is no UDP socket; write ListenDatagram= in the socket unit"
            )
    return sockets


def _close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
