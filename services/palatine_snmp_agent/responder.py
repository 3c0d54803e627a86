"""A datagram and a view in, a reply or silence out; must never raise, wait, write to the view or know a socket.

Rules: RFC 1157 for v1, RFC 3416 for v2c, and these choices:

- A wrong community, a version without one, a PDU that asks nothing and anything malformed get silence. Only the
  agent's counters know.
- v1 has no Counter64 (RFC 3584 section 4.2.2.1). Its walks skip such cells; its exact GETs are answered all the same,
  because uWSGI does: a v1 manager that has polled the request counter of a uWSGI for years would otherwise lose the
  only number it asks for.
- A request that cannot be answered within `max_reply` octets gets tooBig, a GETBULK fewer repetitions. The same goes
  for one that makes the agent pass over more than `MAX_SKIPPED` cells: the remedy, fewer names, is the same.
- A cell that cannot be read (its segment was cut short) is genErr at its index.
"""

import hmac
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Final, NamedTuple, TypeVar

from palatine.codec import ber, snmp
from palatine.codec.snmp import Body, ErrorStatus, PduType, Version
from palatine.errors import ProtocolError
from palatine_snmp_agent.view import EXCEPTIONS, Target, View

#: What an Ethernet frame holds after the heads of IPv4 and UDP: a reply is never fragmented.
MAX_REPLY: Final = 1472
#: Every manager takes this much: RFC 3417 section 3.2.1.
LEAST_MAX_REPLY: Final = 484
#: Cells without a value that one datagram may make the agent pass over: 2 ms at most.
MAX_SKIPPED: Final = 5000
#: Rows of a GETBULK, whatever `max_reply` would hold.
MAX_REPETITIONS: Final = 1000
#: Sets of names whose GET is remembered, per socket: managers poll the same few over and over.
REMEMBERED_GETS: Final = 32
#: Octets of the longest GET remembered: one of 35 of uWSGI's names.
REMEMBERED_OCTETS: Final = 600

_T = TypeVar("_T")

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
_V1: Final = int(Version.V1)
#: Tags of what a walk passes over.
_PASSED_OVER: Final = frozenset({ber.NULL, *range(EXCEPTIONS, 0x100)})
_PASSED_OVER_BY_V1: Final = _PASSED_OVER | {snmp.COUNTER64}
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
    """A GET read before: with whatever request-id it comes again, it is answered from these targets."""

    version: int
    body: bytes
    targets: tuple[Target, ...]


class _Refusal(Exception):  # noqa: N818 - it is an answer, not an error of ours
    """The request gets an error-status; `index` counts its varbinds from 1."""

    def __init__(self, status: ErrorStatus, index: int = 0) -> None:
        super().__init__(status.name)
        self.status = int(status)
        self.index = index


