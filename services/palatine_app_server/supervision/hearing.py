"""What workers, mules and spoolers tell their master over the one socket they share, each message by its name.

Whatever an app has them say, the master goes on: what it cannot take is a line in the log.
"""

from collections.abc import Callable, Mapping
from typing import Any

from palatine_app_server.system import channel
from palatine_app_server.system.loop import Loop

Message = dict[str, Any]


class Hearing:
    """Reads the master's end and calls what `handlers` has for each message's `op`; unknown ones mean nothing."""

    def __init__(self, handlers: Mapping[str, Callable[[Message], object]], say: Callable[[str], None]) -> None:
        self._handlers = handlers
        self._say = say
        self.theirs, self._ours = channel.pair()
        self._ours.setblocking(False)

    def watch(self, loop: Loop) -> None:
        """Hear from now on."""
        loop.watch(self._ours.fileno(), self.hear)

    def hear(self) -> None:
        """Handle what waits."""
        while True:
            message: Message | None = {}
            try:
                message = channel.receive(self._ours)
                if message is None:
                    return
                handler = self._handlers.get(message["op"])
                if handler is not None:
                    handler(message)
            except BlockingIOError:
                return
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                self._say(f"*** a worker, mule or spooler asked for what cannot be: {error}: {str(message)[:200]} ***")

    def close_in_child(self) -> None:
        """Only the master hears."""
        self._ours.close()
