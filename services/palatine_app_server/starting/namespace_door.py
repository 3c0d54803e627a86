"""`setns-socket`: gives the namespaces of this instance's app to who connects, as uWSGI's `setns` takes them.

The socket is this user's only. What is given are descriptors of /proc/PID/ns, namespaces(7), of the zygote, which is
where the app is; without a jail those are the master's own.
"""

import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Final

from palatine.errors import ConfigError
from palatine_app_server.system.loop import Loop
from palatine_app_server.system.part import Part

#: What uWSGI sends before the number of descriptors.
GREETING: Final = b"uwsgi-setns"
_COUNT: Final = struct.Struct("i")
#: uWSGI leaves this one out; the other is a namespace to come, not one to join.
_NEVER: Final = frozenset({"user", "pid_for_children", "time_for_children"})


class NamespaceDoor(Part):
    """Listens at `path`; `zygote` is the process whose namespaces are meant."""

    def __init__(
        self, path: str, skipped: Sequence[str], zygote: Callable[[], int], loop: Loop, say: Callable[[str], None]
    ) -> None:
        self._path = path
        self._skipped = _NEVER | frozenset(skipped)
        self._zygote = zygote
        self._loop = loop
        self._say = say
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            if os.path.exists(path):
                os.unlink(path)
            self._listener.bind(path)
            os.chmod(path, 0o600)
            self._listener.listen()
        except OSError as error:
            self._listener.close()
            raise ConfigError(f"setns-socket {path}: {error.strerror}") from error

    def start(self, now: float) -> None:
        """Listen."""
        del now
        self._loop.watch(self._listener.fileno(), self._answer)

    def close_in_child(self) -> None:
        """Only the master answers."""
        self._listener.close()

    def stop(self, now: float) -> None:
        """Nobody answers any more."""
        del now
        if self._listener.fileno() >= 0:
            self._loop.forget(self._listener.fileno())
            self._listener.close()
            os.unlink(self._path)

    def _answer(self) -> None:
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:
            return
        opened: list[int] = []
        with client:
            try:
                directory = f"/proc/{self._zygote() or 'self'}/ns"
                names = sorted(set(os.listdir(directory)) - self._skipped)
                opened += (os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in names)
                socket.send_fds(client, [GREETING, _COUNT.pack(len(opened))], opened)
            except OSError as error:
                self._say(f"setns-socket: {error.strerror}: {error.filename}")
            finally:
                for fd in opened:
                    os.close(fd)
