"""Answers requests: each gets a reply or an error before its deadline; no handler, peer or message ends the server."""

import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import attrs
import msgspec
import structlog
import trio
import zmq

from palatine.bus import _libzmq, pump
from palatine.bus.auth import Peer, Role, RoleOf, parse_peer
from palatine.bus.endpoint import claim
from palatine.codec.frames import VERSION, Frame, FrameError, body_as, decode_head, encode
from palatine.errors import ConfigError, PalatineError, PeerError, ProtocolError

#: Handlers at work at once; one request more is answered "busy".
CONCURRENCY: Final = 256
#: No handler works longer than this, whatever the asker says. Seconds.
LONGEST: Final = 300.0
#: The error leaves this much before the asker gives up, so that it arrives. Seconds, and as a share of a short timeout.
MARGIN: Final = 0.05
MARGIN_SHARE: Final = 0.1
#: Owner and group: the directory says who gets so far, and its setgid bit makes the group palatine.
SOCKET_MODE: Final = 0o660

#: Replies kept for full connections: bytes in all, seconds each, seconds until the next try.
BLOCKED_BYTES: Final = 8 * 1024 * 1024
BLOCKED_SECONDS: Final = 5.0
BLOCKED_RETRY: Final = 0.005

log = structlog.get_logger("palatine.bus")


@attrs.frozen
class Request:
    """One question. `body` is plain JSON values, `deadline` is on the trio clock."""

    type: str
    body: Any
    peer: Peer
    deadline: float


Handler = Callable[[Request], Awaitable[Any]]
Handlers = Mapping[str, tuple[Role, Handler]]


async def serve_requests(
    endpoint: Path,
    handlers: Handlers,
    *,
    role_of: RoleOf,
    mode: int = SOCKET_MODE,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Own `endpoint` and answer requests until cancelled; requests still at work are then answered "stopping".

    `handlers` maps a type to the least role it needs and the coroutine that answers; it may grow while serving.
    AlreadyRunningError if a live process owns the endpoint, ConfigError if it cannot be bound.
    """
    with claim(endpoint):
        async with _libzmq.open_context() as context:
            with _libzmq.open_socket(context, zmq.ROUTER) as socket:
                socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # a full connection says so, instead of dropping in silence
                _libzmq.bind(socket, endpoint, mode)
                async with trio.open_nursery() as nursery:
                    server = _Server(socket, handlers, role_of, nursery)
                    task_status.started()
                    try:
                        await pump.run(socket, server.waker, server.flush, server.received)
                    finally:
                        server.stop()


class _Reply(NamedTuple):
    parts: list[bytes]
    expires: float


class _Server:
    """The state of one endpoint: replies waiting to leave, and the requests at work."""

    def __init__(self, socket: zmq.Socket[bytes], handlers: Handlers, role_of: RoleOf, nursery: trio.Nursery) -> None:
        self.waker = pump.Waker()
        self._socket = socket
        self._handlers = handlers
        self._role_of = role_of
        self._nursery = nursery
        self._replies: deque[_Reply] = deque()
        self._working: dict[tuple[bytes, bytes], Frame] = {}

    def flush(self) -> float:
        """Send what can be sent; what a reader far behind cannot take is tried again soon, then dropped."""
        now = trio.current_time()
        kept: deque[_Reply] = deque()
        held = 0
        while self._replies:
            reply = self._replies.popleft()
            if pump.send(self._socket, reply.parts) is not pump.Sent.FULL:
                continue
            size = sum(map(len, reply.parts))
            if reply.expires > now and held + size <= BLOCKED_BYTES:
                kept.append(reply)
                held += size
        self._replies = kept
        return now + BLOCKED_RETRY if kept else math.inf

    def received(self, message: pump.Message) -> None:
        route, *parts = message.parts
        if parts == [b""]:  # libzmq's probe of a connection made with PROBE_ROUTER
            return
        try:
            frame = decode_head(parts)
        except FrameError as error:
            self._reply_error(route, Frame("garbage", bytes(16)), error.code, str(error))
            return
        try:
            self._start(route, frame, parse_peer(message.address))
        except (FrameError, PeerError) as error:
            self._reply_error(route, frame, error.code, str(error))
        except Exception:  # `role_of` is the daemon's: its bug is this request's error
            log.exception("bus.request.crashed", type=frame.type, peer=message.address)
            self._reply_error(route, frame, "internal", f"{frame.type} failed: see the log")

    def _start(self, route: bytes, frame: Frame, peer: Peer) -> None:
        role = self._role_of(peer)
        if role is None:
            raise PeerError(f"uid {peer.uid} has no rights here", "forbidden")
        found = self._handlers.get(frame.type)
        if found is None:
            raise PeerError(f"nothing here answers {frame.type}", "unknown-type")
        needed, handler = found
        if role < needed:
            raise PeerError(
                f"{frame.type} needs the role {needed.name.lower()}, uid {peer.uid} has {role.name.lower()}",
                "forbidden",
            )
        if len(self._working) >= CONCURRENCY:
            raise PeerError(f"{CONCURRENCY} requests are at work already", "busy")
        if (route, frame.id) in self._working:
            raise PeerError("a request with this id is at work", "protocol")
        body = body_as(frame, object)
        seconds = min(frame.seq / 1000, LONGEST)
        deadline = trio.current_time() + seconds - min(MARGIN, seconds * MARGIN_SHARE)
        self._working[route, frame.id] = frame
        self._nursery.start_soon(self._work, handler, route, frame, Request(frame.type, body, peer, deadline))

    async def _work(self, handler: Handler, route: bytes, frame: Frame, request: Request) -> None:
        """One request from start to reply. Only cancellation leaves here; `stop` answers those."""
        code, message = "deadline", f"{frame.type} did not end before its deadline"
        try:
            with trio.move_on_at(request.deadline):
                body = await handler(request)
                self._done(route, frame, Frame("reply", frame.id, 0, body, frame.version))
                return
        except (PeerError, FrameError) as error:
            code, message = error.code, str(error)
        except (ConfigError, ProtocolError) as error:
            code, message = type(error).__name__.removesuffix("Error").lower(), str(error)
        except PalatineError as error:
            code, message = "error", str(error)
        except msgspec.ValidationError as error:
            code, message = "invalid", str(error)
        except Exception:  # a handler's bug is that request's error, never the server's end
            code, message = "internal", f"{frame.type} failed: see the log"
            log.exception("bus.request.crashed", type=frame.type, uid=request.peer.uid)
        self._done(route, frame, _error(frame, code, message))

    def _done(self, route: bytes, frame: Frame, reply: Frame) -> None:
        parts = encode(reply)
        self._working.pop((route, frame.id), None)
        self._queue(route, parts)
        self.waker.wake()

    def _reply_error(self, route: bytes, frame: Frame, code: str, message: str) -> None:
        self._queue(route, encode(_error(frame, code, message)))

    def _queue(self, route: bytes, parts: list[bytes]) -> None:
        self._replies.append(_Reply([route, *parts], trio.current_time() + BLOCKED_SECONDS))

    def stop(self) -> None:
        """Nothing is left without an answer: those at work get "stopping", and linger lets it leave."""
        for (route, _), frame in self._working.items():
            self._reply_error(route, frame, "stopping", f"{frame.type} was ended: the daemon stops")
        self.flush()


def _error(frame: Frame, code: str, message: str) -> Frame:
    version = VERSION if frame.type == "garbage" else frame.version
    return Frame("error", frame.id, 0, {"code": code, "message": message}, version)
