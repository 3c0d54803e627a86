"""Asks an SNMP agent by v1 or v2c, one question after the other; must never wait longer than it was told."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Self

from palatine.codec import ber, snmp
from palatine.codec.snmp import Body, ErrorStatus, Message, PduType, Varbind, Version
from palatine.errors import DeadlineError, PeerError, ProtocolError

#: Rows of a walk's step.
ROWS: Final = 25
_MAX_DATAGRAM: Final = 65_535


class Address(NamedTuple):
    """Where an agent is."""

    host: str
    port: int


def parse_address(text: str) -> Address:
    """`HOST`, `HOST:PORT`, `:PORT` or `[IPV6]:PORT`; without a port it is 161. ProtocolError for anything else."""
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, "161"
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536) or (":" in host and not host.startswith("[")):
        raise ProtocolError(f"an address is HOST:PORT or [IPV6]:PORT, not {text!r}")
    return Address(host.strip("[]") or "127.0.0.1", int(port))


def walked(root: bytes, following: Callable[[bytes], tuple[Varbind, ...]], where: str) -> Iterator[Varbind]:
    """All there is below `root`, in order, as `following` a name the agent at `where` answers; none is the end.

    Raises:
        PeerError: the agent goes round in circles, or what `following` raises.
    """
    name, below = root, ber.oid_arcs(root)
    while varbinds := following(name):
        for varbind in varbinds:
            arcs = ber.oid_arcs(varbind.oid)
            if arcs[: len(below)] != below or varbind.value == snmp.END_OF_MIB_VIEW:
                return
            if arcs <= ber.oid_arcs(name):
                raise PeerError(f"{where} goes round in circles at {ber.format_oid(name)}", "protocol")
            name = varbind.oid
            yield varbind


class Client:
    """A manager with one agent."""

    def __init__(self, address: Address, community: bytes, version: int, seconds: float, tries: int) -> None:
        self._community = community
        self._version = version
        self._seconds = seconds
        self._tries = tries
        self._where = f"{address.host}:{address.port}"
        try:
            family, _, _, _, where = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
        except OSError as error:
            raise PeerError(f"{address.host} is not known here: {error.strerror}", "unavailable") from error
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.connect(where)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def get(self, names: list[bytes]) -> tuple[Varbind, ...]:
        """The values of names. PeerError if there is no answer, or an error in it."""
        return self._ask(PduType.GET, names).varbinds

    def walk(self, root: bytes) -> Iterator[Varbind]:
        """All there is below a name, in order; PeerError as `get`, and for an agent that goes round in circles."""
        return walked(root, self._following, self._where)

    def _following(self, name: bytes) -> tuple[Varbind, ...]:
        bulk = self._version != Version.V1
        body = self._ask(PduType.GET_BULK if bulk else PduType.GET_NEXT, [name], ROWS if bulk else 0)
        return () if body.error_status == ErrorStatus.NO_SUCH_NAME else body.varbinds

    def _ask(self, pdu_type: int, names: list[bytes], rows: int = 0) -> Body:
        request_id = ber.signed_octets(int.from_bytes(os.urandom(4), "big") >> 1)
        varbinds = tuple(Varbind(name, snmp.NULL) for name in names)
        asked = Message(self._version, self._community, pdu_type, request_id, Body(0, rows, varbinds))
        body = self._answer(snmp.write_message(asked), request_id)
        if body.error_status not in {ErrorStatus.NO_ERROR, ErrorStatus.NO_SUCH_NAME}:
            raise PeerError(f"{self._where} answers {ErrorStatus(body.error_status).name}", "refused")
        if body.error_status == ErrorStatus.NO_SUCH_NAME and pdu_type == PduType.GET:
            wrong = names[max(body.error_index, 1) - 1 :][:1] or names[:1]
            raise PeerError(f"{self._where} has no {ber.format_oid(wrong[0])} for v1", "not-found")
        return body

    def _answer(self, datagram: bytes, request_id: bytes) -> Body:
        for _ in range(self._tries):
            until = time.monotonic() + self._seconds
            try:
                self._socket.send(datagram)
                while (left := until - time.monotonic()) > 0:
                    self._socket.settimeout(left)
                    message = snmp.read_message(self._socket.recv(_MAX_DATAGRAM))
                    if message.request_id == request_id and message.pdu_type == PduType.RESPONSE:
                        return message.body
            except TimeoutError:
                continue
            except ConnectionRefusedError as error:
                raise PeerError(f"nobody listens at {self._where}", "unavailable") from error
        raise DeadlineError(
            f"no answer from {self._where} within {self._tries} times {self._seconds:g} s: is the community right?"
        )
