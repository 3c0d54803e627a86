"""Memory that a process and everything it forks share: without a name, or a file that keeps what is in it.

Words and bytes in it have no owner: whoever changes more than a word holds a lock of its own.
"""

import mmap
import os
from typing import Final, Self

from palatine.counters import ofd
from palatine.errors import AlreadyRunningError, ConfigError

_CLOSED: Final = -1


class SharedMemory:
    """`view` is the memory; it stays valid in forked children."""

    def __init__(self, memory: mmap.mmap, *, fresh: bool, lock_fd: int = _CLOSED) -> None:
        """Use `anonymous` or `of_file`."""
        self._memory = memory
        self._lock_fd = lock_fd
        self.view = memoryview(memory)
        #: Whether it is all zeroes: nobody has ever written to it.
        self.fresh = fresh

    @classmethod
    def anonymous(cls, size: int) -> Self:
        """`size` bytes of zeroes that end with the last process that has them; OSError (ENOMEM)."""
        return cls(mmap.mmap(-1, size), fresh=True)

    @classmethod
    def of_file(cls, path: str, size: int) -> Self:
        """The file at `path`, made with `size` bytes if there is none.

        ConfigError if it has another size, AlreadyRunningError while another instance has it, OSError.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if not ofd.try_lock(fd, 0, 0):
                raise AlreadyRunningError(f"{path}: another instance has this store")
            found = os.fstat(fd).st_size
            if found not in {0, size}:
                raise ConfigError(f"invalid store file of {found} bytes, {size} are configured: remove it", path)
            if not found:
                os.posix_fallocate(fd, 0, size)  # a file grown by ftruncate kills its writer when the disk is full
            # a description of its own: the one mmap keeps is inherited by every fork and would hold the lock for ever
            mapped = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                return cls(mmap.mmap(mapped, size), fresh=not found, lock_fd=fd)
            finally:
                os.close(mapped)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def window(cls, path: str, size: int, offset: int = 0) -> Self:
        """A part of an existing file or device, for its own sake; OSError, ValueError beyond its end."""
        fd = os.open(path, os.O_RDWR | os.O_SYNC | os.O_CLOEXEC)
        try:
            return cls(mmap.mmap(fd, size, offset=offset), fresh=False)
        finally:
            os.close(fd)

    def flush(self) -> None:
        """Write what has changed to the disk, if it is a file's; OSError."""
        self._memory.flush()

    def release_in_child(self) -> None:
        """In a forked child: let go of the file's lock, so that it ends with the parent."""
        if self._lock_fd != _CLOSED:
            os.close(self._lock_fd)
            self._lock_fd = _CLOSED


def private(size: int) -> memoryview:
    """`size` bytes for this process alone, of which only what has been written to costs anything; OSError (ENOMEM)."""
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
