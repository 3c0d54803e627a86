"""The master FIFO: one-letter orders written into a named pipe; a digit makes another of the pipes the active one."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from palatine_app_server.system.loop import Loop
from palatine_app_server.system.part import Part

READ_BYTES: Final = 4096
#: uWSGI numbers its pipes by one digit.
MOST_FIFOS: Final = 10


class MasterFifo(Part):
    """Reads the active pipe of `paths` and calls what `commands` has for each letter; others are ignored."""

    def __init__(
        self,
        paths: Sequence[str],
        commands: Mapping[str, Callable[[], object]],
        loop: Loop,
        say: Callable[[str], None],
    ) -> None:
        self._paths = paths[:MOST_FIFOS]
        self._commands = commands
        self._loop = loop
        self._say = say
        self._fd = -1
        self._open(0)

    def close_in_child(self) -> None:
        """Only the master reads."""
        if self._fd >= 0:
            os.close(self._fd)

    def _open(self, slot: int) -> None:
        path = self._paths[slot]
        try:
            if os.path.lexists(path):
                os.unlink(path)
            os.mkfifo(path, 0o600)
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)  # with a writer of our own it never ends
        except OSError as error:
            self._say(f"uwsgi_master_fifo()/open(): {error.strerror} [{path}]")
            return
        if self._fd >= 0:
            self._loop.forget(self._fd)
            os.close(self._fd)
        self._fd = fd
        self._loop.watch(fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return
        for letter in data.decode("latin-1"):
            if letter.isdigit():
                if int(letter) < len(self._paths):
                    self._open(int(letter))
                    self._say(f"active master fifo is now {self._paths[int(letter)]}")
                return  # what follows was written for the one before, which is closed
            command = self._commands.get(letter)
            if command is not None:
                command()
