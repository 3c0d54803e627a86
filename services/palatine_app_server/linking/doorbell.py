"""A listener in the place of a bus endpoint whose process is not there yet: whoever knocks has it started. Plain.

It never accepts. The process it is for binds the same path, which takes it away from under this socket; then `close`
resets the connections that waited here, and their libzmq connects again within milliseconds.
"""

import os
import socket
from collections.abc import Callable
from pathlib import Path

from palatine_app_server.system.loop import Loop


class Doorbell:
    """Calls `on_knock` once, when somebody connects to `path`; only the owner and his group may."""

    def __init__(self, path: Path, loop: Loop, on_knock: Callable[[], None]) -> None:
        self._loop = loop
        self._on_knock = on_knock
        self._socket: socket.socket | None = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)  # what a killed process left: the directory is ours alone
        before = os.umask(0o117)
        try:
            self._socket.bind(os.fspath(path))
        finally:
            os.umask(before)
        self._socket.listen()
        loop.watch(self._socket.fileno(), self._knocked)

    def close(self) -> None:
        """Send away who waits, and listen no more."""
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def close_in_child(self) -> None:
        """In a forked child: the copy of the descriptor, and nothing else."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _knocked(self) -> None:
        assert self._socket is not None
        self._loop.forget(self._socket.fileno())
        self._on_knock()
