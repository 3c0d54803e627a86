"""Lines of the server's own from processes that run the app: dated where `log-date` wants that, as the master's are.

What the app prints and request lines are left as they are.
"""

import sys
import time
from collections.abc import Callable


def dating(form: str) -> Callable[[], str]:
    """What makes the beginning of a dated line: `form` is strftime(3)'s; "": as ctime(3) has it."""
    return lambda: f"{time.strftime(form) if form else time.ctime()} - "


def stamp() -> str:
    """What a line begins with now; the process's `uwsgi` module knows it."""
    made: Callable[[], str] | None = getattr(sys.modules.get("uwsgi"), "_stamp", None)
    return made() if made is not None else ""


def say(text: str) -> None:
    """One line, in its place among what the app prints."""
    sys.stderr.write(f"{stamp()}{text}\n")
