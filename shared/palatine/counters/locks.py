"""A lock between processes that dies with its holder: never kept by a killed process or by a fork of its holder."""

import os
import time
from _thread import allocate_lock
from pathlib import Path
from types import TracebackType
from typing import Final
from weakref import WeakMethod

from palatine.counters import ofd
from palatine.errors import DeadlineError

#: How long to wait by default, in seconds; what is done under such a lock takes microseconds.
DEFAULT_TIMEOUT: Final = 5.0

# The kernel can wait for such a lock or give up at once, but not wait until a deadline; so it is asked again and again.
_FIRST_PAUSE: Final = 0.000_05
_LONGEST_PAUSE: Final = 0.005
_CLOSED: Final = -1


class SharedLock:
    """Byte `slot` of the 0600 file at `path`, which is made if need be; `with` waits `timeout` seconds. Not reentrant.

    Processes exclude each other by an OFD lock, threads of one process, which would share that lock, by a thread lock.
    Each process opens the file for itself when it first acquires; a forked child lets go of what it inherited.
    """

    def __init__(self, path: Path, slot: int = 0, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Opens nothing yet."""
        self.path = path
        self.timeout = timeout
        self.slot = slot
        self._threads = allocate_lock()
        self._fd = _CLOSED
        self._held = False
        forget = WeakMethod(self._forget_in_child)
        os.register_at_fork(after_in_child=lambda: (method := forget()) and method())

    def acquire(self, timeout: float | None = DEFAULT_TIMEOUT) -> bool:
        """Take the lock; False if that was not possible in `timeout` seconds (0: without waiting, None: for ever).

        OSError if the file cannot be opened.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._threads.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
            return False
        try:
            self._held = self._acquire_between_processes(deadline)
        finally:
            if not self._held:
                self._threads.release()
        return self._held

    def release(self) -> None:
        """Give the lock up; RuntimeError if this process does not hold it. Any thread may do it."""
        if not self._held:
            raise RuntimeError(f"{self.path}: lock {self.slot} is not held by this process")
        self._held = False
        ofd.unlock(self._fd, self.slot, 1)
        self._threads.release()

    def locked(self) -> bool:
        """Whether anyone holds it now, this process included."""
        return self._held or ofd.held(self._descriptor(), self.slot, 1)

    def close(self) -> None:
        """Close the file, which gives the lock up if it is held; a later `acquire` opens it again."""
        if self._fd != _CLOSED:
            os.close(self._fd)
            self._fd = _CLOSED
        self._held = False
        self._threads = allocate_lock()

    def __enter__(self) -> None:
        if not self.acquire(self.timeout):
            raise DeadlineError(f"{self.path}: lock {self.slot} was not free within {self.timeout:g} s")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _acquire_between_processes(self, deadline: float | None) -> bool:
        fd = self._descriptor()
        pause = _FIRST_PAUSE
        while not ofd.try_lock(fd, self.slot, 1):
            left = _LONGEST_PAUSE if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)
        return True

    def _descriptor(self) -> int:
        if self._fd == _CLOSED:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        return self._fd

    def _forget_in_child(self) -> None:
        # The description is the parent's: kept open here, it would keep the parent's lock when the parent is killed.
        # The thread lock may have been held by a thread that does not exist in this process.
        self.close()
