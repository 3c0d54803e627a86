"""Descriptors given to whoever connects to a UNIX socket, as uWSGI does it: a tag, their number, and them. Plain.

uWSGI has three such doors: setns-socket, zerg-server with zergpool, emperor-proxy-socket. What is on the wire is the
tag, the number of descriptors as a native int, and beside those bytes the descriptors themselves (SCM_RIGHTS, unix(7)).
Who gives closes the connection at once; nothing is asked for. Neither side ever waits for the other here but `fetch`.
"""

import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from palatine.errors import PeerError
from palatine.handoff import peer_credentials
from palatine_app_server.system.dialling import dial
from palatine_app_server.system.loop import Loop
from palatine_app_server.system.part import Part

#: The most one message carries: SCM_MAX_FD, unix(7).
MOST: Final = 253
_COUNT: Final = struct.Struct("i")
_NOTE_BYTES: Final = 16384


class Gift(NamedTuple):
    """What came: descriptors, the caller's to close, and what was said behind the tag."""

    descriptors: list[int]
    note: bytes = b""


def give(client: socket.socket, tag: bytes, descriptors: Sequence[int]) -> None:
    """Send them; OSError where the client is gone, ValueError for more than `MOST`."""
    if len(descriptors) > MOST:
        raise ValueError(f"at most {MOST} descriptors can be given at once, not {len(descriptors)}")
    socket.send_fds(client, [tag, _COUNT.pack(len(descriptors))], list(descriptors))


def fetch(address: str, tag: bytes, seconds: float) -> Gift:
    """Connect to `address` and take what is given there.

    A note, with more descriptors beside it, is palatine's own: it comes in a message after uWSGI's, which no uWSGI
    reads.

    Raises:
        OSError: nobody answers there within `seconds`.
        PeerError: what answers gives nothing away, or something else.
    """
    deadline = time.monotonic() + seconds
    with dial(address, seconds) as sock:
        gift = receive(sock, tag)
        note = b""
        try:
            while len(note) < _NOTE_BYTES:
                sock.settimeout(max(deadline - time.monotonic(), 0.001))
                data, more, flags, _ = socket.recv_fds(sock, _NOTE_BYTES, MOST, socket.MSG_CMSG_CLOEXEC)
                gift.descriptors.extend(more)
                if flags & socket.MSG_CTRUNC:
                    raise PeerError(f"{address}: its descriptors do not fit what this process may have", "unavailable")
                note += data
                if not data:
                    return gift._replace(note=note)
            raise PeerError(f"{address}: what it says of its descriptors is too long", "unavailable")
        except ConnectionResetError:  # a giver that closed with something of ours unread
            return gift._replace(note=note)
        except BaseException:
            _drop(gift.descriptors)
            raise


def receive(sock: socket.socket, tag: bytes) -> Gift:
    """The descriptors behind `tag`; PeerError where something else comes, OSError where nothing does in time."""
    data, descriptors, flags, _ = socket.recv_fds(sock, len(tag) + _COUNT.size, MOST, socket.MSG_CMSG_CLOEXEC)
    told = _COUNT.unpack(data[len(tag) :])[0] if len(data) == len(tag) + _COUNT.size else -1
    if not data.startswith(tag) or told != len(descriptors) or flags & socket.MSG_CTRUNC:
        _drop(descriptors)
        raise PeerError(f"no descriptors come here behind {tag.decode()!r}", "unavailable")
    return Gift(descriptors)


def _drop(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class Door(Part):
    """Has `answer` serve each who connects to `listener`, which is `option`'s; it must not wait for anything.

    `path` is where that listens. A file's mode says who may connect; a name of the abstract namespace (`@name`) has
    none, so there only this process's user and root are answered. `stays`: neither the file nor the sockets `beside`
    it go at the end, a successor gets them; children hold none of them.
    """

    def __init__(
        self,
        option: str,
        path: str,
        listener: socket.socket,
        loop: Loop,
        say: Callable[[str], None],
        answer: Callable[[socket.socket], None],
        *,
        stays: bool = False,
        beside: Sequence[socket.socket] = (),
    ) -> None:
        self._option = option
        self._path = path
        self._listener = listener
        self._loop = loop
        self._say = say
        self._answer = answer
        self._stays = stays
        self._beside = beside

    def start(self, now: float) -> None:
        """Listen."""
        del now
        self._loop.watch(self._listener.fileno(), self._accept)

    def close_in_child(self) -> None:
        """Only the master answers."""
        for each in (self._listener, *self._beside):
            each.close()

    def stop(self, now: float) -> None:
        """Nobody answers any more."""
        del now
        if self._listener.fileno() >= 0:
            self._loop.forget(self._listener.fileno())
            if not self._stays:
                self._listener.close()
                if not self._path.startswith("@"):
                    os.unlink(self._path)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        with client:
            client.setblocking(False)
            _, uid, _ = peer_credentials(client)
            if self._path.startswith("@") and uid not in {0, os.geteuid()}:
                self._say(f"{self._option}: {self._path} is not for uid {uid}")
                return
            try:
                self._answer(client)
            except OSError as error:
                self._say(f"{self._option}: {error.strerror}" + (f": {error.filename}" if error.filename else ""))
