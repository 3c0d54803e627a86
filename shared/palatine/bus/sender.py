"""Sends numbered events until they are acknowledged: `put` never waits, and what is given up is counted."""

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
from palatine.bus.spool import Spool
from palatine.bus.storage import MemoryStorage, SpoolStorage
from palatine.codec.frames import Frame, FrameError
from palatine.errors import PeerError

MEMORY_EVENTS: Final = 10_000
SPOOL_BYTES: Final = 64 * 1024 * 1024
#: A sender that ends waits so many seconds for the last acks, if an intake is connected and there is no spool.
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
        self,
        socket: zmq.Socket[bytes],
        endpoint: Path,
        *,
        memory_events: int,
        spool: Spool | None,
        admit: Callable[[Peer], None],
    ) -> None:
        self.uuid = os.urandom(16) if spool is None else spool.uuid
        self._last = 0 if spool is None else spool.base
        self._outbox = Outbox()
        self._storage: MemoryStorage | SpoolStorage = (
            MemoryStorage(self._outbox, memory_events)
            if spool is None
            else SpoolStorage(self._outbox, memory_events, spool)
        )
        self._party = Party(socket, events.Hello("sender", self.uuid.hex()), self, name=str(endpoint))
        self._admit = admit
        self._session: Session | None = None
        self._acked = 0
        self._put = 0
        self._settled = trio.Event()

    def put(self, type: str, body: Any = None) -> None:  # noqa: A002 - the contract's name
        """Queue an event, without waiting. FrameError "too-large" past 256 KiB, TypeError if it is not JSON's."""
        raw = msgspec.json.encode((self._last + 1, type, body))
        if len(raw) > events.EVENT_BYTES:
            raise FrameError(f"{type}: an event of {len(raw)} bytes is more than {events.EVENT_BYTES}", "too-large")
        self._last += 1
        self._put += 1
        self._storage.add(Item(self._last, raw))
        self._party.waker.wake()

    def statistics(self) -> SenderStatistics:
        """A snapshot."""
        return SenderStatistics(
            queued=len(self._outbox) + self._storage.queued,
            spooled=self._storage.spooled,
            dropped=self._storage.dropped,
            acked=self._acked,
            put=self._put,
            connected=self._session is not None,
            uuid=self.uuid.hex(),
        )

    async def flushed(self) -> None:
        """Return when everything put so far survives a kill -9 and a power cut. OSError if the disk does not take it.

        Without a spool nothing does, and this returns at once.
        """
        await self._storage.flushed()

    async def settled(self) -> None:
        """Return when nothing put so far is left: all acknowledged, or given up."""
        while self._outbox or self._storage.queued or self._storage.spooled:
            await self._settled.wait()
        await trio.lowlevel.checkpoint()

    async def run(self) -> None:
        """Own the socket and the spool until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._storage.run, self._party.waker.wake)
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
        self._storage.acked()
        self._settled.set()
        self._settled = trio.Event()

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

    With `spool`, a directory, events outlive this process, and the numbering goes on; without, they are in memory:
    `memory_events` of them and 16 MiB at most, and an end of the block waits a second at most for the last acks.
    One intake at a time: the last to say hello is served; the one before is told "replaced" and gets its turn when the
    new one is gone. AlreadyRunningError if endpoint or spool have a live owner; ConfigError if they cannot be used.
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
        # Last: from here on the sender's own task closes it.
        store = None if spool is None else await trio.to_thread.run_sync(Spool, spool, spool_bytes)
        sender = Sender(socket, endpoint, memory_events=memory_events, spool=store, admit=admit)
        await stack.enter_async_context(background(sender.run))
        yield sender
        if spool is None and sender.statistics().connected:
            with trio.move_on_after(LINGER):
                await sender.settled()
