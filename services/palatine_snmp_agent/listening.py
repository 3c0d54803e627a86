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

_log = structlog.get_logger()


class HostSockets:
    """The sockets of `listen` and of systemd, each served by a task in `nursery`, all through one door."""

    def __init__(self, nursery: trio.Nursery, tally: Tally, door: Door) -> None:
        self._nursery = nursery
        self._tally = tally
        self._door = door
        self._served: dict[str, list[tuple[Endpoint, trio.CancelScope]]] = {}

    async def listen(self, document: Document, addresses: Sequence[str]) -> None:
        """Serve these addresses, and no others but systemd's.

        ConfigError for one that cannot be bound, and then nothing has changed.
        """
        opened: dict[str, list[socket.socket]] = {}
        try:
            for index, address in enumerate(addresses):
                if address not in self._served and address not in opened:
                    opened[address] = []
                    try:
                        await _bind(address, opened[address])
                    except OSError as error:
                        raise document.error(("listen", index), _refusal(address, error)) from error
        except BaseException:
            _close([one for some in opened.values() for one in some])
            raise
        for address in set(self._served) - {*addresses, INHERITED}:
            self._end(address)
        for address, sockets in opened.items():
            self.serve(address, sockets)

    def serve(self, name: str, sockets: Sequence[socket.socket]) -> None:
        """Serve bound sockets under one name; owns them from here on."""
        for sock in sockets:
            endpoint, scope = Endpoint(sock, name, self._tally, self._door), trio.CancelScope()
            self._served.setdefault(name, []).append((endpoint, scope))
            self._tally.add("endpoints")
            self._nursery.start_soon(self._keep_serving, endpoint, scope)

    def statistics(self) -> list[dict[str, Any]]:
        """What is served, for `ctl status`."""
        return [{"host": True, **endpoint.statistics()} for some in self._served.values() for endpoint, _ in some]

    def close(self) -> None:
        """Let go of all sockets."""
        for name in list(self._served):
            self._end(name)

    def _end(self, name: str) -> None:
        for endpoint, scope in self._served.pop(name):
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


async def _bind(address: str, opened: list[socket.socket]) -> None:
    """Bind a UDP socket for each address a name stands for. OSError (gaierror for an unknown name)."""
    host, port = parse_address(address)
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
    for family, kind, _, _, where in dict.fromkeys(found):
        sock = socket.socket(family, kind | socket.SOCK_CLOEXEC)
        opened.append(sock)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)


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
