"""What must be there before an instance starts: locked files, paths, mounts, network interfaces, listeners. Plain.

It runs before anything is served and may wait; a signal's default action ends the wait. GateError: not in time.
"""

import fcntl
import os
import socket
import stat
import struct
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from palatine_app_server.starting.errors import GateError
from palatine_app_server.system import own_lines
from palatine_app_server.system.dialling import dial

DEFAULT_SECONDS: Final = 60
#: Between two looks: nobody tells us when an interface or a mount appears.
_LOOK_SECONDS: Final = 0.1
#: struct flock of fcntl(2): type, whence, start, length, pid.
_FLOCK: Final = struct.Struct("hhqqi4x")


class Lock(NamedTuple):
    """A file to hold a lock on for as long as any process of the instance lives."""

    path: str
    waits: bool


class Gate(NamedTuple):
    """Something to wait for: `kind` is interface, fs, file, dir, mountpoint or socket."""

    kind: str
    name: str
    seconds: int = DEFAULT_SECONDS


def hold(lock: Lock) -> None:
    """Lock the whole file as uWSGI does, but by an open file description, which forks do not lose (fcntl(2), OFD)."""
    try:
        fd = os.open(lock.path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise GateError(f"flock: {error.strerror}: {lock.path}") from error
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLKW if lock.waits else fcntl.F_OFD_SETLK, wanted)
    except (BlockingIOError, PermissionError) as error:
        os.close(fd)
        raise GateError(f"uWSGI ERROR: {lock.path} is locked by another instance") from error


def wait(gate: Gate) -> None:
    """Wait until it is there."""
    own_lines.say(f"waiting for {gate.name} (max {gate.seconds} seconds) ...")
    deadline = time.monotonic() + gate.seconds
    is_open = _OPEN[gate.kind]
    while not is_open(gate.name):
        if time.monotonic() >= deadline:
            raise GateError(f"{gate.name} unavailable after {gate.seconds} seconds")
        time.sleep(_LOOK_SECONDS)
    own_lines.say(f"{gate.name} {'ready' if gate.kind == 'socket' else 'found'}")


def _is_there(path: str, right: Callable[[int], bool] = lambda _mode: True) -> bool:
    try:
        return right(os.stat(path).st_mode)
    except OSError:
        return False


def _has_interface(name: str) -> bool:
    try:
        return socket.if_nametoindex(name) > 0
    except OSError:
        return False


def _answers(address: str) -> bool:
    try:
        dial(address, 1.0).close()
    except (OSError, ValueError):
        return False
    return True


_OPEN: Final[Mapping[str, Callable[[str], bool]]] = {
    "interface": _has_interface,
    "fs": _is_there,
    "file": lambda path: _is_there(path, stat.S_ISREG),
    "dir": lambda path: _is_there(path, stat.S_ISDIR),
    "mountpoint": os.path.ismount,
    "socket": _answers,
}
