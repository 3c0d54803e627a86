"""SNMPv3 datagrams in, replies and Reports out (RFC 3412, RFC 3414); must never raise, wait or write anything.

The order of checks is RFC 3414 section 3.2's: engine, user, level, digest, time, privacy; then context and grant. What
fails is counted, and answered by a Report where the sender can be told; only a Report about the time is authenticated,
because a manager sets its clock by it. A message is read once, and what an unknown sender can cost is one Report no
longer than what he sent plus a hundred octets, so that nobody is worth being sent our Reports by forged addresses.
"""

import secrets
from collections.abc import Mapping
from typing import Final

import attrs

from palatine.codec import snmp, snmp_v3, usm
from palatine.codec.snmp import ErrorStatus, PduType, Varbind
from palatine.codec.snmp_v3 import AUTH, LEVEL, PRIV, REPORTABLE, MessageV3, Scoped, Security
from palatine.errors import ProtocolError
from palatine_snmp_agent.access_policy import Grant
from palatine_snmp_agent.desk import Desk
from palatine_snmp_agent.engine import Engine
from palatine_snmp_agent.responder import MALFORMED, UNKNOWN_PDU, Verdict
from palatine_snmp_agent.scoped_pdu import Request, read_request, refuse, respond, write_pdu

#: The agent's counter of each thing a Report tells.
_COUNTERS: Final = {
    snmp_v3.UNSUPPORTED_LEVEL: "usm_unsupported_sec_levels",
    snmp_v3.NOT_IN_TIME_WINDOW: "usm_not_in_time_windows",
    snmp_v3.UNKNOWN_USER: "usm_unknown_user_names",
    snmp_v3.UNKNOWN_ENGINE: "usm_unknown_engine_ids",
    snmp_v3.WRONG_DIGEST: "usm_wrong_digests",
    snmp_v3.DECRYPTION_ERROR: "usm_decryption_errors",
    snmp_v3.UNKNOWN_CONTEXT: "unknown_contexts",
    snmp_v3.UNKNOWN_PDU_HANDLER: "unknown_pdu_handlers",
}
#: Those of them that mean somebody who may not be who he says.
NOT_AUTHENTIC: Final = frozenset({"usm_unknown_user_names", "usm_wrong_digests", "usm_decryption_errors"})
#: Octets of a reply around its PDU: heads, our engine id twice, the longest user, digest, salt and context.
_AROUND: Final = 260
_NO_KEYS: Final = usm.Keys()
#: Digests that turn out wrong a second, of datagrams of throttled sources: a twentieth of a core.
MOST_WRONG_PROOFS: Final = 2000


@attrs.frozen
class User:
    """A user of USM, with his keys towards our engine."""

    name: bytes
    keys: usm.Keys
    grant: Grant


class _Report(Exception):  # noqa: N818 - it is an answer, not an error of ours
    """The sender is told that a counter was increased."""

    def __init__(self, counter: bytes, keys: usm.Keys = _NO_KEYS, request: Request | None = None) -> None:
        super().__init__(_COUNTERS[counter])
        self.counter = counter
        self.keys = keys
        self.request_id = request.request_id if request else b"\0"
        #: The message was all right as far as security goes: the Report is as safe as it was.
        self.within = request is not None


