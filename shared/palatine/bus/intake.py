"""Receives events of many senders and acknowledges what its consumer has made durable, never anything else."""

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, Self

import attrs
import structlog
import trio
import zmq

from palatine.bus import _libzmq, events
from palatine.bus.auth import Peer, Role, RoleOf, default_role_of
from palatine.bus.endpoint import address, claim
from palatine.bus.events import Event
from palatine.bus.scope import background_nursery
from palatine.bus.server import SOCKET_MODE
from palatine.bus.session import Party, Session
from palatine.codec.frames import ID_BYTES, Frame, FrameError, body_as
from palatine.errors import PeerError

#: A sender that ignores its window is refused at this multiple of it.
TOLERANCE: Final = 2
#: Root may bind for anybody.
TRUSTED: Final = frozenset({0})
#: Acks and beats a source may leave unread: more means that it has no connection.
ACKS: Final = 4096

log = structlog.get_logger("palatine.bus")


@attrs.frozen
class Batch:
    """Events of one sender, in order. A sender that connects again repeats what was not acknowledged: see `Journal`.

    `sender` is the 16-byte uuid of the numbering, `source` the name given to `connect` or the peer's address.
    """

    sender: bytes
    source: str
    peer: Peer
    events: list[Event]
    _ack: Callable[[bytes, int], None]

    async def ack(self) -> None:
        """These events, and all before them, are durable here: the sender may forget them."""
        self._ack(self.sender, self.events[-1].seq)
        await trio.lowlevel.checkpoint()


@attrs.define(eq=False)
class _Inflow:
    """The events of one session that are not acknowledged."""

    session: Session
    party: Party
    source: str
    sender: bytes
    pending: list[Event] = attrs.field(factory=list)
    last: int = 0
    unacked: deque[tuple[int, int, int]] = attrs.field(factory=deque)
    unacked_events: int = 0
    unacked_bytes: int = 0


class Intake:
    """Batches of all sources, as `async for batch in intake`. One consumer; a slow one slows only the senders."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], nursery: trio.Nursery) -> None:
        self._context = context
        self._nursery = nursery
        self._inflows: dict[bytes, _Inflow] = {}
        self._senders: dict[bytes, _Inflow] = {}
        self._ready: deque[_Inflow] = deque()
        self._arrived = trio.Event()
        self._sources: dict[str, trio.CancelScope] = {}

    def connect(self, name: str, endpoint: Path) -> None:
        """Take the events of the sender bound, now or later, at `endpoint` by its directory's owner or by root.

        A source costs two descriptors, connected or not: who has hundreds raises its limit of open files.
        """
        where = address(endpoint)
        self.disconnect(name)
        scope = self._sources[name] = trio.CancelScope()
        self._nursery.start_soon(self._run_source, name, endpoint, where, scope)

    def disconnect(self, name: str) -> None:
        """Take no more from that source; batches already given out may still be acknowledged, without effect."""
        scope = self._sources.pop(name, None)
        if scope is not None:
            scope.cancel()

    def sources(self) -> dict[str, bool]:
        """The names given to `connect`, and whether their sender is connected now."""
        connected = {inflow.source for inflow in self._inflows.values()}
        return {name: name in connected for name in self._sources}

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        """The next batch: everything a sender has sent meanwhile, senders in turn. Cancelling loses nothing."""
        await trio.lowlevel.checkpoint()
        while not self._ready:
            self._arrived = trio.Event()
            await self._arrived.wait()
        inflow = self._ready.popleft()
        taken, inflow.pending = inflow.pending, []
        return Batch(inflow.sender, inflow.source, inflow.session.peer, taken, self._acknowledge)

    async def _run_source(self, name: str, endpoint: Path, where: str, scope: trio.CancelScope) -> None:
        with scope, _libzmq.open_socket(self._context, zmq.DEALER, send_high_water=ACKS) as socket:
            _libzmq.connect(socket, where)

            def admit(peer: Peer) -> None:
                try:
                    owner = endpoint.parent.stat().st_uid
                except OSError as error:
                    raise PeerError(f"{endpoint.parent}: {error.strerror}", "forbidden") from error
                if peer.uid not in TRUSTED | {owner}:
                    raise PeerError(
                        f"{endpoint} is bound by uid {peer.uid}, its directory is uid {owner}'s", "forbidden"
                    )

            await self._run(socket, admit, name)

    async def run_bound(self, socket: zmq.Socket[bytes], admit: Callable[[Peer], None]) -> None:
        """Own the bound socket until cancelled."""
        await self._run(socket, admit, None)

    async def _run(self, socket: zmq.Socket[bytes], admit: Callable[[Peer], None], source: str | None) -> None:
        side = _IntakeSide(self, admit, source)
        party = side.party = Party(socket, events.Hello("intake"), side, name=source or "bound")
        try:
            await party.run()
        finally:
            for session in list(party.sessions.values()):
                party.close(session)

    def begin(self, party: Party, session: Session, source: str) -> None:
        """A session opened: an older one of the same sender is over, its unread events will come again."""
        sender = bytes.fromhex(session.hello.uuid)
        old = self._senders.get(sender)
        if old is not None:
            old.party.close(old.session)
        inflow = _Inflow(session, party, source, sender)
        self._senders[sender] = self._inflows[session.id] = inflow

    def end(self, session: Session) -> None:
        """A session closed."""
        inflow = self._inflows.pop(session.id, None)
        if inflow is None:
            return
        if self._senders.get(inflow.sender) is inflow:
            del self._senders[inflow.sender]
        if inflow.pending:
            self._ready.remove(inflow)

    def take(self, session: Session, frame: Frame) -> None:
        """Keep a session's next events for the consumer."""
        inflow = self._inflows[session.id]
        if frame.seq != inflow.last:
            inflow.party.restart(session)
            return
        batch = body_as(frame, list[Event])
        last = inflow.last
        for event in batch:
            if event.seq <= last:
                raise FrameError("event numbers must rise")
            last = event.seq
        size = len(frame.body)
        inflow.unacked_events += len(batch)
        inflow.unacked_bytes += size
        if (
            inflow.unacked_events > TOLERANCE * events.WINDOW_EVENTS
            or inflow.unacked_bytes > TOLERANCE * events.WINDOW_BYTES
        ):
            raise FrameError("more events than the window allows", "too-large")
        if not batch:
            return
        inflow.unacked.append((last, len(batch), size))
        inflow.last = last
        if not inflow.pending:
            self._ready.append(inflow)
        inflow.pending += batch
        self._arrived.set()

    def _acknowledge(self, sender: bytes, seq: int) -> None:
        inflow = self._senders.get(sender)
        if inflow is None:
            return  # the sender is gone; it sends these again, and the journal knows them
        while inflow.unacked and inflow.unacked[0][0] <= seq:
            _, count, size = inflow.unacked.popleft()
            inflow.unacked_events -= count
            inflow.unacked_bytes -= size
        session = inflow.session
        inflow.party.say(session.route, Frame("ack", session.id, seq, version=session.version))


