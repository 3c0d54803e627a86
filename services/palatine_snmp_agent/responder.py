"""A datagram and a view in, a reply or silence out; must never raise, wait, write to the view or know a socket.

Rules: RFC 1157 for v1, RFC 3416 for v2c, and these choices:

- A wrong community, a version without one, a PDU that asks nothing and anything malformed get silence. Only the
  agent's counters know.
- v1 has no Counter64 (RFC 3584 section 4.2.2.1). Its walks skip such cells; its exact GETs are answered all the same,
  because uWSGI does: a v1 manager that has polled the request counter of a uWSGI for years would otherwise lose the
  only number it asks for.
- A request that cannot be answered within `max_reply` octets gets tooBig, a GETBULK fewer repetitions. The same goes
  for one that makes the agent look at more than `MAX_LOOKS` cells: the manager's remedy, fewer names, is the same.
- A cell that cannot be read (its segment was cut short) is genErr at its index.
"""

import hmac
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from palatine.codec import ber, snmp
from palatine.codec.snmp import Body, ErrorStatus, PduType, Version
from palatine.errors import ProtocolError
from palatine_snmp_agent.view import Target, View

#: What an Ethernet frame holds after the heads of IPv4 and UDP: a reply is never fragmented.
MAX_REPLY: Final = 1472
#: Every manager takes this much: RFC 3417 section 3.2.1.
LEAST_MAX_REPLY: Final = 484
#: Cells one datagram may make the agent read on a walk: 2 ms at most.
MAX_LOOKS: Final = 5000
#: Rows of a GETBULK, whatever `max_reply` would hold.
MAX_REPETITIONS: Final = 1000
#: Sets of names whose GET is remembered, per socket: managers poll the same few over and over.
REMEMBERED_GETS: Final = 32
#: Octets of the largest GET remembered, so that all of them together stay below half a MiB.
REMEMBERED_OCTETS: Final = 600

#: Verdicts: the field of the agent's counter table that a datagram is counted in.
GET: Final = "get_requests"
GET_NEXT: Final = "getnext_requests"
GET_BULK: Final = "getbulk_requests"
SET: Final = "set_requests"
MALFORMED: Final = "in_asn_parse_errs"
BAD_VERSION: Final = "in_bad_versions"
BAD_COMMUNITY: Final = "in_bad_community_names"
UNKNOWN_PDU: Final = "unknown_pdus"

_V1: Final = int(Version.V1)
#: Tags of noSuchObject, noSuchInstance and endOfMibView begin here; those of values are below.
_EXCEPTIONS: Final = 0x80
#: Most octets of a reply that are neither its version, its community nor its varbinds: four heads of at most 4 octets,
#: request-id, error-status and error-index.
_FRAME: Final = 4 * 4 + 3 * 7


class Verdict(NamedTuple):
    """What became of a datagram: its counter, the reply if there is one, its error-status, and the names it answers."""

    counter: str
    reply: bytes | None = None
    status: int = 0
    names: int = 0


class _Answer(NamedTuple):
    """What goes into a reply: varbinds already written, and how many names they answer."""

    varbinds: bytes
    names: int


class _Refusal(Exception):  # noqa: N818 - it is an answer, not an error of ours
    """The request gets an error-status; `index` counts its varbinds from 1."""

    def __init__(self, status: ErrorStatus, index: int = 0) -> None:
        super().__init__(status.name)
        self.status = int(status)
        self.index = index


