"""Sends one notification to one target, once; must never decide whether it is sent again.

Every sending has a socket of its own, so that informs under way do not get each other's answers, and so that a name is
looked up again and a network that came back is used.
"""

import itertools
import secrets
import socket
from typing import Final

import attrs
import trio

from palatine.codec import snmp, snmp_v3, usm
from palatine.codec.ber import Oid, oid_arcs, parse_oid
from palatine.codec.snmp_v3 import MessageV3, Scoped, Security
from palatine.udp import open_udp
from palatine_snmp_agent.engine import Engine
from palatine_snmp_agent.notices import Notice, acknowledged, message_v2c, notification_pdu, trap_v1
from palatine_snmp_agent.settings import Settings, TargetLine, UserLine, parse_address
from palatine_snmp_agent.usm_gate import UsmGate
from palatine_snmp_agent.v3_peer import V3Peer

#: Questions an inform of v3 may take: who are you, what is your time, and the inform itself, with one more for luck.
_EXCHANGES: Final = 4
_NOWHERE: Final = bytes(4)


def targets_of(settings: Settings, engine: Engine, gate: UsmGate) -> dict[str, "Target"]:
    """The configured targets by what they are called; takes some milliseconds for each user of v3."""
    users = {user.name: user for user in settings.users}
    base = oid_arcs(parse_oid(settings.base))
    return {line.called: Target.made(line, users.get(line.user), base, engine, gate) for line in settings.targets}


@attrs.define(eq=False)
class Target:
    """A configured target and, for v3, its user's keys: `keys` towards our engine for traps, `peer` for informs."""

    line: TargetLine
    base: Oid
    engine: Engine
    gate: UsmGate
    keys: usm.Keys
    peer: V3Peer | None
    _numbers: "itertools.count[int]" = attrs.field(factory=lambda: itertools.count(secrets.randbelow(1 << 30)))

    @classmethod
    def made(cls, line: TargetLine, user: UserLine | None, base: Oid, engine: Engine, gate: UsmGate) -> "Target":
        """A target; `user` is v3's. Makes keys, which takes some milliseconds."""
        if line.version != "v3" or user is None:
            return cls(line, base, engine, gate, usm.Keys(), None)
        known = user.secrets()
        peer = V3Peer(line.user.encode(), known, line.context.encode())
        return cls(line, base, engine, gate, known.towards(engine.id), peer)

    async def trap(self, notice: Notice) -> None:
        """Send a trap; whether it arrives nobody knows. OSError if it cannot be sent."""
        with await self._connected() as sock:
            await sock.send(self._trap(notice, sock))

    async def inform(self, notice: Notice) -> bool:
        """Send an inform, and whether it was acknowledged within `timeout` seconds. OSError if it cannot be sent."""
        with trio.move_on_after(self.line.timeout):
            with await self._connected() as sock:
                if self.peer is not None:
                    return await self._inform_v3(self.peer, notice, sock)
                return await self._inform_v2c(notice, sock)
        return False

    def _number(self) -> int:
        return next(self._numbers) & snmp_v3.MAX_NUMBER

    async def _connected(self) -> trio.socket.SocketType:
        return await open_udp(*parse_address(self.line.address))

    def _trap(self, notice: Notice, sock: trio.socket.SocketType) -> bytes:
        community = self._community()
        if self.line.version == "v1":
            own = sock.getsockname()[0]
            address = socket.inet_aton(own) if sock.family == socket.AF_INET else _NOWHERE
            return trap_v1(notice, community, address, self.base)
        pdu = notification_pdu(notice, self._number(), inform=False, base=self.base)
        if self.line.version == "v2c":
            return message_v2c(pdu, community)
        engine, flags = self.engine, self.keys.level
        security = Security(engine.id, engine.boots, engine.time(), self.line.user.encode())
        data = snmp_v3.write_scoped(Scoped(engine.id, self.line.context.encode(), pdu))
        message = MessageV3(self._number(), snmp.MAX_DATAGRAM, flags, security, data)
        return usm.seal(message, self.keys, self.gate.next_salt())

    async def _inform_v2c(self, notice: Notice, sock: trio.socket.SocketType) -> bool:
        request_id, community = self._number(), self._community()
        await sock.send(message_v2c(notification_pdu(notice, request_id, inform=True, base=self.base), community))
        while not acknowledged(await sock.recv(snmp.MAX_DATAGRAM), community, request_id):
            continue
        return True

    async def _inform_v3(self, peer: V3Peer, notice: Notice, sock: trio.socket.SocketType) -> bool:
        request_id = self._number()
        pdu = notification_pdu(notice, request_id, inform=True, base=self.base)
        for _ in range(_EXCHANGES):
            message_id, now = self._number(), trio.current_time()
            if peer.engine_id:
                await sock.send(peer.inform(pdu, message_id, self.gate.next_salt(), now))
            else:
                await sock.send(peer.discovery(message_id))
            said = ""
            while not said:
                said = peer.received(await sock.recv(snmp.MAX_DATAGRAM), message_id, request_id, trio.current_time())
            if said == "acknowledged":
                return True
        return False

    def _community(self) -> bytes:
        return self.line.community.value.encode() if self.line.community else b""
