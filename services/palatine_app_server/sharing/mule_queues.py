"""The message queues of mules and farms: datagram socket pairs every process of the instance can write to. Plain.

The kernel keeps the messages, so they survive the mule they wait for; its limits are the queue's (SO_SNDBUF, and
net.unix.max_dgram_qlen messages), as in uWSGI. Writing never waits.
"""

import select
import socket
from collections.abc import Sequence
from typing import Final

from palatine_app_server.sharing.signals_table import Farm
from palatine_app_server.system import channel

#: Number 0: whichever mule comes first.
ANY: Final = 0


class MuleQueues:
    """One queue for all mules, one for each, one for each farm."""

    def __init__(self, mules: int, farms: Sequence[Farm], queue_bytes: int) -> None:
        self.farms = tuple(farms)
        self._mules = [channel.queue(socket.SOCK_DGRAM, queue_bytes) for _ in range(mules + 1)]
        self._farm_pairs = [channel.queue(socket.SOCK_DGRAM, queue_bytes) for _ in farms]

    @property
    def mules(self) -> int:
        """How many mules there are."""
        return len(self._mules) - 1

    def send(self, mule: int, message: bytes) -> bool:
        """Queue `message` for a mule (or `ANY`); False when its queue is full. IndexError: no such mule."""
        return channel.put(self._mules[mule][0], message)

    def send_to_farm(self, name: str, message: bytes) -> bool:
        """Queue `message` for whichever mule of a farm comes first; KeyError: no such farm."""
        for farm, pair in zip(self.farms, self._farm_pairs, strict=True):
            if farm.name == name:
                return channel.put(pair[0], message)
        raise KeyError(name)

    def readers(self, mule: int) -> list[socket.socket]:
        """The queues of a mule: its own, then everybody's."""
        return [self._mules[mule][1], self._mules[ANY][1]]

    def farm_readers(self, mule: int) -> list[socket.socket]:
        """The queues of the farms a mule is in."""
        return [pair[1] for farm, pair in zip(self.farms, self._farm_pairs, strict=True) if mule in farm.mules]

    def size(self, mule: int) -> int:
        """Bytes the queue of `mule` may hold."""
        return self._mules[mule][0].getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


def received(reader: socket.socket, limit: int) -> bytes | None:
    """The next message, cut to `limit` bytes; None when another mule was quicker."""
    try:
        return reader.recv(limit)
    except BlockingIOError:
        return None


def wait(readers: Sequence[int], seconds: float | None) -> list[int]:
    """Wait until some of `readers` are readable; [] when `seconds` are over (None: for ever)."""
    poll = select.poll()
    for fd in readers:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(None if seconds is None else max(0.0, seconds) * 1000)]
