"""Waits a moment for the next datagram without going round the event loop; must never keep anybody else waiting long.

A manager that walks asks, waits for the reply and asks again, some 50 us later. Going back to trio for each costs
20 us, more than the whole answer. So a task that has just answered waits for the next question itself, a millisecond at
most, and gives way at once when another socket has one.
"""

import select
import time
from typing import Final

import trio

#: Seconds the next question is waited for. The least epoll knows.
_LINGER_SECONDS: Final = 0.001
#: Seconds after which other tasks get their turn, however many questions come.
_STINT_SECONDS: Final = 0.02

_OF_THIS_LOOP: Final[trio.lowlevel.RunVar["Lingering"]] = trio.lowlevel.RunVar("snmp-lingering")


class Lingering:
    """All sockets served by one event loop. A socket added must be removed: others hold descriptors of it, too."""

    def __init__(self) -> None:
        self._epoll = select.epoll()

    @classmethod
    def of_this_loop(cls) -> "Lingering":
        """The one of the running event loop."""
        try:
            return _OF_THIS_LOOP.get()
        except LookupError:
            made = cls()
            _OF_THIS_LOOP.set(made)
            return made

    def add(self, fd: int) -> None:
        """A socket is served from here on."""
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int) -> None:
        """A socket is served no more."""
        self._epoll.unregister(fd)

    def more(self, fd: int, since: float) -> bool:
        """Whether this socket, and no other, has something to read soon; `since` is when its stint began."""
        if time.monotonic() - since > _STINT_SECONDS:
            return False
        ready = self._epoll.poll(_LINGER_SECONDS, 2)
        return len(ready) == 1 and ready[0][0] == fd
