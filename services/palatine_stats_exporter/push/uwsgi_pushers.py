"""uWSGI's own pushers: one attempt each, over descriptors an app's master made with its rights and in its network.

A pusher never waits longer than its timeout and never raises for a peer's sake: it says what became of the attempt.
"""

import os
import socket
import stat
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import attrs
import trio

from palatine.codec import zabbix
from palatine.discovery import InstanceRef
from palatine.errors import PalatineError, ProtocolError
from palatine_stats_exporter.board import Facts
from palatine_stats_exporter.builtin_metrics import Metric, metrics
from palatine_stats_exporter.document import Form
from palatine_stats_exporter.push.retry_policy import Failed, Outcome, Sent
from palatine_stats_exporter.push.uwsgi_formats import Carbon, Wish, plain, rrdtool, statsd
from palatine_stats_exporter.sources import instance_source

#: Gives a descriptor of the kind the pusher needs, fresh from the app's master; the pusher closes it.
Descriptor = Callable[[], Awaitable[int]]
#: Runs a coroutine function in the daemon's asyncio loop: `Context.to_asyncio`.
ToAsyncio = Callable[..., Awaitable[Any]]

_MOST_SECONDS: Final = 30
_RRDTOOL_SECONDS: Final = 60


@attrs.frozen
class Turn:
    """What one attempt has: the instance, what it stands at, and where descriptors come from."""

    ref: InstanceRef
    facts: Facts
    descriptor: Descriptor
    to_asyncio: ToAsyncio

    def document(self, wish: Wish) -> bytes:
        """The instance's stats document; PalatineError or OSError if it cannot be made."""
        form = Form(minified=wish.minified, no_cores=wish.no_cores, no_metrics=wish.no_metrics)
        source = instance_source(self.ref.path / "seg", self.ref.uid, form, http=False)
        try:
            return source.render()
        finally:
            source.close()


class Pusher(Protocol):
    """Pushes for one wish of one instance."""

    async def push(self, turn: Turn) -> Outcome:
        """One attempt."""

    def close(self) -> None:
        """Let go of everything."""


def pusher_for(wish: Wish, *, own: bool) -> Pusher:
    """What pushes for a wish; ProtocolError if nothing does. `own`: the app runs as the same user as we do."""
    if wish.pusher in {"statsd", "socket"}:
        return Datagrams(wish)
    if wish.pusher == "carbon":
        return CarbonPusher(wish)
    if wish.pusher == "zabbix":
        return Zabbix(wish)
    if wish.pusher == "file":
        return File(wish)
    if wish.pusher == "mongodb":
        try:
            from palatine_stats_exporter.push.mongodb import MongoDb  # loads pymongo, which few need
        except ImportError as error:
            raise ProtocolError(f"the mongodb pusher needs pymongo ({error}): install palatine[all]") from error
        return MongoDb(wish)
    if wish.pusher == "rrdtool":
        if not own:
            raise ProtocolError(
                "rrdtool writes files with the exporter's rights: it needs one that runs as the app's user"
            )
        return Rrdtool(wish)
    raise ProtocolError(f"there is no pusher {wish.pusher!r}")


class Datagrams:
    """statsd and socket: a datagram a metric, all from one socket."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._format: Callable[[str, Metric], bytes] = statsd if wish.pusher == "statsd" else plain
        self._socket: trio.socket.SocketType | None = None

    async def push(self, turn: Turn) -> Outcome:
        """Send all metrics; the kernel says of the last time that nobody listened."""
        try:
            if self._socket is None:
                self._socket = await _connected(await turn.descriptor(), self._wish, socket.SOCK_DGRAM)
            for metric in metrics(turn.facts):
                await self._socket.send(self._format(self._wish.prefix, metric))
        except (OSError, ProtocolError) as error:
            self.close()
            return Failed(_reason(error))
        return Sent()

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class CarbonPusher:
    """carbon: a connection each time, tried again as `carbon-max-retry` says."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._carbon = Carbon(wish)

    async def push(self, turn: Turn) -> Outcome:
        """Send what the instance stands at now, also with the last attempt."""
        lines = self._carbon.lines(turn.facts, int(time.time()))
        outcome: Outcome = Sent()
        for attempt in range(self._wish.retries + 1):
            if attempt:
                await trio.sleep(self._wish.retry_seconds)
            outcome = await _conversation(self._wish, turn, lines, _nothing)
            if isinstance(outcome, Sent):
                break
        return outcome

    def close(self) -> None:
        """Nothing is kept."""


