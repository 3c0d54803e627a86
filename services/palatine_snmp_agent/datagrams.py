"""Datagrams in and replies out of a UDP socket, each reply from the address that was asked; must never block.

A socket bound to all addresses (`:2222`) lets the kernel choose the address a reply comes from, and on a host with
several that may be another than the manager asked, who then does not take it. uWSGI has this fault. There the kernel is
asked to say with each datagram which address it came to (ip(7) and ipv6(7), PKTINFO), and is told so with the reply;
that costs a microsecond, so sockets with an address of their own go without.
"""

import socket
import struct
from typing import Any, Final, NamedTuple, Protocol

from palatine.codec.snmp import MAX_DATAGRAM

# Linux's numbers; not in the socket module of every Python we run on.
_IP_PKTINFO: Final = 8
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50
#: struct in_pktinfo: interface, local address, address in the datagram's head.
_IN_PKTINFO: Final = struct.Struct("=i4s4s")
#: struct in6_pktinfo: address, interface.
_IN6_PKTINFO: Final = struct.Struct("=16si")
_ANCILLARY: Final = socket.CMSG_SPACE(_IN_PKTINFO.size) + socket.CMSG_SPACE(_IN6_PKTINFO.size)

#: What to give back with a reply so that it leaves from the right address.
Ancillary = list[tuple[int, int, bytes]]


class Received(NamedTuple):
    """A datagram, its sender as the socket module has it, and what its reply needs."""

    data: bytes
    sender: tuple[Any, ...]
    ancillary: Ancillary


class Datagrams(Protocol):
    """A UDP socket's two directions. BlockingIOError where there is nothing to read or no room to write."""

    def receive(self) -> Received:
        """The next datagram."""

    def reply(self, data: bytes, to: Received) -> None:
        """Send `data` to whom `to` came from."""


def datagrams_of(sock: socket.socket) -> Datagrams:
    """The way to use a bound socket; one bound to all addresses is told to note which one a datagram came to."""
    if sock.getsockname()[0] not in {"0.0.0.0", "::"}:
        return _Plain(sock)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    return _Wildcard(sock)


class _Plain:
    """A socket bound to one address."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def receive(self) -> Received:
        data, sender = self._socket.recvfrom(MAX_DATAGRAM, socket.MSG_DONTWAIT)
        return Received(data, sender, [])

    def reply(self, data: bytes, to: Received) -> None:
        self._socket.sendto(data, socket.MSG_DONTWAIT, to.sender)


class _Wildcard:
    """A socket bound to all addresses."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def receive(self) -> Received:
        data, ancillary, _flags, sender = self._socket.recvmsg(MAX_DATAGRAM, _ANCILLARY, socket.MSG_DONTWAIT)
        return Received(data, sender, [back for item in ancillary for back in _returned(*item)])

    def reply(self, data: bytes, to: Received) -> None:
        self._socket.sendmsg([data], to.ancillary, socket.MSG_DONTWAIT, to.sender)


def _returned(level: int, kind: int, data: bytes) -> Ancillary:
    """What tells the kernel to reply from the address this says; the interface is left to it."""
    if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO) and len(data) == _IN_PKTINFO.size:
        _, local, _ = _IN_PKTINFO.unpack(data)
        return [(level, kind, _IN_PKTINFO.pack(0, local, bytes(4)))]
    if (level, kind) == (socket.IPPROTO_IPV6, _IPV6_PKTINFO) and len(data) == _IN6_PKTINFO.size:
        address, _ = _IN6_PKTINFO.unpack(data)
        return [(level, kind, _IN6_PKTINFO.pack(address, 0))]
    return []
