"""What the exporter needs to push for this instance: sockets and files of the app's own rights and network. Plain.

Made afresh for each daemon that asks, and closed here as soon as it was answered: a file is opened anew for each push,
so that it can be rotated, and a connection is made from where the app runs.
"""

import os
import socket
from collections.abc import Callable, Sequence

from palatine.codec.push_grammar import Wish
from palatine.handoff import Offer

KIND = "stats-push"
_DATAGRAM = frozenset({"statsd", "socket"})
_STREAM = frozenset({"carbon", "zabbix"})
#: plugins/stats_pusher_file: read and write for the owner, read for the group.
_FILE_MODE = 0o640


class PushOffers:
    """Offers for the wishes of the config as it is at that moment."""

    def __init__(self, wishes: Callable[[], Sequence[Wish]], complain: Callable[[str], object]) -> None:
        self.wishes = wishes
        self._complain = complain
        self._open: list[int] = []

    def offers(self) -> list[Offer]:
        """One offer for each wish; one whose file cannot be opened is said in the log and left out."""
        found = []
        for wish in self.wishes():
            try:
                fd = _descriptor(wish)
            except OSError as error:
                self._complain(f"stats-push {wish.pusher}:{wish.address}: {error.strerror}")
                continue
            self._open.append(fd)
            options = {"pusher": wish.pusher, "address": wish.address, "seconds": wish.seconds, **wish.options}
            found.append(Offer(KIND, f"{wish.pusher}:{wish.address}", options, fd))
        return found

    def release(self) -> None:
        """The descriptors were given: keep none."""
        for fd in self._open:
            os.close(fd)
        self._open.clear()


def _descriptor(wish: Wish) -> int:
    if wish.pusher in _DATAGRAM:
        return socket.socket(_family(wish.address), socket.SOCK_DGRAM).detach()
    if wish.pusher in _STREAM:
        return socket.socket(_family(wish.address), socket.SOCK_STREAM).detach()
    if wish.pusher == "file":
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(wish.address, flags, _FILE_MODE)
    return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if address.startswith("[") else socket.AF_INET