class Responder:
    """Answers what comes in on one socket, from one view; an empty community matches nothing."""

    def __init__(self, view: View, community: bytes, max_reply: int = MAX_REPLY) -> None:
        self._view = view
        self._community = community
        self._max_reply = max(max_reply, LEAST_MAX_REPLY)
        self._heads = [snmp.write_head(version, community) for version in range(Version.V3)]
        self._room = self._max_reply - len(self._heads[0]) - _FRAME
        self._remembered_targets = lru_cache(REMEMBERED_GETS)(self._targets)
        self._services: dict[int, tuple[str, Callable[[int, bytes], _Answer]]] = {
            PduType.GET: (GET, self._get),
            PduType.GET_NEXT: (GET_NEXT, self._get_next),
            PduType.GET_BULK: (GET_BULK, self._get_bulk),
            PduType.SET: (SET, self._set),
        }

    def answer(self, datagram: bytes) -> Verdict:
        """The verdict on one datagram."""
        try:
            envelope = snmp.open_envelope(datagram)
        except snmp.VersionError:
            return Verdict(BAD_VERSION)
        except ProtocolError:
            return Verdict(MALFORMED)
        version, community, pdu_type, request_id, body = envelope
        if not (community and hmac.compare_digest(community, self._community)):
            return Verdict(BAD_COMMUNITY)
        counter, serve = self._services.get(pdu_type, (UNKNOWN_PDU, None))
        if serve is None or (version == _V1 and counter == GET_BULK):
            return Verdict(UNKNOWN_PDU)
        try:
            varbinds, names = serve(version, body)
        except ProtocolError:
            return Verdict(MALFORMED)
        except _Refusal as refusal:
            return self._refuse(counter, envelope, refusal)
        reply = snmp.write_pdu(self._heads[version], PduType.RESPONSE, request_id, 0, 0, varbinds)
        if len(reply) > self._max_reply:
            return self._refuse(counter, envelope, _Refusal(ErrorStatus.TOO_BIG))
        return Verdict(counter, reply, 0, names)

    def _refuse(self, counter: str, envelope: snmp.Envelope, refusal: _Refusal) -> Verdict:
        """The verdict with an error in it; the envelope's body has been read without fault."""
        head = self._heads[envelope.version]
        status, index = refusal.status, refusal.index
        if status != ErrorStatus.TOO_BIG or envelope.version == _V1:
            names = b"".join(map(snmp.write_varbind, snmp.read_body(envelope.body).varbinds))
            reply = snmp.write_pdu(head, PduType.RESPONSE, envelope.request_id, status, index, names)
            if len(reply) <= self._max_reply:
                return Verdict(counter, reply, status)
        # v2c's form; v1's too where the request itself is longer than a reply may be and cannot be sent back.
        status = int(ErrorStatus.TOO_BIG)
        return Verdict(counter, snmp.write_pdu(head, PduType.RESPONSE, envelope.request_id, status, 0, b""), status)

    def _read(self, octets: bytes) -> Body:
        body = snmp.read_body(octets)
        if len(octets) > self._max_reply:  # the names alone do not fit into a reply
            raise _Refusal(ErrorStatus.TOO_BIG)
        return body

    def _targets(self, octets: bytes) -> tuple[Target, ...]:
        return tuple(self._view.target(varbind.oid) for varbind in self._read(octets).varbinds)

    def _get(self, version: int, octets: bytes) -> _Answer:
        find = self._remembered_targets if len(octets) <= REMEMBERED_OCTETS else self._targets
        targets = find(octets)
        self._view.begin()
        written: list[bytes] = []
        try:
            for name, read in targets:
                value = read()
                if value[0] >= _EXCEPTIONS and version == _V1:
                    raise _Refusal(ErrorStatus.NO_SUCH_NAME, len(written) + 1)
                written.append(ber.encode(ber.SEQUENCE, name + value))
        except ProtocolError as error:
            raise _Refusal(ErrorStatus.GEN_ERR, len(written) + 1) from error
        return _Answer(b"".join(written), len(written))

    def _get_next(self, version: int, octets: bytes) -> _Answer:
        body = self._read(octets)
        walk = _Walk(self._view, hide_counter64=version == _V1)
        written: list[bytes] = []
        try:
            for varbind in body.varbinds:
                cursor = _Cursor(self._view, varbind.oid)
                written.append(walk.step(cursor))
                if cursor.ended and version == _V1:
                    raise _Refusal(ErrorStatus.NO_SUCH_NAME, len(written))
                if walk.looks > MAX_LOOKS:
                    raise _Refusal(ErrorStatus.TOO_BIG)
        except ProtocolError as error:
            raise _Refusal(ErrorStatus.GEN_ERR, len(written) + 1) from error
        return _Answer(b"".join(written), len(written))

    def _get_bulk(self, _version: int, octets: bytes) -> _Answer:
        body = self._read(octets)
        walk = _Walk(self._view, hide_counter64=False)
        cursors = [_Cursor(self._view, varbind.oid) for varbind in body.varbinds]
        once = max(body.non_repeaters, 0)
        written: list[bytes] = []
        try:
            room = walk.row(cursors[:once], written, self._room)
            for _ in range(min(body.max_repetitions, MAX_REPETITIONS)):
                room = walk.row(cursors[once:], written, room)
                if room < 0 or all(cursor.ended for cursor in cursors[once:]):
                    break
        except ProtocolError as error:
            raise _Refusal(ErrorStatus.GEN_ERR, 1) from error
        return _Answer(b"".join(written), len(written))

    def _set(self, version: int, octets: bytes) -> _Answer:
        if not self._read(octets).varbinds:
            return _Answer(b"", 0)
        # RFC 1157 section 4.1.5 names this noSuchName, not readOnly; RFC 3416 section 4.2.5 (2) notWritable.
        raise _Refusal(ErrorStatus.NO_SUCH_NAME if version == _V1 else ErrorStatus.NOT_WRITABLE, 1)


class _Cursor:
    """Where the walk of one requested name has come to."""

    __slots__ = ("ended", "name", "position")

    def __init__(self, view: View, oid: bytes) -> None:
        self.name = ber.encode(ber.OBJECT_IDENTIFIER, oid)
        self.position = view.position(oid)
        self.ended = False


class _Walk:
    """The steps one datagram makes through a view."""

    def __init__(self, view: View, *, hide_counter64: bool) -> None:
        view.begin()
        self._view = view
        self._hide_counter64 = hide_counter64
        self.looks = 0

    def step(self, cursor: _Cursor) -> bytes:
        """The varbind after the cursor, written; the cursor's own name and endOfMibView where there is none."""
        found = None if cursor.ended else self._view.following(cursor.position, hide_counter64=self._hide_counter64)
        if found is None:
            self.looks += 0 if cursor.ended else len(self._view) - cursor.position
            cursor.ended = True
            return ber.encode(ber.SEQUENCE, cursor.name + snmp.END_OF_MIB_VIEW)
        self.looks += found.position - cursor.position
        cursor.position, cursor.name, value = found
        return ber.encode(ber.SEQUENCE, cursor.name + value)

    def row(self, cursors: list[_Cursor], written: list[bytes], room: int) -> int:
        """One step of each cursor into `written`; the octets of room left, -1 where the row had to be broken off."""
        for cursor in cursors:
            varbind = self.step(cursor)
            room -= len(varbind)
            if room < 0 or self.looks > MAX_LOOKS:
                return -1
            written.append(varbind)
        return room
