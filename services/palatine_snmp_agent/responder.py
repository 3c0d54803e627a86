"""A datagram and a view in, a reply or silence out; must never raise, wait, write to the view or know a socket.

- A wrong community, a version without one, a PDU that asks nothing and anything malformed get silence. Only the
  agent's counters know.
- A request that cannot be answered within `max_reply` octets gets tooBig, a GETBULK fewer repetitions.
- What a PDU comes to is `palatine_snmp_agent.pdu`'s business.
"""

import hmac
from typing import Final, NamedTuple

from palatine.codec import ber, snmp
from palatine.codec.snmp import ErrorStatus, PduType, Version
from palatine.errors import ProtocolError
from palatine_snmp_agent import pdu
from palatine_snmp_agent.pdu import RefusalError
from palatine_snmp_agent.view import Target, View, Writer

#: What an Ethernet frame holds after the heads of IPv4 and UDP: a reply is never fragmented.
MAX_REPLY: Final = 1472
#: Every manager takes this much: RFC 3417 section 3.2.1.
LEAST_MAX_REPLY: Final = 484
#: Requests remembered for each community of a socket, the latest new ones: managers poll the same over and over.
REMEMBERED: Final = 256
#: Octets of the longest request remembered: a GET of 35 of uWSGI's names.
REMEMBERED_OCTETS: Final = 600
#: Cells looked at by the longest walk's step remembered.
REMEMBERED_CELLS: Final = 200
#: Lengths of an answer whose frames are remembered with a GET.
_REMEMBERED_FRAMES: Final = 8

#: Verdicts: the field of the agent's counter table that a datagram is counted in.
GET: Final = "get_requests"
GET_NEXT: Final = "getnext_requests"
GET_BULK: Final = "getbulk_requests"
SET: Final = "set_requests"
MALFORMED: Final = "in_asn_parse_errs"
BAD_VERSION: Final = "in_bad_versions"
BAD_COMMUNITY: Final = "in_bad_community_names"
UNKNOWN_PDU: Final = "unknown_pdus"

_REQUESTS: Final[dict[int, str]] = {
    PduType.GET: GET,
    PduType.GET_NEXT: GET_NEXT,
    PduType.GET_BULK: GET_BULK,
    PduType.SET: SET,
}
_GET: Final = int(PduType.GET)
_RESPONSE: Final = int(PduType.RESPONSE)
_V1: Final = int(Version.V1)
#: Most octets of a reply that are neither its version, its community nor its varbinds: four heads of at most 4 octets,
#: request-id, error-status and error-index.
_FRAME: Final = 4 * 4 + 3 * 7


class Verdict(NamedTuple):
    """What became of a datagram: its counter, the reply if there is one, its error-status, and the names it answers."""

    counter: str
    reply: bytes | None = None
    status: int = 0
    names: int = 0


class _Plan(NamedTuple):
    """A request read before: with whatever request-id it comes again, it is answered from these cells.

    A Get (`targets` are its names) is answered if all have values; a step of a walk by the first `wanted` values there
    are, since the cells are all that follow a name. `frames` has, by the octets of the varbinds, what stands in the
    reply before the request-id and after it. A datagram that cannot be answered so is read as if it were the first.
    """

    counter: str
    version: int
    body: bytes
    targets: tuple[Target, ...]
    writers: tuple[Writer, ...]
    wanted: int
    frames: dict[int, tuple[bytes, bytes]]


