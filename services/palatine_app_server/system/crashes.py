"""What a process says before it dies of a fault: its Python frames, and its C frames where something can walk them.

faulthandler does the first; the second Python 3.14's faulthandler or, in the compiled build, `crash_frames`. Plain.
"""

import faulthandler
import sys
from typing import Any

try:
    from palatine_app_server.system import crash_frames
except ImportError:  # the pure build; found out once, since a search that fails costs every process dear
    crash_frames = None  # type: ignore[assignment]  # what else a module that is not there could be


def report_to(fd: int) -> None:
    """Have a fatal signal of this process, or of what it forks, write its frames to `fd`; again: to another."""
    words: dict[str, Any] = {}
    if crash_frames is not None:
        faulthandler.disable()  # who is there last speaks first, and passes the signal on
        crash_frames.install(fd)
        words = {"c_stack": False} if sys.version_info >= (3, 14) else {}  # they are said once
    faulthandler.enable(file=fd, all_threads=True, **words)
