"""The handshake both ends of an event stream share: probe, invite, hello, welcome, beat; it knows no events."""

import math
import os
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import attrs
import structlog
import trio
import zmq

from palatine.bus import events, pump
from palatine.bus.auth import Peer, parse_peer
from palatine.codec.frames import ID_BYTES, OLDEST, VERSION, Frame, FrameError, body_as, decode_head, encode
from palatine.errors import PeerError

#: Frames of the handshake, acks and errors waiting at once: each turn sends them all and takes in fewer than these.
CONTROLS: Final = 4096

log = structlog.get_logger("palatine.bus")


@attrs.define(eq=False)
class Session:
    """One conversation over one connection. `route` is the ROUTER's name of it, empty on a DEALER."""

    route: bytes
    id: bytes
    address: str
    peer: Peer
    hello: events.Hello
    version: int
    heard: float


class Side(Protocol):
    """What the sender or the intake does with a session."""

    def admit(self, peer: Peer, hello: events.Hello) -> None:
        """PeerError if this peer may not open a session."""

    def opened(self, session: Session) -> None:
        """The session begins."""

    def closed(self, session: Session) -> None:
        """The session is over; nothing more comes from it."""

    def received(self, session: Session, frame: Frame) -> None:
        """A frame of the session that is not the handshake's. FrameError ends the session."""

    def vacant(self) -> bool:
        """Whether a connection known to be there, but without a session, is invited to open one."""


