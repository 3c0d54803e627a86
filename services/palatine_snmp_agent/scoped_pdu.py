"""The PDU of an SNMPv3 message in, the PDU of its response out; must never know users, keys or messages.

What a request comes to is `palatine_snmp_agent.pdu`'s business, as for v1 and v2c.
"""

from functools import lru_cache
from typing import Final, NamedTuple

from palatine.codec import ber, snmp
from palatine.codec.snmp import Body, ErrorStatus, PduType, Version
from palatine_snmp_agent import pdu
from palatine_snmp_agent.responder import GET, GET_BULK, GET_NEXT, REMEMBERED_OCTETS, SET, Verdict
from palatine_snmp_agent.view import View

_REQUESTS: Final[dict[int, str]] = {
    PduType.GET: GET,
    PduType.GET_NEXT: GET_NEXT,
    PduType.GET_BULK: GET_BULK,
    PduType.SET: SET,
}
_V2C: Final = int(Version.V2C)
#: The rest of a PDU after its request-id is the same each time a manager polls the same names.
_read_again = lru_cache(maxsize=256)(snmp.read_body)
#: Octets of a PDU that are not its varbinds: two heads of at most 4 octets and three numbers.
_FRAME: Final = 2 * 4 + 3 * 7


class Request(NamedTuple):
    """A request PDU; `counter` is where it is counted, `request_id` content octets.

    `body` is None where the request is longer than any reply may be: its names alone make it tooBig.
    """

    counter: str
    pdu_type: int
    request_id: bytes
    body: Body | None


def read_request(octets: bytes, room: int) -> Request | None:
    """The request in one whole element; None if it is a PDU that asks nothing. ProtocolError if it is no PDU.

    One of more than `room` octets is not read to its end.
    """
    pdu_type, at, end = ber.element(octets, 0, len(octets))
    start, stop = ber.content(octets, at, end, ber.INTEGER)
    ber.signed(octets[start:stop])
    counter = _REQUESTS.get(pdu_type)
    if counter is None:
        return None
    read = _read_again if end - stop <= REMEMBERED_OCTETS else snmp.read_body
    body = read(octets[stop:end]) if len(octets) <= room else None
    return Request(counter, pdu_type, octets[start:stop], body)


def respond(view: View, request: Request, room: int) -> Verdict:
    """The verdict on a request, with the Response PDU, of at most `room` octets, as its reply."""
    if request.body is None:
        return refuse(request, ErrorStatus.TOO_BIG, 0, room)
    view.begin()
    try:
        if request.pdu_type == PduType.GET:
            written = pdu.get(_V2C, [view.target(varbind.oid) for varbind in request.body.varbinds])
        else:
            written = pdu.answer(view, _V2C, request.pdu_type, request.body, room - _FRAME)
        octets = b"".join(written)
        if len(octets) > room - _FRAME:
            raise pdu.RefusalError(ErrorStatus.TOO_BIG)
    except pdu.RefusalError as refused:
        return refuse(request, refused.status, refused.index, room)
    return Verdict(request.counter, _response(request, 0, 0, octets), 0, len(written))


def refuse(request: Request, status: int, index: int, room: int) -> Verdict:
    """The verdict on a request that gets an error-status; tooBig where even that does not fit with its varbinds."""
    varbinds = b""
    if status != ErrorStatus.TOO_BIG and request.body is not None:
        varbinds = b"".join(map(snmp.write_varbind, request.body.varbinds))
    if len(varbinds) > room - _FRAME:
        status, index, varbinds = int(ErrorStatus.TOO_BIG), 0, b""
    return Verdict(request.counter, _response(request, status, index, varbinds), status)


def _response(request: Request, status: int, index: int, varbinds: bytes) -> bytes:
    return write_pdu(PduType.RESPONSE, request.request_id, status, index, varbinds)


def write_pdu(pdu_type: int, request_id: bytes, status: int, index: int, varbinds: bytes) -> bytes:
    """A PDU with content octets of a request-id and varbinds written already, as one whole element."""
    numbers = ber.encode(ber.INTEGER, request_id) + ber.encode_integer(status) + ber.encode_integer(index)
    return ber.encode(pdu_type, numbers + ber.encode(ber.SEQUENCE, varbinds))
