"""uWSGI's own pushers: one attempt each, over descriptors an app's master made with its rights and in its network.

A pusher never waits longer than its timeout and never raises for a peer's sake: it says what became of the attempt.
"""

import os
import socket
import stat
import time
from collections.abc import Callable
from typing import Final, Protocol

import trio

from palatine.codec import zabbix
from palatine.errors import PalatineError, ProtocolError
from palatine_stats_exporter.push.retry_policy import Failed, Outcome, Sent
from palatine_stats_exporter.push.turns import Turn, conversation, given_socket, reason_of
from palatine_stats_exporter.push.uwsgi_formats import Carbon, Wish, plain, rrdtool, statsd
from palatine_stats_exporter.push.uwsgi_metrics import Fresh, Metric, metrics

_RRDTOOL_SECONDS: Final = 60


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
        if not own:
            raise ProtocolError(
                "mongodb is reached from the exporter's network: it needs an exporter of the app's user"
            )
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
        self._fresh = Fresh()

    async def push(self, turn: Turn) -> Outcome:
        """Send all metrics; the kernel says of the last time that nobody listened."""
        try:
            if self._socket is None:
                given, where = await given_socket(await turn.descriptor(), self._wish, socket.SOCK_DGRAM)
                self._socket = trio.socket.from_stdlib_socket(given)
                await self._socket.connect(where)
            for metric in self._fresh.metrics(turn.facts):
                # the app shares the socket and could make it blocking
                await self._socket.send(self._format(self._wish.prefix, metric), socket.MSG_DONTWAIT)
        except (OSError, ProtocolError) as error:
            self.close()
            return Failed(reason_of(error))
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
            outcome = await conversation(self._wish, turn, lines, _nothing)
            if isinstance(outcome, Sent):
                break
        return outcome

    def close(self) -> None:
        """Nothing is kept."""


class Zabbix:
    """Zabbix's trapper items."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._fresh = Fresh()

    async def push(self, turn: Turn) -> Outcome:
        """Send all metrics, and hear how many the server knows."""
        items = [(f"{self._wish.prefix}.{metric.name}", metric.value) for metric in self._fresh.metrics(turn.facts)]
        return await conversation(self._wish, turn, zabbix.encode(self._wish.host, items), _zabbix_answer)

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
            fd = await turn.descriptor()
            try:
                await trio.to_thread.run_sync(_append, fd, document, limiter=turn.limiter)
            except trio.Cancelled:  # no thread had begun
                os.close(fd)
                raise
        except (OSError, PalatineError) as error:
            return Failed(reason_of(error))
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
            return Failed(reason_of(error))
        wrong = [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.startswith("ERROR")]
        return Failed(wrong[0]) if wrong else Sent()

    def close(self) -> None:
        """Nothing is kept."""


def _nothing(sock: socket.socket) -> Outcome:
    """Carbon says nothing: all was taken if it reads to the end."""
    sock.shutdown(socket.SHUT_WR)
    sock.recv(1)
    return Sent()


def _zabbix_answer(sock: socket.socket) -> Outcome:
    length = zabbix.body_length(_exactly(sock, zabbix.HEADER_BYTES))
    answer = zabbix.decode_answer(_exactly(sock, length))
    unknown = f"{answer.failed} of {answer.processed + answer.failed} items are not known to the server"
    return Sent(unknown if answer.failed else "")


def _exactly(sock: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        data = sock.recv(count - len(found))
        if not data:
            raise ProtocolError("the connection was closed in the middle of an answer")
        found += data
    return found


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
