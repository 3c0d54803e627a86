"""What ps(1) shows of this process. Plain."""

import ctypes
import os
from typing import Final

_PR_SET_NAME: Final = 15


def set_title(text: str) -> None:
    """Its name, prctl(2) PR_SET_NAME, and the memory its arguments came in.

    The environment lies behind the arguments (proc(5), fields 48 to 51 of stat), and a longer title goes on into it,
    so that is copied elsewhere first.
    """
    title = os.fsencode(text)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NAME, ctypes.c_char_p(title[:15]), 0, 0, 0)
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end, environ_start, environ_end = (int(field) for field in fields[45:49])
    if end <= start:
        return
    for name, value in list(os.environ.items()):
        os.environ[name] = value  # setenv(3) copies
    room = (environ_end if environ_start == end else end) - start
    ctypes.memset(start, 0, room)
    ctypes.memmove(start, title[: room - 1], min(len(title), room - 1))
