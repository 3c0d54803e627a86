"""The emperor's end of the keeper: finds or starts it, orders, passes on what it says; must never decide."""

import contextlib
import os
import signal
import socket as stdlib_socket
import sys
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias, TypeVar

import trio

from palatine.bus.endpoint import address
from palatine.codec.keeper import (
    LOG,
    MOST_PARTS,
    RECORD_BYTES,
    Died,
    Held,
    Hello,
    Record,
    Show,
    Welcome,
    decode,
    encode,
)
from palatine.daemon.signals import IGNORED
from palatine.errors import ConfigError, DeadlineError, PeerError, ProtocolError

T = TypeVar("T")

SOCKET_NAME: Final = "keeper.sock"
#: Python starts, loads the app-server's plain modules and answers within a tenth of this.
START_SECONDS: Final = 10.0
#: A keeper that dies while it is greeted is replaced this often before the emperor gives up.
ATTEMPTS: Final = 3
_BACKLOG: Final = 4
_KEEPER: Final = ("-P", "-m", "palatine_app_server", "--keeper")
_KEEPER_FD: Final = 3
#: What the daemon ignores, and a program it starts would go on ignoring.
_IGNORED_HERE: Final = (signal.SIGPIPE, *IGNORED, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_ANCILLARY: Final = stdlib_socket.CMSG_SPACE(MOST_PARTS * array("i").itemsize)


class Delivery(NamedTuple):
    """What the keeper said, and the descriptors beside it: the receiver's to close."""

    record: Record
    descriptors: list[int]


#: What a keeper holds: each vassal with its descriptors.
Holdings: TypeAlias = list[tuple[Held, list[int]]]


class KeeperLink:
    """One connection with one keeper. Orders are queued and never wait; `receive` is for one task only."""

    def __init__(self, connection: trio.socket.SocketType) -> None:
        self.pid = 0
        self._connection = connection
        self._orders: deque[tuple[bytes, list[int]]] = deque()
        self._queued = trio.Event()
        self._idle = trio.Event()
        self._early: deque[Delivery] = deque()

    def order(self, record: Record, descriptors: Sequence[int] = ()) -> None:
        """Queue an order; works on duplicates of the descriptors. ProtocolError if it is too large to be sent."""
        self._orders.append((encode(record), [os.dup(descriptor) for descriptor in descriptors]))
        self._queued.set()

    async def send(self) -> None:
        """Send what is ordered until cancelled or the keeper is gone."""
        while True:
            while self._orders:
                data, descriptors = self._orders[0]
                if not await self._send(data, descriptors):
                    return
                self._orders.popleft()
                for descriptor in descriptors:
                    os.close(descriptor)
            self._idle.set()
            self._queued = trio.Event()
            await self._queued.wait()

    async def flush(self) -> None:
        """Return once every order given so far is in the keeper's socket; never, if the keeper is gone."""
        while self._orders:
            self._idle = trio.Event()
            await self._idle.wait()

    async def receive(self) -> Delivery | None:
        """The next thing the keeper says; None once it is gone."""
        return self._early.popleft() if self._early else await self._next()

    async def _next(self) -> Delivery | None:
        while True:
            try:
                data, ancillary, _, _ = await self._connection.recvmsg(RECORD_BYTES, _ANCILLARY)
            except OSError:
                return None
            descriptors = _received(ancillary)
            if not data:
                return None
            try:
                return Delivery(decode(data), descriptors)
            except ProtocolError:
                for descriptor in descriptors:
                    os.close(descriptor)
                raise

    async def ask(self, record: Record, kind: type[T]) -> tuple[T, list[int]]:
        """Send one record and take the answer; only before anybody else sends or receives.

        Raises:
            PeerError: the keeper is gone.
            ProtocolError: it answered something else.
        """
        if not await self._send(encode(record), _logs() if isinstance(record, Hello) else []):
            raise PeerError("the keeper is gone", code="unavailable")
        while (delivery := await self._next()) is not None:
            if isinstance(delivery.record, kind):
                return delivery.record, delivery.descriptors
            if not isinstance(delivery.record, Died):
                raise ProtocolError(f"the keeper answered {delivery.record!r}")
            self._early.append(delivery)  # somebody died between question and answer
        raise PeerError("the keeper is gone", code="unavailable")

    def close(self) -> None:
        """Close the connection; the keeper lives on."""
        self._connection.close()
        for _, descriptors in self._orders:
            for descriptor in descriptors:
                os.close(descriptor)
        self._orders.clear()

    async def reap(self) -> None:
        """After its end: wait for the keeper's process if it is our child."""
        with contextlib.suppress(OSError):  # a keeper another emperor started is somebody else's child, and maybe gone
            pidfd = os.pidfd_open(self.pid)
            try:
                await trio.lowlevel.wait_readable(pidfd)
                _wait(self.pid)
            finally:
                os.close(pidfd)

    async def _send(self, data: bytes, descriptors: Sequence[int]) -> bool:
        ancillary = (
            [(stdlib_socket.SOL_SOCKET, stdlib_socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
        )
        try:
            await self._connection.sendmsg([data], ancillary)
        except OSError:
            return False
        return True


async def open_keeper(directory: Path, environ: Mapping[str, str], words: Sequence[str]) -> tuple[KeeperLink, Holdings]:
    """Connect to the keeper of `directory`, started with `words` if none is there; returns it with all it holds.

    Raises:
        ConfigError: the directory's path is too long for a socket in it.
        DeadlineError: it does not answer.
        PeerError: it dies again and again while it is greeted.
        ProtocolError: it speaks another version.
    """
    path = directory / SOCKET_NAME
    address(path)
    refused = PeerError(f"{path}: no keeper stays there", code="unavailable")
    for _ in range(ATTEMPTS):
        link = await _connected(path)
        if link is None:
            _start(path, environ, words)
            link = await _connected(path)
        if link is None:
            continue
        try:
            with trio.fail_after(START_SECONDS):
                return link, await _greet(link)
        except PeerError as error:
            refused = error
        except trio.TooSlowError as error:
            raise DeadlineError(f"{path}: the keeper does not answer within {START_SECONDS:g} s") from error
    raise refused


async def _greet(link: KeeperLink) -> Holdings:
    """Become the keeper's emperor: everything it holds. Closes all of it, and the link, if that fails."""
    held: Holdings = []
    try:
        welcome, _ = await link.ask(Hello(os.getpid(), (LOG, LOG)), Welcome)
        link.pid = welcome.pid
        for number in range(welcome.vassals):
            held.append(await link.ask(Show(number), Held))
    except BaseException:
        link.close()
        for _, descriptors in held:
            for descriptor in descriptors:
                os.close(descriptor)
        raise
    return held


async def _connected(path: Path) -> KeeperLink | None:
    connection = trio.socket.socket(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_SEQPACKET)
    try:
        await connection.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    return KeeperLink(connection)


def _wait(pid: int) -> None:
    os.waitpid(pid, os.WNOHANG)


def _start(path: Path, environ: Mapping[str, str], words: Sequence[str]) -> None:
    """Bind the path and give it to a new keeper: who connects waits in the backlog until it is ready."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    with stdlib_socket.socket(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_SEQPACKET) as listener:
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        except OSError as error:
            raise ConfigError(f"cannot be bound: {error.strerror or error}", str(path)) from error
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
        os.posix_spawn(
            sys.executable,
            [sys.executable, *_KEEPER, "--fd", str(_KEEPER_FD), *words],
            dict(environ),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, listener.fileno(), _KEEPER_FD),
            ],
            setsid=True,
            setsigdef=_IGNORED_HERE,
        )


def _received(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    descriptors = array("i")
    for level, what, payload in ancillary:
        if level == stdlib_socket.SOL_SOCKET and what == stdlib_socket.SCM_RIGHTS:
            descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return list(descriptors)


def _logs() -> list[int]:
    return [1, 2]
