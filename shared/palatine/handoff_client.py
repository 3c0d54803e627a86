"""Take bound sockets from a master: the daemons' side, under trio. The caller owns and closes what it received."""

import json
import os
import socket as stdlib_socket
import stat
from array import array
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs
import trio

from palatine.errors import DeadlineError, PeerError, ProtocolError
from palatine.handoff import RECORD_BYTES, VERSION, Offer, decode_record

#: A master answers from its event loop; longer than this and it hangs or is something else.
ANSWER_SECONDS = 5.0
#: More sockets than this from one instance is not a config anybody wrote.
MOST_OFFERS = 64


@attrs.define
class Handoff:
    """The sockets one instance gave, and the connection that says whether its master still lives."""

    offers: list[Offer]
    _connection: trio.socket.SocketType

    async def wait_closed(self) -> None:
        """Return when the master closed the connection or died."""
        while True:
            try:
                if not await self._connection.recv(RECORD_BYTES):
                    return
            except OSError:
                return

    def close(self) -> None:
        """Close the connection and every descriptor still in `offers` (a caller takes one over by removing it)."""
        self._connection.close()
        for offer in self.offers:
            os.close(offer.fd)
        self.offers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def fetch_offers(directory: Path, daemon: str, kinds: Sequence[str]) -> Handoff:
    """Connect to `<directory>/handoff` and take the sockets of the named kinds.

    A link is not followed: it could lead to a neighbour's master, who gives us his sockets and his secrets.

    Raises:
        PeerError: nobody listens there, or the master refused us.
        DeadlineError: no complete answer within `ANSWER_SECONDS`.
        ProtocolError: what answered is not a master, or there is no socket.
    """
    connection = trio.socket.socket(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_SEQPACKET)
    handoff = Handoff([], connection)
    try:
        with trio.fail_after(ANSWER_SECONDS):
            await _connect(connection, directory / "handoff")
            await connection.send(json.dumps({"v": VERSION, "daemon": daemon, "kinds": list(kinds)}).encode())
            while (offer := await _receive(connection)) is not None:
                handoff.offers.append(offer)
                if len(handoff.offers) > MOST_OFFERS:
                    raise ProtocolError(f"{directory}: more than {MOST_OFFERS} sockets offered")
    except OSError as error:
        handoff.close()
        raise PeerError(f"{directory}/handoff: {error.strerror}", code="unavailable") from error
    except trio.TooSlowError as error:
        handoff.close()
        raise DeadlineError(f"{directory}/handoff: no answer within {ANSWER_SECONDS} s") from error
    except BaseException:
        handoff.close()
        raise
    return handoff


async def _connect(connection: trio.socket.SocketType, path: Path) -> None:
    """Connect to the very socket that was looked at, whatever has its name by then."""
    looked_at = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(looked_at).st_mode):
            raise ProtocolError(f"{path}: is no socket")
        await connection.connect(f"/proc/self/fd/{looked_at}")
    finally:
        os.close(looked_at)


async def _receive(connection: trio.socket.SocketType) -> Offer | None:
    data, ancillary, _flags, _address = await connection.recvmsg(RECORD_BYTES, stdlib_socket.CMSG_SPACE(4 * 4))
    descriptors = array("i")
    for level, what, payload in ancillary:
        if level == stdlib_socket.SOL_SOCKET and what == stdlib_socket.SCM_RIGHTS:
            descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
    try:
        if not data:
            raise PeerError("the master closed the handoff", code="closed")
        record = decode_record(data)
        if record.get("kind") == "end":
            return None
        kind, name, options = record.get("kind"), record.get("name"), record.get("options")
        if not (
            isinstance(kind, str) and isinstance(name, str) and isinstance(options, dict) and len(descriptors) == 1
        ):
            raise ProtocolError("handoff record without kind, name, options and one descriptor")
        os.set_inheritable(descriptors[0], False)
        return Offer(str(record.get("kind")), name, options, descriptors.pop())
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
