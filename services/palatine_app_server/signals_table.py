"""uWSGI signals: who registered for which number, and the sockets by which a worker hears of one. Plain.

A signal is one byte on a datagram socket pair: on the shared pair the first idle worker takes it (targets "", "worker",
"worker0"), on its own pair only the worker addressed (targets "workerN", "workers", "active-workers").
"""

import re
import socket
from typing import Final

_ONE_WORKER: Final = re.compile(r"worker([1-9][0-9]*)")


class SignalsTable:
    """The registrations of one instance and its signal sockets."""

    def __init__(self, processes: int) -> None:
        self._targets: dict[int, str] = {}
        self._shared = _pair()
        self._own = [_pair() for _ in range(processes)]

    def readers(self, worker: int) -> tuple[int, ...]:
        """The descriptors worker `worker` (1-based) listens on."""
        return self._shared[1].fileno(), self._own[worker - 1][1].fileno()

    def register(self, number: int, target: str) -> None:
        """`number` goes to `target` from now on; the last registration counts."""
        self._targets[number] = target

    def deliver(self, number: int) -> bool:
        """Send `number` where it is registered; False when nobody is, or the queue is full."""
        target = self._targets.get(number)
        if target is None:
            return False
        writers = self._writers(target)
        try:
            for writer in writers:
                writer.send(bytes([number]))
        except BlockingIOError:
            return False
        return bool(writers)

    def _writers(self, target: str) -> list[socket.socket]:
        if target in {"", "worker", "worker0"}:
            return [self._shared[0]]
        if target in {"workers", "active-workers"}:
            return [writer for writer, _ in self._own]
        one = _ONE_WORKER.fullmatch(target)
        if one and int(one[1]) <= len(self._own):
            return [self._own[int(one[1]) - 1][0]]
        return []


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
