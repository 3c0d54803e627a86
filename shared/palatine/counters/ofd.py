"""Open-file-description byte-range locks: freed when their holder dies, however it dies; never waits.

A lock belongs to the descriptor's *open file description*: a forked child that keeps the descriptor keeps the lock, and
two threads that use one descriptor do not exclude each other.
"""

import errno
import fcntl
import os
import struct
from typing import Final

# struct flock: type, whence, start, length, pid (always 0 with these commands)
_FLOCK: Final = struct.Struct("hhqqi4x")


def try_lock(fd: int, start: int, length: int) -> bool:
    """Take the write lock on a range of a writable descriptor; False if another description holds it."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def unlock(fd: int, start: int, length: int) -> None:
    """Give the range up."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, start, length, 0))


def held(fd: int, start: int, length: int) -> bool:
    """Whether another description holds a write lock in the range; a read-only descriptor will do."""
    # Asking as a would-be reader: read locks, which anyone who may open the file can take, must not look like a writer.
    asked = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, start, length, 0)
    answer: bytes = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)