class Responder:
    """Answers what comes in on one socket, from one view; an empty community matches nothing.

    A manager polls the same names over and over: its datagrams differ in their request-id only. What a GET came to is
    remembered by all its octets before and after the request-id. The last one before it is its length, so a datagram
    that agrees in all of them, community included, is the same GET and need not be read again.
    """

    def __init__(self, view: View, community: bytes, max_reply: int = MAX_REPLY) -> None:
        self._view = view
        self._community = community
        self._max_reply = max(max_reply, LEAST_MAX_REPLY)
        self._heads = [snmp.write_head(version, community) for version in range(Version.V3)]
        self._room = self._max_reply - len(self._heads[0]) - _FRAME
        self._plans: dict[tuple[bytes, bytes], _Plan] = {}
        # Where the request-id began in the last GET remembered, by the octet that tells the form of its outer length.
        self._request_id_at: dict[bytes, int] = {}
        self._services = {GET_NEXT: self._get_next, GET_BULK: self._get_bulk, SET: self._set}

    def answer(self, datagram: bytes) -> Verdict:
        """The verdict on one datagram."""
        at = self._request_id_at.get(datagram[1:2], 0)
        if 0 < at < len(datagram):
            end = at + datagram[at - 1]
            plan = self._plans.get((datagram[:at], datagram[end:]))
            if plan is not None:
                version, body, targets = plan
                return self._serve(GET, version, datagram[at:end], body, self._get, targets)
        return self._read(datagram)

    def _read(self, datagram: bytes) -> Verdict:
        try:
            version, community, pdu_type, request_id, octets = envelope = snmp.open_envelope(datagram)
            if not (community and hmac.compare_digest(community, self._community)):
                return Verdict(BAD_COMMUNITY)
            body = snmp.read_body(octets)
        except snmp.VersionError:
            return Verdict(BAD_VERSION)
        except ProtocolError:
            return Verdict(MALFORMED)
        counter = _REQUESTS.get(pdu_type, UNKNOWN_PDU)
        if counter == UNKNOWN_PDU or (version == _V1 and counter == GET_BULK):
            return Verdict(UNKNOWN_PDU)
        if len(octets) > self._max_reply:  # its names alone do not fit into a reply
            return self._refuse(counter, version, request_id, octets, _Refusal(ErrorStatus.TOO_BIG))
        if counter == GET:
            targets = tuple([self._view.target(varbind.oid) for varbind in body.varbinds])
            self._remember(datagram, envelope, targets)
            return self._serve(GET, version, request_id, octets, self._get, targets)
        return self._serve(counter, version, request_id, octets, self._services[counter], body)

    def _remember(self, datagram: bytes, envelope: snmp.Envelope, targets: tuple[Target, ...]) -> None:
        if len(datagram) > REMEMBERED_OCTETS:
            return
        end = len(datagram) - len(envelope.body)
        at = end - len(envelope.request_id)
        if len(self._plans) >= REMEMBERED_GETS:
            self._plans.clear()
        self._plans[datagram[:at], datagram[end:]] = _Plan(envelope.version, envelope.body, targets)
        self._request_id_at[datagram[1:2]] = at

    def _serve(
        self,
        counter: str,
        version: int,
        request_id: bytes,
        octets: bytes,
        serve: Callable[[int, _T], list[bytes]],
        what: _T,
    ) -> Verdict:
        """The verdict on a request read without fault; `octets` is its body, `what` the same as `serve` wants it."""
        try:
            written = serve(version, what)
            head = self._heads[version]
            reply = snmp.write_pdu(head, PduType.RESPONSE, request_id, 0, 0, b"".join(written))
            if len(reply) > self._max_reply:
                raise _Refusal(ErrorStatus.TOO_BIG)
        except _Refusal as refusal:
            return self._refuse(counter, version, request_id, octets, refusal)
        return Verdict(counter, reply, 0, len(written))

    def _refuse(self, counter: str, version: int, request_id: bytes, octets: bytes, refusal: _Refusal) -> Verdict:
        head = self._heads[version]
        sent_back = version == _V1 or refusal.status != ErrorStatus.TOO_BIG
        if sent_back and len(octets) <= self._max_reply:
            names = b"".join(map(snmp.write_varbind, snmp.read_body(octets).varbinds))
            reply = snmp.write_pdu(head, PduType.RESPONSE, request_id, refusal.status, refusal.index, names)
            if len(reply) <= self._max_reply:
                return Verdict(counter, reply, refusal.status)
        # v2c's form; v1's too where the request itself is longer than a reply may be and cannot be sent back.
        status = int(ErrorStatus.TOO_BIG)
        return Verdict(counter, snmp.write_pdu(head, PduType.RESPONSE, request_id, status, 0, b""), status)

    def _get(self, version: int, targets: tuple[Target, ...]) -> list[bytes]:
        self._view.begin()
        written: list[bytes] = []
        try:
            for name, read in targets:
                value = read()
                if value[0] >= EXCEPTIONS and version == _V1:
                    raise _Refusal(ErrorStatus.NO_SUCH_NAME, len(written) + 1)
                written.append(ber.encode(ber.SEQUENCE, name + value))
        except ProtocolError as error:
            raise _Refusal(ErrorStatus.GEN_ERR, len(written) + 1) from error
        return written

    def _get_next(self, version: int, body: Body) -> list[bytes]:
        walk = _Walk(self._view, hide_counter64=version == _V1)
        written: list[bytes] = []
        try:
            for varbind in body.varbinds:
                step = next(walk.steps(varbind.oid), None)
                if step is None:
                    raise _Refusal(ErrorStatus.TOO_BIG)
                written.append(step)
                if walk.ended and version == _V1:
                    raise _Refusal(ErrorStatus.NO_SUCH_NAME, len(written))
        except ProtocolError as error:
            raise _Refusal(ErrorStatus.GEN_ERR, len(written) + 1) from error
        return written

    def _get_bulk(self, _version: int, body: Body) -> list[bytes]:
        once = max(body.non_repeaters, 0)
        repetitions = min(max(body.max_repetitions, 0), MAX_REPETITIONS)
        names = [varbind.oid for varbind in body.varbinds]
        written: list[bytes] = []
        try:
            room = self._rows(names[:once], 1, written, self._room)
            self._rows(names[once:], repetitions, written, room)
        except ProtocolError as error:
            raise _Refusal(ErrorStatus.GEN_ERR, 1) from error
        return written

    def _rows(self, names: list[bytes], repetitions: int, written: list[bytes], room: int) -> int:
        """Add up to so many rows of what follows each name, as long as there is room; returns what is left of it."""
        walk = _Walk(self._view, hide_counter64=False)
        columns = [walk.steps(name) for name in names]
        for column in chain.from_iterable(repeat(columns, repetitions)):
            step = next(column, None)
            if step is None or len(step) > room:
                return 0
            room -= len(step)
            written.append(step)
            if walk.ended == len(columns) and column is columns[-1]:
                break
        return room

    def _set(self, version: int, body: Body) -> list[bytes]:
        if not body.varbinds:
            return []
        # RFC 1157 section 4.1.5 names this noSuchName, not readOnly; RFC 3416 section 4.2.5 (2) notWritable.
        raise _Refusal(ErrorStatus.NO_SUCH_NAME if version == _V1 else ErrorStatus.NOT_WRITABLE, 1)


class _Walk:
    """The steps one datagram makes through a view; counts the columns that came to the end."""

    def __init__(self, view: View, *, hide_counter64: bool) -> None:
        view.begin()
        self._view = view
        self._passed_over = _PASSED_OVER_BY_V1 if hide_counter64 else _PASSED_OVER
        self._patience = MAX_SKIPPED
        self.ended = 0

    def steps(self, oid: bytes) -> Iterator[bytes]:
        """The varbinds after a name, written; then, for ever, the last name with endOfMibView.

        Stops where the datagram has made us pass over too many cells.
        """
        passed_over, encode, sequence = self._passed_over, ber.encode, ber.SEQUENCE  # looked up once, not 60 times
        last = ber.encode(ber.OBJECT_IDENTIFIER, oid)
        for name, read in self._view.after(oid):
            value = read()
            if value[0] not in passed_over:
                last = name
                yield encode(sequence, name + value)
            elif self._patience:
                self._patience -= 1
            else:
                return
        self.ended += 1
        while True:
            yield encode(sequence, last + snmp.END_OF_MIB_VIEW)
