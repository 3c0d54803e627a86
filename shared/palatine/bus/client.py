"""Asks one endpoint and returns its answer; it must never wait past the caller's timeout."""

import contextlib
import errno
import math
import os
import socket as sockets
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec
import trio
import zmq

from palatine.bus import _libzmq, pump
from palatine.bus.endpoint import address
from palatine.bus.scope import background
from palatine.codec.frames import ID_BYTES, OLDEST, VERSION, Frame, FrameError, body_as, decode_head, encode
from palatine.errors import ConfigError, DeadlineError, PeerError

#: Seconds a caller waits who says nothing else.
TIMEOUT: Final = 5.0
#: A full connection is tried again after so many seconds.
FULL_RETRY: Final = 0.005


class _Refusal(msgspec.Struct):
    code: str = "error"
    message: str = "no reason given"


@attrs.define
class _Question:
    """One request under way: its answer is a frame, or None once the socket did not take it."""

    answered: trio.Event = attrs.field(factory=trio.Event)
    frame: Frame | None = None


async def request(endpoint: Path, type: str, body: Any = None, *, timeout: float = TIMEOUT) -> Any:  # noqa: A002, ASYNC109 - the contract's names; the server is told the timeout
    """One request over a connection of its own.

    Returns the reply's body. DeadlineError if no answer came in time; PeerError otherwise, its code the peer's
    ("forbidden", "unknown-type", "invalid", "internal", "busy", "stopping", "too-large", or the handler's own),
    or "unavailable" when nothing listens on `endpoint`.
    """
    _probe(endpoint)
    async with open_client(endpoint) as client:
        return await client.request(type, body, timeout=timeout)


@contextlib.asynccontextmanager
async def open_client(endpoint: Path) -> "AsyncIterator[Client]":
    """A connection for many requests, also at once; it is made again by itself when the server restarts."""
    where = address(endpoint)
    context = zmq.Context()
    try:
        with _libzmq.open_socket(context, zmq.DEALER, linger=0) as socket:
            socket.connect(where)
            client = Client(endpoint, socket)
            async with background(client.run):
                yield client
    finally:
        context.term()  # linger is 0: this does not wait


class Client:
    """One connection to a server. Any task may ask."""

    def __init__(self, endpoint: Path, socket: zmq.Socket[bytes]) -> None:
        self.endpoint = endpoint
        self._socket = socket
        self._waker = pump.Waker()
        self._outgoing: deque[list[bytes]] = deque()
        self._asked: dict[bytes, _Question] = {}

    async def request(self, type: str, body: Any = None, *, timeout: float = TIMEOUT) -> Any:  # noqa: A002, ASYNC109 - as in the function
        """As the function `request`, over this connection."""
        deadline = trio.current_time() + timeout
        version = VERSION
        while True:
            frame = await self._ask(type, body, deadline, version)
            if frame.type == "reply":
                return body_as(frame, object)
            refusal = body_as(frame, _Refusal)
            if refusal.code == "version" and OLDEST <= frame.version < version:
                version = frame.version
                continue
            message = f"{self.endpoint}: {refusal.message}"
            if refusal.code == "deadline":
                raise DeadlineError(message)
            raise PeerError(message, refusal.code)

    async def _ask(self, type: str, body: Any, deadline: float, version: int) -> Frame:  # noqa: A002 - as in `request`
        left = max(1, int((deadline - trio.current_time()) * 1000))
        question = _Question()
        ident = os.urandom(ID_BYTES)
        self._outgoing.append(encode(Frame(type, ident, left, body, version)))
        self._asked[ident] = question
        self._waker.wake()
        try:
            with trio.move_on_at(deadline):
                await question.answered.wait()
        finally:
            self._asked.pop(ident, None)
        if question.frame is None:
            raise DeadlineError(f"{self.endpoint}: no answer to {type} in time")
        return question.frame

    async def run(self) -> None:
        """Own the socket until cancelled."""
        await pump.run(self._socket, self._waker, self._flush, self._received)

    def _flush(self) -> float:
        while self._outgoing:
            if pump.send(self._socket, self._outgoing[0]) is pump.Sent.FULL:
                return trio.current_time() + FULL_RETRY
            self._outgoing.popleft()
        return math.inf

    def _received(self, message: pump.Message) -> None:
        try:
            frame = decode_head(message.parts)
        except FrameError:
            return  # no reply to anything we asked: who waits has a deadline
        question = self._asked.get(frame.id)
        if question is not None and frame.type in {"reply", "error"}:
            question.frame = frame
            question.answered.set()
        elif frame.type == "error" and frame.id == bytes(ID_BYTES):
            self._refused_unread(frame)

    def _refused_unread(self, frame: Frame) -> None:
        """The server could not read the id, so the error is for everything asked: no other answer will come."""
        for question in self._asked.values():
            question.frame = frame
            question.answered.set()


def _probe(endpoint: Path) -> None:
    """PeerError at once where waiting is of no use: libzmq would try again in silence until the timeout."""
    address(endpoint)
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM | sockets.SOCK_NONBLOCK) as plain:
        try:
            plain.connect(os.fspath(endpoint))
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED}:
                raise PeerError(f"{endpoint}: nothing listens there", "unavailable") from error
            if error.errno in {errno.EACCES, errno.EPERM}:
                raise PeerError(f"{endpoint}: {error.strerror}", "forbidden") from error
            if error.errno != errno.EAGAIN:  # a full backlog is a live server
                raise ConfigError(f"cannot be connected to: {error.strerror}", str(endpoint)) from error
