"""Waits for the next datagram without going round the event loop; must never keep anybody else waiting long.

A manager that walks asks, waits for the reply and asks again, some 50 us later. Going back to trio for each costs more
than the whole answer: its own work, and a timer for every wait, which a virtual machine has to ask its host for. So a
task that has just answered waits for the next question itself, with one timer for all that come in some milliseconds,
and gives way at once when another socket has one.
"""

import ctypes
import os
import select
import struct
import weakref
from collections.abc import Callable
from typing import Final

import trio

#: Nanoseconds after which other tasks get their turn: forty questions and answers.
_STINT_NANOSECONDS: Final = 4_000_000
#: timerfd_create(2): CLOCK_MONOTONIC, and TFD_NONBLOCK | TFD_CLOEXEC. Python has it from 3.13 on.
_CLOCK: Final = 1
_FLAGS: Final = 0o4000 | 0o2000000
#: struct itimerspec: interval and first expiry, each seconds and nanoseconds.
_ONCE: Final = struct.pack("@4l", 0, 0, 0, _STINT_NANOSECONDS)

_OF_THIS_LOOP: Final[trio.lowlevel.RunVar["Lingering"]] = trio.lowlevel.RunVar("snmp-lingering")


class Lingering:
    """All sockets served by one event loop. A socket added must be removed: others hold descriptors of it, too."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._epoll = select.epoll()
        self._timer = self._called(self._libc.timerfd_create(_CLOCK, _FLAGS))
        self._close_timer = weakref.finalize(self, os.close, self._timer)  # with the event loop, at the latest
        self._epoll.register(self._timer, select.EPOLLIN)
        #: Called at the beginning of a stint, and in a long one now and then.
        self.look: Callable[[], None] = lambda: None

    @classmethod
    def of_this_loop(cls) -> "Lingering":
        """The one of the running event loop."""
        try:
            return _OF_THIS_LOOP.get()
        except LookupError:
            made = cls()
            _OF_THIS_LOOP.set(made)
            return made

    def close(self) -> None:
        """Give the timer back."""
        self._epoll.close()
        self._close_timer()

    def add(self, fd: int) -> None:
        """A socket is served from here on."""
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int) -> None:
        """A socket is served no more."""
        self._epoll.unregister(fd)

    def begin(self) -> None:
        """A stint begins: `more` is answered for some milliseconds."""
        self.look()
        self._called(self._libc.timerfd_settime(self._timer, 0, _ONCE, None))

    def more(self, fd: int) -> bool:
        """Wait for something to read: True if this socket has, False if another, or when the stint is over."""
        ready = self._epoll.poll(-1, 3)
        return len(ready) == 1 and ready[0][0] == fd

    @staticmethod
    def _called(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result
