"""What workers, mules and spoolers tell their master over the one socket they share, each message by its name."""

from collections.abc import Callable, Mapping
from typing import Any

from palatine_app_server.system import channel
from palatine_app_server.system.loop import Loop

Message = dict[str, Any]


class Hearing:
    """Reads the master's end and calls what `handlers` has for each message's `op`; unknown ones mean nothing."""

    def __init__(self, handlers: Mapping[str, Callable[[Message], object]]) -> None:
        self._handlers = handlers
        self.theirs, self._ours = channel.pair()
        self._ours.setblocking(False)

    def watch(self, loop: Loop) -> None:
        """Hear from now on."""
        loop.watch(self._ours.fileno(), self.hear)

    def hear(self) -> None:
        """Handle what waits."""
        while True:
            try:
                message = channel.receive(self._ours)
            except BlockingIOError:
                return
            if message is None:
                return
            handler = self._handlers.get(message["op"])
            if handler is not None:
                handler(message)

    def close_in_child(self) -> None:
        """Only the master hears."""
        self._ours.close()
