"""A mule: a process beside the workers that handles signals and messages, or runs a program. It serves no request."""

import importlib
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from palatine import exits
from palatine_app_server.crews.aide import Aide
from palatine_app_server.sharing import mule_queues
from palatine_app_server.sharing.mule_queues import MuleQueues
from palatine_app_server.system import own_lines
from palatine_app_server.system.last_words import print_exc

#: The longest message the mule's own loop takes, uWSGI's 64 KiB.
MESSAGE_BYTES: Final = 65536


class MuleDoors(NamedTuple):
    """The descriptors a mule hears by."""

    queues: MuleQueues
    signals: tuple[int, ...]


class Mule:
    """Mule `number`; `run_signal` and `take_message` run the app's handlers and report their exceptions."""

    def __init__(
        self,
        number: int,
        doors: MuleDoors,
        aide: Aide,
        *,
        run_signal: Callable[[int], None],
        take_message: Callable[[bytes], bool],
    ) -> None:
        self.number = number
        self._doors = doors
        self._aide = aide
        self._run_signal = run_signal
        self._take_message = take_message

    def run(self, program: str) -> int:
        """Run the mule's program, or handle signals and messages for ever; the exit code."""
        if program.endswith(".py"):
            return _run_program(program)
        if ":" in program:
            return _call(program)
        while True:
            message = self.next_message(None)
            if message is not None:
                with self._aide.working():
                    if not self._take_message(message):
                        own_lines.say(f"*** mule {self.number} received a {len(message)} bytes message ***")

    def next_message(
        self, seconds: float | None, *, signals: bool = True, farms: bool = True, limit: int = MESSAGE_BYTES
    ) -> bytes | None:
        """The next message; None after a signal was handled, b"" when `seconds` are over.

        Until it is called again the mule counts as working on what it has got.
        """
        self._aide.rest()
        readers = self._doors.queues.readers(self.number)
        if farms:
            readers += self._doors.queues.farm_readers(self.number)
        return self._hear(readers, self._doors.signals if signals else (), seconds, limit)

    def next_farm_message(self) -> bytes | None:
        """The next message of the farms this mule is in; None where it is in none."""
        self._aide.rest()
        readers = self._doors.queues.farm_readers(self.number)
        return self._hear(readers, (), None, MESSAGE_BYTES) if readers else None

    def _hear(
        self, readers: list[socket.socket], signals: tuple[int, ...], seconds: float | None, limit: int
    ) -> bytes | None:
        by_fd = {reader.fileno(): reader for reader in readers}
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            ready = mule_queues.wait([*by_fd, *signals], left)
            if not ready:
                return b""
            for fd in signals:
                if fd in ready and self.handle_signal(fd) is not None:
                    return None
            for fd, reader in by_fd.items():
                if fd in ready:
                    self._aide.take(harakiri=False)  # before it is read: from then on it is ours
                    message = mule_queues.received(reader, limit)
                    if message is not None:
                        self._aide.count("messages")
                        return message
                    self._aide.rest()

    def handle_signal(self, fd: int) -> int | None:
        """Take a signal from `fd` and run its handler; its number, None where another mule was quicker."""
        with self._aide.working():
            try:
                data = os.read(fd, 1)
            except BlockingIOError:
                return None
            if not data:
                return None
            number = data[0]
            self._aide.store("running_signal", number + 1)
            self._run_signal(number)
            self._aide.store("running_signal", 0)
            self._aide.count("signals")
        return number


def _run_program(path: str) -> int:
    """Run a script as `__main__`; it ends when the script does, and is started again."""
    try:
        with open(path, "rb") as file:
            code = compile(file.read(), path, "exec")
        main: dict[str, Any] = sys.modules["__main__"].__dict__
        main["__file__"] = path
        exec(code, main)  # noqa: S102 - the config says so: mule = script.py
    except Exception:  # noqa: BLE001 - the program's; the master starts it again
        print_exc()
    return exits.FAILURE


def _call(program: str) -> int:
    module, _, name = program.partition(":")
    try:
        getattr(importlib.import_module(module), name.removesuffix("()"))()
    except Exception:  # noqa: BLE001 - likewise
        print_exc()
    return exits.FAILURE
