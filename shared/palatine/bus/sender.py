"""Sends numbered events until they are acknowledged: `put` never waits, and what is given up is counted, never silent."""

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec
import trio
import zmq

from palatine.bus import _libzmq, events
from palatine.bus.auth import Peer, Role, RoleOf, default_role_of
from palatine.bus.endpoint import address, claim
from palatine.bus.outbox import Item, Outbox
from palatine.bus.scope import background
from palatine.bus.server import SOCKET_MODE
from palatine.bus.session import Party, Session
from palatine.codec.frames import Frame, FrameError
from palatine.errors import PeerError

MEMORY_EVENTS: Final = 10_000
#: Events are small, log batches are not: memory is bounded in bytes as well.
MEMORY_BYTES: Final = 16 * 1024 * 1024
SPOOL_BYTES: Final = 64 * 1024 * 1024
#: A sender that ends waits so many seconds for the last acks, if an intake is connected and nothing is spooled.
LINGER: Final = 1.0


@attrs.frozen
class SenderStatistics:
    """`queued` events are in memory, `spooled` on disk, `dropped` given up; `acked` counts since the start."""

    queued: int
    spooled: int
    dropped: int
    acked: int
    put: int
    connected: bool
    uuid: str


class Sender:
    """The numbering and the outbox of one stream of events."""

    def __init__(
        self, socket: zmq.Socket[bytes], endpoint: Path, *, memory_events: int, admit: Callable[[Peer], None]
    ) -> None:
        self.uuid = os.urandom(16)
        self._party = Party(socket, events.Hello("sender", self.uuid.hex()), self, name=str(endpoint))
        self._admit = admit
        self._outbox = Outbox()
        self._memory_events = memory_events
        self._last = 0
        self._session: Session | None = None
        self._dropped = 0
        self._acked = 0
        self._put = 0
        self._settled = trio.Event()
        self._settled.set()

    def put(self, type: str, body: Any = None) -> None:  # noqa: A002 - the contract's name
        """Queue an event. FrameError "too-large" past 256 KiB of JSON, TypeError if it is not JSON's; never for a full queue."""
        raw = msgspec.json.encode((self._last + 1, type, body))
        if len(raw) > events.EVENT_BYTES:
            raise FrameError(f"{type}: an event of {len(raw)} bytes is more than {events.EVENT_BYTES}", "too-large")
        self._last += 1
        self._put += 1
        self._outbox.add(Item(self._last, raw))
        while self._outbox.waiting and (
            len(self._outbox.waiting) > self._memory_events or self._outbox.waiting_bytes > MEMORY_BYTES
        ):
            self._outbox.drop_oldest()
            self._dropped += 1
        if self._settled.is_set():
            self._settled = trio.Event()
        self._party.waker.wake()

    def statistics(self) -> SenderStatistics:
        """A snapshot."""
        return SenderStatistics(
            queued=len(self._outbox),
            spooled=0,
            dropped=self._dropped,
            acked=self._acked,
            put=self._put,
            connected=self._session is not None,
            uuid=self.uuid.hex(),
        )

    async def settled(self) -> None:
        """Return when nothing put so far is left: all acknowledged, or given up."""
        while not self._settled.is_set():
            await self._settled.wait()
        await trio.lowlevel.checkpoint()

    async def run(self) -> None:
        """Own the socket until cancelled."""
        await self._party.run(self._flush)

    def _flush(self) -> None:
        while self._session is not None:
            previous, batch = self._outbox.take()
            if not batch:
                return
            body = msgspec.Raw(b"[" + b",".join([item.raw for item in batch]) + b"]")
            session = self._session
            if not self._party.send(session, Frame("events", session.id, previous, body, session.version)):
                self._party.restart(session)

    def admit(self, peer: Peer, hello: events.Hello) -> None:  # noqa: ARG002 - the protocol's signature
        """Whether the peer may take our events."""
        self._admit(peer)

    def opened(self, session: Session) -> None:
        """The last intake to say hello is the one: an old one that is dead must not hold it off."""
        old = self._session
        if old is not None:
            self._party.refuse(old, "replaced", "another intake said hello")
        self._session = session
        self._outbox.rewind()

    def closed(self, session: Session) -> None:
        """Send again what was not acknowledged, once there is a session."""
        if session is self._session:
            self._session = None
            self._outbox.rewind()

    def received(self, session: Session, frame: Frame) -> None:  # noqa: ARG002 - the protocol's signature
        """An ack."""
        if frame.type != "ack":
            raise FrameError(f"{frame.type} is not for a sender", "unknown-type")
        self._acked += self._outbox.ack(frame.seq)
        if not self._outbox:
            self._settled.set()

    def vacant(self) -> bool:
        """Only one intake at a time."""
        return self._session is None


@contextlib.asynccontextmanager
async def open_sender(
    endpoint: Path,
    *,
    bind: bool,
    spool: Path | None = None,
    memory_events: int = MEMORY_EVENTS,
    spool_bytes: int = SPOOL_BYTES,
    role_of: RoleOf | None = None,
    minimum: Role = Role.OPERATOR,
    mode: int = SOCKET_MODE,
) -> AsyncIterator[Sender]:
    """A stream of events to whoever connects to `endpoint` (`bind`), or to the intake bound there.

    One intake at a time: the last to say hello is served, the one before is told "replaced" and gets its turn when the new one is gone.
    """
    rights = role_of or default_role_of(())
    where = address(endpoint)

    def admit(peer: Peer) -> None:
        role = rights(peer)
        if bind and (role is None or role < minimum):
            raise PeerError(f"uid {peer.uid} may not take events from here", "forbidden")

    async with contextlib.AsyncExitStack() as stack:
        if bind:
            stack.enter_context(claim(endpoint))
        context = await stack.enter_async_context(_libzmq.open_context())
        socket = stack.enter_context(
            _libzmq.open_socket(context, zmq.ROUTER if bind else zmq.DEALER, send_high_water=2 * events.WINDOW_EVENTS)
        )
        if bind:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            _libzmq.bind(socket, endpoint, mode)
        else:
            _libzmq.connect(socket, where)
        sender = Sender(socket, endpoint, memory_events=memory_events, admit=admit)
        await stack.enter_async_context(background(sender.run))
        yield sender
        if sender.statistics().connected:
            with trio.move_on_after(LINGER):
                await sender.settled()
