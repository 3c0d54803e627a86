"""Request lines on a pipe or terminal all workers share: a reader that has stopped must not hold those who only log.

What an app itself prints there waits for the reader, as it does anywhere.
"""

import os
import select
import stat
import time
from typing import Final

#: For a reader that is merely slow: a line waits so long for it, in seconds.
PATIENCE_SECONDS: Final = 0.25
#: After one that waited in vain, so long no other does.
PAUSE_SECONDS: Final = 5.0


def without_waiting(fd: int) -> int:
    """A descriptor of our own on the same pipe or terminal, which does not block; `fd` where that cannot be.

    O_NONBLOCK belongs to the open file, which others use: it takes another open file.
    """
    kind = os.fstat(fd).st_mode
    if not stat.S_ISFIFO(kind) and not stat.S_ISCHR(kind):
        return fd
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:  # another user's, since privileges were dropped
        return fd


class LateLines:
    """Lines `fd` did not take at once; those that are given up are counted, and a later line says how many."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lost = 0
        self._again_at = 0.0

    def write(self, data: bytes) -> None:
        """Wait a little for the reader, unless it is known not to read. OSError when it is gone."""
        if time.monotonic() < self._again_at:
            self._lost += 1
            return
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if not poll.poll(PATIENCE_SECONDS * 1000):
            self._again_at = time.monotonic() + PAUSE_SECONDS
            self._lost += 1
            return
        lost, self._lost = self._lost, 0
        note = b"%d request lines were lost: nobody read them\n" % lost if lost else b""
        try:
            os.write(self._fd, note + data)
        except BlockingIOError:  # somebody else's line was faster
            self._lost += lost + 1
