"""alarm-fd, reload-on-fd: what to do when a descriptor somebody left us becomes readable, as an eventfd does."""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from palatine_app_server.system.loop import Loop
from palatine_app_server.system.part import Part


class FdOrder(NamedTuple):
    """When `fd` is readable, `size` bytes are read from it (8 for an eventfd), and `option` is obeyed."""

    option: str
    fd: int
    size: int
    alarm: str = ""  # of alarm-fd
    text: str = ""


class FdOrders(Part):
    """Of one instance; `obey` is told which descriptor's time has come."""

    def __init__(
        self, wishes: Sequence[FdOrder], loop: Loop, obey: Callable[[FdOrder], None], say: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._obey = obey
        self._say = say
        for wish in wishes:
            try:
                os.set_blocking(wish.fd, False)
                loop.watch(wish.fd, lambda wish=wish: self._readable(wish))  # type: ignore[misc]  # bound now
            except OSError as error:
                say(f"{wish.option}: descriptor {wish.fd}: {error.strerror}")

    def _readable(self, wish: FdOrder) -> None:
        try:
            data = os.read(wish.fd, wish.size)
        except BlockingIOError:
            return
        except OSError as error:
            data = b""
            self._say(f"{wish.option}: descriptor {wish.fd}: {error.strerror}")
        if not data:
            self._loop.forget(wish.fd)
            return
        self._obey(wish)