class Responder:
    """Answers what comes in on one socket, from one view; an empty community matches nothing.

    A manager polls the same names over and over: its datagrams differ in their request-id only. What a request came to
    is remembered by all its octets before and after the request-id. The last one before it is its length, so a datagram
    that agrees in all of them, community included, is the same request and need not be read again. Only cells are
    remembered, never values.
    """

    def __init__(self, view: View, community: bytes, max_reply: int = MAX_REPLY) -> None:
        self._view = view
        self._community = community
        self._max_reply = max(max_reply, LEAST_MAX_REPLY)
        self._heads = [snmp.write_head(version, community) for version in range(Version.V3)]
        self._room = self._max_reply - len(self._heads[0]) - _FRAME
        self._plans: dict[tuple[bytes, bytes], _Plan] = {}
        # Where the request-id began in the last request remembered of a length.
        self._request_id_at: dict[int, int] = {}
        self._generation = view.generation

    def knows(self, community: bytes) -> bool:
        """Whether a message that names this community is answered."""
        return bool(community) and hmac.compare_digest(community, self._community)

    def answer(self, datagram: bytes) -> Verdict:
        """The verdict on one datagram."""
        at = self._request_id_at.get(len(datagram))
        if at is not None:
            end = at + datagram[at - 1]
            plan = self._plans.get((datagram[:at], datagram[end:]))
            if plan is not None and self._begin():
                verdict = self._answer_again(plan, datagram[at:end])
                if verdict is not None:
                    return verdict
        return self._read(datagram)

    def _begin(self) -> bool:
        """Begin to look; False if cells came or went, so that what is remembered is forgotten."""
        self._view.begin()
        if self._view.generation == self._generation:
            return True
        self._plans.clear()
        self._generation = self._view.generation
        return False

    def _answer_again(self, plan: _Plan, request_id: bytes) -> Verdict | None:
        """The verdict on a request remembered; None where it takes more than that."""
        try:
            written = [write() for write in plan.writers]
        except ProtocolError:
            written = []
        wanted = plan.wanted
        if not all(written) or not written:
            written = [varbind for varbind in written if varbind][:wanted]
        if len(written) == wanted:
            varbinds = b"".join(written)
            frame = plan.frames.get(len(varbinds))
            if frame is not None:
                return Verdict(plan.counter, frame[0] + request_id + frame[1] + varbinds, 0, wanted)
        return self._get(plan, request_id) if plan.targets else None

    def _read(self, datagram: bytes) -> Verdict:
        try:
            version, community, pdu_type, request_id, octets = envelope = snmp.open_envelope(datagram)
            if not self.knows(community):
                return Verdict(BAD_COMMUNITY)
            counter = _REQUESTS.get(pdu_type, UNKNOWN_PDU)
            if counter == UNKNOWN_PDU or (version == _V1 and counter == GET_BULK):
                return Verdict(UNKNOWN_PDU)
            if len(octets) > self._max_reply:  # its names alone do not fit into a reply; 5 ms to read 2,000
                return self._refuse(counter, version, request_id, octets, RefusalError(ErrorStatus.TOO_BIG))
            body = snmp.read_body(octets)
        except snmp.VersionError:
            return Verdict(BAD_VERSION)
        except ProtocolError:
            return Verdict(MALFORMED)
        self._begin()
        if pdu_type == _GET:
            targets = tuple([self._view.target(varbind.oid) for varbind in body.varbinds])
            writers = tuple([target.write for target in targets])
            plan = _Plan(GET, version, octets, targets, writers, len(targets), {})
            self._remember(datagram, envelope, plan)
            return self._get(plan, request_id)
        visited: list[Writer] = []
        try:
            written = pdu.answer(self._view, version, pdu_type, body, self._room, visited)
            verdict = self._reply(counter, version, request_id, written)
        except RefusalError as refusal:
            return self._refuse(counter, version, request_id, octets, refusal)
        if 0 < len(visited) <= REMEMBERED_CELLS and pdu.is_one_column(version, body) and not _ended(written):
            plan = _Plan(counter, version, octets, (), tuple(visited), len(written), {})
            self._frame(plan, verdict, written, request_id)
            self._remember(datagram, envelope, plan)
        return verdict

    def _remember(self, datagram: bytes, envelope: snmp.Envelope, plan: _Plan) -> None:
        if len(datagram) > REMEMBERED_OCTETS:
            return
        end = len(datagram) - len(envelope.body)
        at = end - len(envelope.request_id)
        key = datagram[:at], datagram[end:]
        if key not in self._plans and len(self._plans) >= REMEMBERED:
            del self._plans[next(iter(self._plans))]
        self._plans[key] = plan
        self._request_id_at[len(datagram)] = at

    def _get(self, plan: _Plan, request_id: bytes) -> Verdict:
        version = plan.version
        try:
            written = pdu.get(version, plan.targets)
            verdict = self._reply(GET, version, request_id, written)
        except RefusalError as refusal:
            return self._refuse(GET, version, request_id, plan.body, refusal)
        self._frame(plan, verdict, written, request_id)
        return verdict

    @staticmethod
    def _frame(plan: _Plan, verdict: Verdict, written: list[bytes], request_id: bytes) -> None:
        """Remember what stands around the varbinds of a reply."""
        if len(plan.frames) < _REMEMBERED_FRAMES and verdict.reply is not None:
            size = sum(map(len, written))
            after = len(verdict.reply) - len(snmp.NO_ERROR) - len(ber.encode_length(size)) - 1 - size
            frame = verdict.reply[: after - len(request_id)], verdict.reply[after : len(verdict.reply) - size]
            plan.frames[size] = frame

    def _reply(self, counter: str, version: int, request_id: bytes, written: list[bytes]) -> Verdict:
        """The reply without an error; RefusalError where it is too long."""
        reply = snmp.write_pdu(self._heads[version], _RESPONSE, request_id, 0, 0, b"".join(written))
        if len(reply) > self._max_reply:
            raise RefusalError(ErrorStatus.TOO_BIG)
        return Verdict(counter, reply, 0, len(written))

    def _refuse(self, counter: str, version: int, request_id: bytes, octets: bytes, refusal: RefusalError) -> Verdict:
        head = self._heads[version]
        sent_back = version == _V1 or refusal.status != ErrorStatus.TOO_BIG
        if sent_back and len(octets) <= self._max_reply:
            names = b"".join(map(snmp.write_varbind, snmp.read_body(octets).varbinds))
            reply = snmp.write_pdu(head, _RESPONSE, request_id, refusal.status, refusal.index, names)
            if len(reply) <= self._max_reply:
                return Verdict(counter, reply, refusal.status)
        # v2c's form; v1's too where the request itself is longer than a reply may be and cannot be sent back.
        status = int(ErrorStatus.TOO_BIG)
        return Verdict(counter, snmp.write_pdu(head, _RESPONSE, request_id, status, 0, b""), status)


def _ended(written: list[bytes]) -> bool:
    """Whether a walk's step came to the end, or to nothing."""
    return not written or written[-1].endswith(snmp.END_OF_MIB_VIEW)
