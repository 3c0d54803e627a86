"""Paths the bus binds: their length, and the lock that makes one process their owner; never a socket."""

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from palatine.errors import AlreadyRunningError, ConfigError

#: sun_path has 108 bytes and ends with a NUL (unix(7)).
PATH_BYTES: Final = 107


def address(endpoint: Path) -> str:
    """The zmq address of an ipc path. ConfigError if the kernel cannot hold it."""
    path = endpoint.absolute()
    length = len(os.fsencode(path))
    if length > PATH_BYTES:
        raise ConfigError(
            f"a socket's path has at most {PATH_BYTES} bytes, this has {length}: shorten the runtime directory or name",
            str(path),
        )
    return f"ipc://{path}"


class Claim:
    """The ownership of a path for as long as this object is open; the kernel frees it when the process dies."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def close(self) -> None:
        """Give the path up; the lock file stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Take the path and its lock file away. Only an owner may: who has opened that meanwhile finds it gone."""
        self.path.unlink(missing_ok=True)
        _lock_of(self.path).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def claim(path: Path) -> Claim:
    """Own `path` by an exclusive flock on `<path>.lock`. AlreadyRunningError names the owner's pid.

    A second zmq bind on an ipc path succeeds and steals it, so nobody binds without this.
    """
    lock = _lock_of(path)
    while True:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot be opened: {error.strerror}", str(lock)) from error
        held = Claim(path, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            held.close()
            raise AlreadyRunningError(f"{path} is owned by a live process (pid {owner or 'unknown'})") from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
                return held
        held.close()  # somebody cleaned the directory between open and flock: what we locked is no longer the path


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".lock")