class Party:
    """One socket's sessions. All methods are called by the task that owns the socket, except `say` and `waker.wake`."""

    def __init__(self, socket: zmq.Socket[bytes], hello: events.Hello, side: Side, *, name: str) -> None:
        self.waker = pump.Waker()
        self.sessions: dict[bytes, Session] = {}
        self._socket = socket
        self._binds = socket.getsockopt(zmq.TYPE) == zmq.ROUTER
        self._hello = hello
        self._side = side
        self._name = name
        self._controls: deque[tuple[bytes, Frame]] = deque(maxlen=CONTROLS)
        self._version = VERSION
        self._offered = events.NO_SESSION
        self._quiet_until = -math.inf
        self._next_beat = math.inf
        self._flush_side: Callable[[], None] = lambda: None

    async def run(self, flush: Callable[[], None] | None = None) -> None:
        """Own the socket until cancelled; `flush` sends the side's own frames."""
        if flush is not None:
            self._flush_side = flush
        self._next_beat = trio.current_time() + events.BEAT  # a connection says by its probe that it is there
        try:
            await pump.run(self._socket, self.waker, self._flush, self._received)
        finally:
            self._flush_controls()  # a last ack saves the next run its duplicates

    def say(self, route: bytes, frame: Frame) -> None:
        """Queue a frame of the handshake, an ack or an error."""
        self._controls.append((route, frame))
        self.waker.wake()

    def send(self, session: Session, frame: Frame) -> bool:
        """Send at once; False if the connection does not take it."""
        return self._send(session.route, frame) is pump.Sent.YES

    def close(self, session: Session) -> None:
        """Forget the session."""
        if self.sessions.get(session.route) is session:
            del self.sessions[session.route]
            self._side.closed(session)

    def restart(self, session: Session) -> None:
        """Something of this session was lost: have the connector open a new one."""
        self.close(session)
        if self._binds:
            self.say(session.route, Frame("invite", events.NO_SESSION, version=session.version))
        else:
            self._greet()

    def refuse(self, session: Session, code: str, message: str) -> None:
        """End the session and say why."""
        self._refuse(session.route, Frame("", session.id, version=session.version), code, message)
        self.close(session)

    def _send(self, route: bytes, frame: Frame) -> pump.Sent:
        parts = encode(frame)
        return pump.send(self._socket, [route, *parts] if self._binds else parts)

    def _flush(self) -> float:
        now = trio.current_time()
        if now >= self._next_beat:
            self._next_beat = now + events.BEAT
            self._beat(now)
        self._flush_controls()
        self._flush_side()
        return self._next_beat

    def _flush_controls(self) -> None:
        while self._controls:
            route, frame = self._controls.popleft()
            if self._send(route, frame) is not pump.Sent.YES and route in self.sessions:
                # Gone, or a whole high-water mark of small frames behind: if it is there, its beat brings it back.
                self.close(self.sessions[route])

    def _beat(self, now: float) -> None:
        for session in list(self.sessions.values()):
            if session.heard + events.DEAD < now:
                log.info("bus.peer.silent", endpoint=self._name, peer=session.address)
                self.close(session)
        if not self._binds:
            session_id = self.sessions[b""].id if self.sessions else events.NO_SESSION
            self._controls.append((b"", Frame("beat", session_id, version=self._version)))

    def _received(self, message: pump.Message) -> None:
        route, parts = (message.parts[0], message.parts[1:]) if self._binds else (b"", message.parts)
        if parts == [b""]:
            if self._binds:
                self._invite(route)
            return
        try:
            frame = decode_head(parts)
        except FrameError as error:
            self._unreadable(route, error)
            return
        session = self.sessions.get(route)
        if session is not None and (session.id != frame.id or session.address != message.address):
            session = None
        try:
            if session is None:
                self._handshake(route, frame, message.address)
            else:
                session.heard = trio.current_time()
                self._within(session, frame)
        except (FrameError, PeerError) as error:
            self._reject(route, frame, session, error.code, str(error))
        except Exception:  # a bug of ours in one peer's message must not end everybody's
            log.exception("bus.message.crashed", endpoint=self._name, type=frame.type, peer=message.address)
            self._reject(route, frame, session, "internal", "see the log")

    def _reject(self, route: bytes, frame: Frame, session: Session | None, code: str, message: str) -> None:
        """Answer a frame we do not take, and end what it belonged to."""
        self._refuse(route, frame, code, message)
        if session is not None:
            self.close(session)
        elif not self._binds:
            self._quiet_until = trio.current_time() + events.REFUSED
            log.warning("bus.peer.rejected", endpoint=self._name, code=code, reason=message)

    def _within(self, session: Session, frame: Frame) -> None:
        if frame.type == "beat":
            if self._binds:
                self.say(session.route, frame)
        elif frame.type == "error":
            self._refused(body_as(frame, events.Refusal), frame)
            self.close(session)
        else:
            self._side.received(session, frame)

    def _handshake(self, route: bytes, frame: Frame, address: str) -> None:
        if frame.type == "error":
            if not self._binds and frame.id in {self._offered, events.NO_SESSION}:
                self._refused(body_as(frame, events.Refusal), frame)
        elif self._binds:
            if frame.type == "hello":
                self._open(route, frame, address)
                self.say(route, Frame("welcome", frame.id, 0, self._hello, frame.version))
            elif frame.type == "beat" and (self._side.vacant() or route in self.sessions):
                self._invite(route)
        elif frame.type == "invite":
            if trio.current_time() >= self._quiet_until:
                self._greet()
        elif frame.type == "welcome" and frame.id == self._offered:
            self._open(route, frame, address)

    def _open(self, route: bytes, frame: Frame, address: str) -> None:
        hello = body_as(frame, events.Hello)
        if hello.role == self._hello.role:
            raise PeerError(f"both ends are a {hello.role}", "protocol")
        peer = parse_peer(address)
        self._side.admit(peer, hello)
        old = self.sessions.get(route)
        if old is not None:
            self.close(old)
        session = Session(route, frame.id, address, peer, hello, frame.version, trio.current_time())
        self.sessions[route] = session
        self._side.opened(session)

    def _greet(self) -> None:
        old = self.sessions.get(b"")
        if old is not None:
            self.close(old)
        self._offered = os.urandom(ID_BYTES)
        self.say(b"", Frame("hello", self._offered, 0, self._hello, self._version))

    def _invite(self, route: bytes) -> None:
        self.say(route, Frame("invite", events.NO_SESSION))

    def _unreadable(self, route: bytes, error: FrameError) -> None:
        if not self._binds and error.code == "version" and not self.sessions:
            # A newer binder reads our version and answers in it, if we speak first. Once a beat: it may be too new.
            if trio.current_time() >= self._quiet_until:
                self._quiet_until = trio.current_time() + events.BEAT
                self._greet()
            return
        self._refuse(route, Frame("", events.NO_SESSION), error.code, str(error))

    def _refused(self, refusal: events.Refusal, frame: Frame) -> None:
        if refusal.code == "version" and OLDEST <= frame.version < self._version:
            self._version = frame.version
            self._greet()
            return
        self._quiet_until = trio.current_time() + events.REFUSED
        log.warning("bus.peer.refused", endpoint=self._name, code=refusal.code, reason=refusal.message)

    def _refuse(self, route: bytes, frame: Frame, code: str, message: str) -> None:
        if frame.type != "error":  # an error about an error would go on for ever
            self.say(route, Frame("error", frame.id, 0, events.Refusal(code, message), frame.version))
