"""`profiler`: a line in the log for every call (pycall) or every line (pyline) of Python code. For development only."""

import sys
import threading
import time
from types import FrameType
from typing import Any, Final

_OURS: Final = __file__.removesuffix("serving/profiler.py")


def install(kind: str) -> None:
    """Have this thread and all to come say what they do, in uWSGI's words; what the server does itself is left out."""
    said = _Lines()
    if kind == "pycall":
        threading.setprofile(said.call)
        sys.setprofile(said.call)
    else:
        threading.settrace(said.line)
        sys.settrace(said.line)


class _Lines:
    def __init__(self) -> None:
        self._last = 0

    def call(self, frame: FrameType, event: str, argument: Any) -> None:
        """A call begins."""
        code = frame.f_code
        if event not in {"call", "c_call"} or code.co_filename.startswith(_OURS):
            return
        what, name = ("CALL", code.co_name) if event == "call" else ("C CALL", getattr(argument, "__name__", "?"))
        self._say(
            f"{what}: {code.co_filename} (line {frame.f_lineno}) -> {name} {code.co_argcount} args,"
            f" stacksize {code.co_stacksize}"
        )

    def line(self, frame: FrameType, event: str, _argument: Any) -> Any:
        """A line begins."""
        code = frame.f_code
        if code.co_filename.startswith(_OURS):
            return None
        if event == "line":
            self._say(f"file {code.co_filename} line {frame.f_lineno}: {code.co_name} argc:{code.co_argcount}")
        return self.line

    def _say(self, text: str) -> None:
        now = time.monotonic_ns() // 1000
        delta, self._last = now - self._last if self._last else 0, now
        sys.stderr.write(f"[uWSGI Python profiler {delta}] {text}\n")
