"""An instance as a vassal: what its master says to and hears from an Emperor over uWSGI's pipe. Plain, never blocks."""

import enum
import os
from collections.abc import Mapping
from typing import Final

from palatine.codec import emperor_pipe


class Order(enum.Enum):
    """What the Emperor wants."""

    STOP = emperor_pipe.STOP
    RELOAD = emperor_pipe.RELOAD
    GRACEFUL_STOP = emperor_pipe.GRACEFUL_STOP
    LOST = -1  # the Emperor's end is closed


_ORDERS: Final = {order.value: order for order in Order}


class EmperorPipe:
    """The vassal's end of the pipe; silent once the Emperor is gone."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)
        self._loyal = False
        self._before = 0  # requests of the generations before

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "EmperorPipe | None":
        """The pipe an Emperor left in `UWSGI_EMPEROR_FD`; None without an Emperor."""
        number = environ.get(emperor_pipe.FD_VARIABLE, "")
        return cls(int(number)) if number.isascii() and number.isdigit() else None

    def tell(self, kind: int) -> None:
        """Send one byte; an Emperor that is gone or does not read loses it."""
        try:
            os.write(self.fd, bytes([kind]))
        except OSError:
            return

    def tell_reason(self, text: str) -> None:
        """Say why this vassal will not start."""
        try:
            os.write(self.fd, emperor_pipe.reason(text))
        except OSError:
            return

    def begin(self, requests: int) -> None:
        """A generation serves, after so many `requests` of those before: it has its loyalty to show yet."""
        self._loyal, self._before = False, requests

    def announce_loyalty(self, requests: int) -> None:
        """After the first request of a generation."""
        if not self._loyal and requests > self._before:
            self._loyal = True
            self.tell(emperor_pipe.LOYAL)

    def hear(self) -> list[Order]:
        """The orders that wait; `LOST` at the end of the pipe. Bytes we do not know are ignored."""
        try:
            data = os.read(self.fd, 64)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            return [Order.LOST]
        return [_ORDERS[byte] for byte in data if byte in _ORDERS]
