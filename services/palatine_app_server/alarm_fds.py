"""alarm-fd: an alarm for a descriptor somebody left us that becomes readable, such as an eventfd of a memory cgroup."""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from palatine_app_server.loop import Loop
from palatine_app_server.part import Part


class FdAlarm(NamedTuple):
    """Raise `alarm` with `text` when `fd` is readable; `size` bytes are read from it then (8 for an eventfd)."""

    alarm: str
    fd: int
    size: int
    text: str


class AlarmFds(Part):
    """Of one instance; `raise_alarm(name, message, source)`."""

    def __init__(
        self,
        wishes: Sequence[FdAlarm],
        loop: Loop,
        raise_alarm: Callable[[str, str, str], None],
        say: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._raise = raise_alarm
        self._say = say
        for wish in wishes:
            try:
                os.set_blocking(wish.fd, False)
                loop.watch(wish.fd, lambda wish=wish: self._readable(wish))  # type: ignore[misc]  # bound now
            except OSError as error:
                say(f"alarm-fd: descriptor {wish.fd}: {error.strerror}")

    def _readable(self, wish: FdAlarm) -> None:
        try:
            data = os.read(wish.fd, wish.size)
        except BlockingIOError:
            return
        except OSError as error:
            data = b""
            self._say(f"alarm-fd: descriptor {wish.fd}: {error.strerror}")
        if not data:
            self._loop.forget(wish.fd)
            return
        self._raise(wish.alarm, wish.text, "fd")