class UsmGate:
    """Lets users in to the views they may read."""

    def __init__(self, engine: Engine, users: Mapping[bytes, User]) -> None:
        self._engine = engine
        self._users = dict(users)
        self._counts = dict.fromkeys(_COUNTERS, 0)
        self._salt = secrets.randbits(64)
        # The engine's second, and how many proofs were wrong in it.
        self._wrong_proofs = 0, 0

    def replace(self, engine: Engine, users: Mapping[bytes, User]) -> None:
        """From here on these users are known, whose keys are towards this engine, ours."""
        self._engine = engine
        self._users = dict(users)

    def next_salt(self) -> int:
        """A salt no message of this start has had."""
        self._salt += 1
        return self._salt

    def answer(self, datagram: bytes, desk: Desk) -> Verdict:
        """The verdict on a datagram that says it is v3; contexts are `desk`'s."""
        try:
            message = snmp_v3.read_message(datagram)
        except snmp_v3.UnknownModelError:
            return Verdict("unknown_security_models")
        except snmp_v3.InvalidFlagsError:
            return Verdict("invalid_msgs")
        except ProtocolError:
            return Verdict(MALFORMED)
        try:
            user = self._let_in(datagram, message)
            return self._serve(message, user, desk)
        except _Report as report:
            return self._report(message, report)
        except ProtocolError:
            return Verdict(MALFORMED)

    def proves(self, datagram: bytes) -> bool:
        """Whether a datagram has a user's digest, as far as this second's wrong ones leave time to look."""
        second, failures = self._wrong_proofs
        if second != (now := self._engine.time()):
            failures = 0
        proven = failures < MOST_WRONG_PROOFS and self._has_digest(datagram)
        self._wrong_proofs = now, failures + (not proven)
        return proven

    def _has_digest(self, datagram: bytes) -> bool:
        try:
            message = snmp_v3.read_message(datagram)
        except ProtocolError:
            return False
        user = self._users.get(message.security.user)
        ours = message.security.engine_id == self._engine.id and bool(message.flags & AUTH)
        return ours and user is not None and usm.authentic(datagram, message, user.keys)

    def _let_in(self, datagram: bytes, message: MessageV3) -> User:
        security, flags = message.security, message.flags
        if security.engine_id != self._engine.id:
            raise _Report(snmp_v3.UNKNOWN_ENGINE)
        user = self._users.get(security.user)
        if user is None:
            raise _Report(snmp_v3.UNKNOWN_USER)
        if flags & LEVEL & ~user.keys.level:
            raise _Report(snmp_v3.UNSUPPORTED_LEVEL)
        if flags & AUTH:
            if not usm.authentic(datagram, message, user.keys):
                raise _Report(snmp_v3.WRONG_DIGEST)
            late = abs(security.time - self._engine.time()) > usm.TIME_WINDOW
            if late or security.boots != self._engine.boots or self._engine.boots == snmp_v3.MAX_NUMBER:
                raise _Report(snmp_v3.NOT_IN_TIME_WINDOW, user.keys)
        return user

    def _serve(self, message: MessageV3, user: User, desk: Desk) -> Verdict:
        level = message.flags & LEVEL
        try:
            scoped = snmp_v3.read_scoped(usm.opened(message, user.keys))
        except ProtocolError:
            if level & PRIV:
                raise _Report(snmp_v3.DECRYPTION_ERROR) from None
            raise
        most = min(desk.max_reply, message.max_size)
        request = read_request(scoped.pdu, most - _AROUND)
        if request is None:
            return Verdict(UNKNOWN_PDU)
        if scoped.engine_id != self._engine.id:
            raise _Report(snmp_v3.UNKNOWN_PDU_HANDLER, user.keys, request)
        context = scoped.context.decode("utf-8", "replace") or desk.own
        if not user.grant.allows(level, context):
            return self._refuse(message, user, scoped, request, most)
        view = desk.view(context, user.grant.families)
        if view is None:
            raise _Report(snmp_v3.UNKNOWN_CONTEXT, user.keys, request)
        verdict = respond(view, request, most - _AROUND)
        if verdict.reply is None:
            return verdict
        return verdict._replace(reply=self._reply(message, user.keys, scoped, verdict.reply))

    def _refuse(self, message: MessageV3, user: User, scoped: Scoped, request: Request, most: int) -> Verdict:
        """A user who is who he says, and may not look there: RFC 3413 section 3.2 (5), authorizationError."""
        verdict = refuse(request, int(ErrorStatus.AUTHORIZATION_ERROR), 0, most - _AROUND)
        assert verdict.reply is not None
        reply = self._reply(message, user.keys, scoped, verdict.reply)
        return verdict._replace(counter="in_bad_community_uses", reply=reply)

    def _reply(self, message: MessageV3, keys: usm.Keys, scoped: Scoped, pdu: bytes) -> bytes:
        """A message at the level of the one it answers."""
        engine = self._engine
        security = Security(engine.id, engine.boots, engine.time(), message.security.user)
        data = snmp_v3.write_scoped(Scoped(engine.id, scoped.context, pdu))
        flags = message.flags & LEVEL
        answer = MessageV3(message.message_id, snmp.MAX_DATAGRAM, flags, security, data)
        return usm.seal(answer, keys, self.next_salt() if flags & PRIV else 0)

    def _report(self, message: MessageV3, report: _Report) -> Verdict:
        count = self._counts[report.counter] = self._counts[report.counter] + 1
        counter = _COUNTERS[report.counter]
        if not message.flags & REPORTABLE:
            return Verdict(counter)
        varbind = snmp.write_varbind(Varbind(report.counter, snmp.counter32(count)))
        pdu = write_pdu(PduType.REPORT, report.request_id, 0, 0, varbind)
        flags = message.flags & LEVEL if report.within else AUTH if report.keys.auth else 0
        told = message._replace(flags=flags)
        return Verdict(counter, self._reply(told, report.keys, Scoped(b"", b"", pdu), pdu))
