"""The far engine of v3 informs, which has its own id, clock and keys (RFC 3414); octets in and out, no socket or clock.

The receiver of an inform is the authority, so it is asked first who it is and what time it has; what it says then need
not be true, because an inform sealed for another engine is merely not acknowledged.
"""

import attrs

from palatine.codec import ber, snmp, snmp_v3, usm
from palatine.codec.snmp import PduType
from palatine.codec.snmp_v3 import AUTH, LEVEL, PRIV, REPORTABLE, MessageV3, Scoped, Security
from palatine.errors import ProtocolError
from palatine_snmp_agent.scoped_pdu import write_pdu


@attrs.define
class V3Peer:
    """One far engine as one user talks to it; `engine_id` is empty while it is not known."""

    user: bytes
    secrets: usm.Secrets
    context: bytes = b""
    engine_id: bytes = b""
    keys: usm.Keys = attrs.field(factory=usm.Keys)
    _boots: int = 0
    #: The far engine's time less ours.
    _offset: float = 0.0

    def discovery(self, message_id: int) -> bytes:
        """The datagram that asks who is there."""
        pdu = write_pdu(PduType.GET, ber.signed_octets(message_id), 0, 0, b"")
        data = snmp_v3.write_scoped(Scoped(b"", b"", pdu))
        return snmp_v3.write_message(MessageV3(message_id, snmp.MAX_DATAGRAM, REPORTABLE, Security(), data))[0]

    def inform(self, pdu: bytes, message_id: int, salt: int, now: float) -> bytes:
        """The datagram of an inform; the engine must be known. `now` is any clock's seconds, always the same one's."""
        time = min(max(int(now + self._offset), 0), snmp_v3.MAX_NUMBER)
        security = Security(self.engine_id, self._boots, time, self.user)
        data = snmp_v3.write_scoped(Scoped(self.engine_id, self.context, pdu))
        flags = self.keys.level | REPORTABLE
        return usm.seal(MessageV3(message_id, snmp.MAX_DATAGRAM, flags, security, data), self.keys, salt)

    def received(self, datagram: bytes, message_id: int, request_id: int, now: float) -> str:
        """What an answer to the message of this id says.

        "acknowledged"; "learnt" where the engine or its time is known now and the inform is worth another try at once;
        "" for anything else, which is nothing to us.
        """
        try:
            message = snmp_v3.read_message(datagram)
            if message.message_id != message_id:
                return ""
            return self._read(datagram, message, request_id, now)
        except ProtocolError:
            return ""

    def _read(self, datagram: bytes, message: MessageV3, request_id: int, now: float) -> str:
        authentic = bool(message.flags & AUTH) and usm.authentic(datagram, message, self.keys)
        if message.flags & AUTH and not authentic:
            return ""
        plain = usm.opened(message, self.keys) if message.flags & PRIV else message.data
        scoped = snmp_v3.read_scoped(plain)
        pdu_type, at, end = ber.element(scoped.pdu, 0, len(scoped.pdu))
        number, at = ber.integer(scoped.pdu, at, end)
        if pdu_type == PduType.RESPONSE:
            right = number == request_id and message.flags & LEVEL == self.keys.level
            return "acknowledged" if right and message.security.engine_id == self.engine_id else ""
        if pdu_type != PduType.REPORT:
            return ""
        told = {oid for oid, _ in snmp.read_body(scoped.pdu[at:end]).varbinds}
        if snmp_v3.UNKNOWN_ENGINE in told:
            return self._learn(message.security, now)
        if snmp_v3.NOT_IN_TIME_WINDOW in told and authentic:
            return self._learn(message.security, now)
        return ""

    def _learn(self, security: Security, now: float) -> str:
        if not security.engine_id:
            return ""
        if security.engine_id != self.engine_id:
            self.engine_id = security.engine_id
            self.keys = self.secrets.towards(security.engine_id)
        self._boots = security.boots
        self._offset = security.time - now
        return "learnt"