class _IntakeSide:
    """One socket's sessions, given to the intake."""

    party: Party

    def __init__(self, intake: Intake, admit: Callable[[Peer], None], source: str | None) -> None:
        self._intake = intake
        self._admit = admit
        self._source = source

    def admit(self, peer: Peer, hello: events.Hello) -> None:
        try:
            valid = len(bytes.fromhex(hello.uuid)) == ID_BYTES
        except ValueError:
            valid = False
        if not valid:
            raise PeerError("a sender's uuid is 32 hex digits", "protocol")
        self._admit(peer)

    def opened(self, session: Session) -> None:
        self._intake.begin(self.party, session, self._source or session.address)

    def closed(self, session: Session) -> None:
        self._intake.end(session)

    def received(self, session: Session, frame: Frame) -> None:
        if frame.type != "events":
            raise FrameError(f"{frame.type} is not for an intake", "unknown-type")
        self._intake.take(session, frame)

    def vacant(self) -> bool:
        return True


@contextlib.asynccontextmanager
async def open_intake(
    *,
    bind: Path | None = None,
    role_of: RoleOf | None = None,
    minimum: Role = Role.OPERATOR,
    mode: int = SOCKET_MODE,
) -> AsyncIterator[Intake]:
    """Events of the senders given to `Intake.connect`, and with `bind` of those that connect with `minimum` rights."""
    rights = role_of or default_role_of(())

    def admit(peer: Peer) -> None:
        role = rights(peer)
        if role is None or role < minimum:
            raise PeerError(f"uid {peer.uid} may not send events here", "forbidden")

    async with contextlib.AsyncExitStack() as stack:
        if bind is not None:
            stack.enter_context(claim(bind))
        context = await stack.enter_async_context(_libzmq.open_context())
        socket = None
        if bind is not None:
            socket = stack.enter_context(_libzmq.open_socket(context, zmq.ROUTER, send_high_water=ACKS))
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            _libzmq.bind(socket, bind, mode)
        nursery = await stack.enter_async_context(background_nursery())
        intake = Intake(context, nursery)
        if socket is not None:
            nursery.start_soon(intake.run_bound, socket, admit)
        yield intake
