"""The link: the one process of an instance that speaks on the bus.

It answers `<directory>/ctl`, offers alarms and log lines on `<directory>/events`, and passes the rest to its master
over the inherited socket pair `--fd`. No request of the app's users ever depends on it; it ends when its master says
or is gone, and not before it has passed on what the master said; the master starts another when it dies.
"""

import argparse
import os
import signal
import socket as stdlib_socket
import sys
import time
from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec
import trio

from palatine import __version__, places
from palatine.bus import Handlers, Request, Role, Sender, default_role_of, open_sender, serve_requests
from palatine.errors import DeadlineError, PalatineError, PeerError
from palatine_app_server.system.channel import MESSAGE_BYTES

#: Between two looks at how much waits for an alarm-daemon.
DEPTH_SECONDS: Final = 1.0

#: The master answers from its event loop, in its next turn.
ANSWER_SECONDS: Final = 5.0
#: From the master's last word to the end.
LAST_SECONDS: Final = 0.5

#: Requests the master answers, and who may ask.
FORWARDED: Final = {
    "status": Role.VIEWER,
    "reload": Role.OPERATOR,
    "stop": Role.OPERATOR,
    "alarm.action": Role.OPERATOR,
    "alarm.config": Role.OPERATOR,
    "udp.datagram": Role.OPERATOR,
}


@attrs.define
class MasterLine:
    """The socket pair to the master: requests with ids one way, events the other."""

    socket: trio.socket.SocketType
    _numbers: "count[int]" = attrs.field(factory=count)
    _waiting: dict[int, trio.Event] = attrs.field(factory=dict)
    _answers: dict[int, Any] = attrs.field(factory=dict)
    _idle: trio.Event = attrs.field(factory=trio.Event)  # set, and made anew, whenever nobody waits for an answer

    async def ask(self, kind: str, body: Any) -> Any:
        """Ask the master; PeerError if it refuses, DeadlineError if it does not answer."""
        number = next(self._numbers)
        answered = self._waiting[number] = trio.Event()
        try:
            with trio.fail_after(ANSWER_SECONDS):
                await self.send({"op": "request", "id": number, "type": kind, "body": body})
                await answered.wait()
        except trio.TooSlowError as error:
            raise DeadlineError(f"the master did not answer {kind} within {ANSWER_SECONDS} s") from error
        finally:
            del self._waiting[number]
            if not self._waiting:
                self._idle.set()
                self._idle = trio.Event()
        body = self._answers.pop(number)
        if isinstance(body, dict) and "error" in body:
            raise PeerError(str(body.get("message", "")), code=str(body["error"]))
        return body

    async def send(self, message: dict[str, Any]) -> None:
        """One message to the master."""
        await self.socket.send(msgspec.json.encode(message))

    async def receive(self) -> dict[str, Any] | None:
        """The next message; None when the master is gone."""
        try:
            data = await self.socket.recv(MESSAGE_BYTES)
        except ConnectionError:
            return None
        return msgspec.json.decode(data, type=dict[str, Any]) if data else None

    async def settled(self) -> None:
        """Until whoever asked has the answer that came."""
        if self._waiting:
            await self._idle.wait()

    def answer(self, number: int, body: Any) -> None:
        """The master answered question `number`; one nobody waits for any more is dropped."""
        waiting = self._waiting.get(number)
        if waiting is not None:
            self._answers[number] = body
            waiting.set()


async def run(fd: int, directory: Path, name: str, state_dir: str | None, master: int) -> None:
    """Serve until the master goes."""
    line = MasterLine(trio.socket.fromfd(fd, stdlib_socket.AF_UNIX, stdlib_socket.SOCK_SEQPACKET))
    os.close(fd)
    spool = _spool(name, state_dir)
    role_of = default_role_of(_operators())
    async with (
        open_sender(directory / "events", bind=True, spool=spool, role_of=role_of) as events,
        trio.open_nursery() as nursery,
    ):
        handlers: Handlers = {kind: (role, partial(_forward, line)) for kind, role in FORWARDED.items()}
        handlers = {
            **handlers,
            "ping": (Role.VIEWER, partial(_ping, master)),
            "link.status": (Role.VIEWER, partial(_link_status, events)),
        }
        await nursery.start(partial(serve_requests, directory / "ctl", handlers, role_of=role_of))
        await line.send({"op": "hello"})
        news = News()
        nursery.start_soon(_tell_depth, line, events, news)
        while (message := await line.receive()) is not None and message["op"] != "bye":
            _pass_on(line, events, message)
            news.event.set()
        with trio.move_on_after(LAST_SECONDS):  # for one who has asked since: nobody answers any more
            await line.settled()
        nursery.cancel_scope.cancel()


@attrs.define
class News:
    """Set when something may have begun to wait."""

    event: trio.Event = attrs.field(factory=trio.Event)


async def _tell_depth(line: MasterLine, events: Sender, news: News) -> None:
    """Have the master show what waits: its segment is what people look at. Asleep while nothing does."""
    told = (0, 0)
    while True:
        now = events.statistics()
        depth = (now.queued + now.spooled, now.dropped)
        if depth != told:
            try:
                await line.send({"op": "outbox", "waiting": depth[0], "dropped": depth[1]})
            except OSError:  # the master is gone, which who listens to it hears, too
                return
            told = depth
        if not depth[0]:
            await news.event.wait()
            news.event = trio.Event()
        await trio.sleep(DEPTH_SECONDS)


def _spool(name: str, state_dir: str | None) -> Path | None:
    """Where events wait on disk; without such a place they wait in memory only, and the log says so."""
    try:
        return places.state_dir(f"link/{name}", state_dir)
    except PalatineError as error:
        sys.stderr.write(f"alarms are not kept across a death of the link: {error}\n")
        return None


def _pass_on(line: MasterLine, events: Sender, message: dict[str, Any]) -> None:
    op = message.pop("op")
    if op == "reply":
        line.answer(int(message["id"]), message["body"])
    elif op == "config":
        events.put(op, message)
    elif op in {"log", "raise"}:
        events.put(op, {**message, "at": time.time()})  # a backlog is judged by when it happened


async def _forward(line: MasterLine, request: Request) -> Any:
    return await line.ask(request.type, request.body)


async def _ping(master: int, _request: Request) -> dict[str, Any]:
    return {"daemon": "app-server", "version": __version__, "pid": master}


async def _link_status(events: Sender, _request: Request) -> Any:
    return attrs.asdict(events.statistics())


def _operators() -> set[int]:
    """Users besides root and our own who may operate this instance: the one who owns the runtime directory."""
    return set()


def main(argv: Sequence[str] | None = None) -> int:
    """The process the master starts."""
    parser = argparse.ArgumentParser(prog="palatine-app-server link", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the inherited socket pair to the master")
    parser.add_argument("--directory", type=Path, required=True, help="the instance's directory")
    parser.add_argument("--name", required=True, help="the instance's name")
    parser.add_argument("--master", type=int, required=True, help="the master's process id")
    parser.add_argument("--state-dir", default=None, help="where events wait that nobody has taken")
    options = parser.parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM):  # the terminal's, and a manager's of all processes
        signal.signal(number, signal.SIG_IGN)  # the master says when to end, or its end does
    try:
        trio.run(run, options.fd, options.directory, options.name, options.state_dir, options.master)
    except PalatineError as error:
        sys.stderr.write(f"palatine-app-server link: {error}\n")
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