class Zabbix:
    """Zabbix's trapper items."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish

    async def push(self, turn: Turn) -> Outcome:
        """Send all metrics, and hear how many the server knows."""
        items = [(f"{self._wish.prefix}.{metric.name}", metric.value) for metric in metrics(turn.facts)]
        return await _conversation(self._wish, turn, zabbix.encode(self._wish.host, items), _zabbix_answer)

    def close(self) -> None:
        """Nothing is kept."""


class File:
    """Appends the stats document to a file the master opens anew each time, so that it can be rotated."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish

    async def push(self, turn: Turn) -> Outcome:
        """Append one document and the separator, in one write."""
        try:
            document = turn.document(self._wish) + self._wish.separator.encode("utf-8", "replace")
            await trio.to_thread.run_sync(_append, await turn.descriptor(), document)
        except (OSError, PalatineError) as error:
            return Failed(_reason(error))
        return Sent()

    def close(self) -> None:
        """Nothing is kept."""


class Rrdtool:
    """A round-robin file a metric, by the program `rrdtool`."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish

    async def push(self, turn: Turn) -> Outcome:
        """Make files that are missing and update all, by one process."""
        try:
            existing = frozenset(await trio.to_thread.run_sync(os.listdir, self._wish.address))
            commands = rrdtool(self._wish.address, metrics(turn.facts), existing)
            with trio.fail_after(_RRDTOOL_SECONDS):
                done = await trio.run_process(["rrdtool", "-"], stdin=commands, capture_stdout=True, check=False)
        except trio.TooSlowError:
            return Failed(f"rrdtool took more than {_RRDTOOL_SECONDS} s")
        except (OSError, ProtocolError) as error:
            return Failed(_reason(error))
        wrong = [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.startswith("ERROR")]
        return Failed(wrong[0]) if wrong else Sent()

    def close(self) -> None:
        """Nothing is kept."""


async def _conversation(
    wish: Wish, turn: Turn, message: bytes, hear: Callable[[trio.SocketStream], Awaitable[Outcome]]
) -> Outcome:
    """Connect, say the message, hear the answer, part; within the wish's timeout."""
    try:
        with trio.fail_after(min(wish.timeout, _MOST_SECONDS)):
            sock = await _connected(await turn.descriptor(), wish, socket.SOCK_STREAM)
            async with trio.SocketStream(sock) as stream:
                await stream.send_all(message)
                return await hear(stream)
    except trio.TooSlowError:
        return Failed(f"no end after {wish.timeout} s")
    except (OSError, trio.BrokenResourceError, PalatineError) as error:
        return Failed(_reason(error))


async def _nothing(stream: trio.SocketStream) -> Outcome:
    """Carbon says nothing: all was taken if it reads to the end."""
    await stream.send_eof()
    await stream.receive_some(1)
    return Sent()


async def _zabbix_answer(stream: trio.SocketStream) -> Outcome:
    length = zabbix.body_length(await _exactly(stream, zabbix.HEADER_BYTES))
    answer = zabbix.decode_answer(await _exactly(stream, length))
    unknown = f"{answer.failed} of {answer.processed + answer.failed} items are not known to the server"
    return Sent(unknown if answer.failed else "")


async def _exactly(stream: trio.SocketStream, count: int) -> bytes:
    found = b""
    while len(found) < count:
        data = await stream.receive_some(count - len(found))
        if not data:
            raise ProtocolError("the connection was closed in the middle of an answer")
        found += data
    return found


async def _connected(fd: int, wish: Wish, kind: socket.SocketKind) -> trio.socket.SocketType:
    """The master's socket connected to the wish's address; ProtocolError, it closed, if it is not what it must be."""
    try:
        given = socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        raise
    sock = trio.socket.from_stdlib_socket(given) if given.type == kind else None
    if sock is None:
        given.close()
        raise ProtocolError(f"{wish.pusher}: the master's descriptor is another kind of socket")
    host, _, port = wish.address.rpartition(":")
    try:
        found = await trio.socket.getaddrinfo(host.strip("[]"), int(port), family=given.family, type=kind)
        await sock.connect(found[0][4])
    except BaseException:
        sock.close()
        raise
    return sock


def _append(fd: int, data: bytes) -> None:
    """In a thread: a regular file only, because anything else could hold the thread for ever."""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ProtocolError("the master's descriptor is no file")
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
    finally:
        os.close(fd)


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or type(error).__name__
