"""Give bound sockets to the daemons that serve them: the giver's side, plain; it must never block its event loop.

A master binds what its config asks for (`stats`, `snmp`, `udp`) with the app's own rights and keeps every socket
open. A daemon connects to `<instance>/handoff` (SOCK_SEQPACKET), names the kinds it serves, and receives one record
per socket with the descriptor beside it (SCM_RIGHTS, unix(7)), then a record of kind `end`. The connection stays
open: its end tells either side that the other went.

Records are JSON objects of at most `RECORD_BYTES`:
    request  {"v": 1, "daemon": "stats-exporter", "kinds": ["stats"]}
    offer    {"v": 1, "kind": "stats", "name": "127.0.0.1:9191", "options": {"http": true}}
    end      {"v": 1, "kind": "end"}
"""

import grp
import json
import os
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from palatine.errors import ProtocolError
from palatine.places import GROUP

VERSION: Final = 1
RECORD_BYTES: Final = 4096
BACKLOG: Final = 16

_SO_PEERGROUPS: Final = 59  # <asm-generic/socket.h>; not in the socket module
_UCRED = struct.Struct("iII")


class Offer(NamedTuple):
    """One socket on offer: its kind, the address as configured, what the config says about it, and the descriptor."""

    kind: str
    name: str
    options: dict[str, Any]
    fd: int


class Wanted(NamedTuple):
    """What a daemon asked for."""

    daemon: str
    kinds: tuple[str, ...]


class Giver:
    """Listens on `path` and answers each daemon with the offers of the kinds it names.

    The owner watches `listener` and every accepted connection for reading in its own event loop, and calls `accept`
    and `answer`.
    """

    def __init__(self, path: Path | str, offers: Callable[[], Sequence[Offer]]) -> None:
        self.path = str(path)
        self._offers = offers
        self.listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        if os.path.lexists(self.path):
            os.unlink(self.path)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o660)
        self.listener.listen(BACKLOG)

    def accept(self) -> socket.socket | None:
        """The next connection whose peer may be given sockets; None when none waits or the peer has no right."""
        try:
            connection, _ = self.listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return None
        if may_take(connection):
            connection.setblocking(False)
            return connection
        connection.close()
        return None

    def answer(self, connection: socket.socket) -> Wanted | None:
        """Serve one request; None when the peer went or broke the protocol (the caller then closes the connection)."""
        try:
            data = connection.recv(RECORD_BYTES)
            if not data:
                return None
            wanted = decode_request(data)
            for offer in self._offers():
                if offer.kind in wanted.kinds:
                    record = {"v": VERSION, "kind": offer.kind, "name": offer.name, "options": offer.options}
                    socket.send_fds(connection, [json.dumps(record).encode()], [offer.fd])
            connection.send(json.dumps({"v": VERSION, "kind": "end"}).encode())
        except (OSError, ProtocolError):
            return None
        return wanted

    def close(self) -> None:
        """Stop listening and remove the path."""
        self.listener.close()
        if os.path.lexists(self.path):
            os.unlink(self.path)


def may_take(connection: socket.socket) -> bool:
    """Whether the peer may be given sockets: root, this very user, or a member of group palatine."""
    _, uid, gid = peer_credentials(connection)
    if uid in {0, os.geteuid()}:
        return True
    try:
        palatine = grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return False
    return palatine == gid or palatine in _peer_groups(connection)


def peer_credentials(connection: socket.socket) -> tuple[int, int, int]:
    """(pid, uid, gid) of the process at the other end, as the kernel recorded them at connect: unix(7), SO_PEERCRED."""
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid, gid


def decode_request(data: bytes) -> Wanted:
    """A request record as a value; ProtocolError when it is not one."""
    record = decode_record(data)
    daemon, kinds = record.get("daemon"), record.get("kinds")
    if not isinstance(daemon, str) or not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise ProtocolError("handoff request without daemon and kinds")
    return Wanted(daemon[:64], tuple(kinds[:16]))


def decode_record(data: bytes) -> dict[str, Any]:
    """Any record as a dict; ProtocolError when it is no JSON object of our version."""
    try:
        record = json.loads(data)
    except ValueError as error:
        raise ProtocolError("handoff record is not JSON") from error
    if not isinstance(record, dict) or record.get("v") != VERSION:
        raise ProtocolError("handoff record of another version")
    return record


def _peer_groups(connection: socket.socket) -> tuple[int, ...]:
    raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4096)
    return struct.unpack(f"{len(raw) // 4}I", raw)
