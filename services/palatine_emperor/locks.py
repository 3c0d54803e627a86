"""Asks whether another daemon lives, by the lock of its ctl; must never take that lock."""

import fcntl
import os
from pathlib import Path


def is_locked(path: Path) -> bool:
    """Whether a live process holds the lock of a daemon's ctl."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
