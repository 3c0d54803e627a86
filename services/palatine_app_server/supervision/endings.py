"""What the wait status of a process says, in words and as a question. Plain."""

import os
import signal
from typing import Final

#: Signals by which a process ends for a fault of its own.
_CRASHES: Final = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGSYS}
)


def in_words(status: int) -> str:
    """As uWSGI's log has it: "died, killed by signal 9" or "died, exit status 1"."""
    code = os.waitstatus_to_exitcode(status)
    return f"died, killed by signal {-code}" if code < 0 else f"died, exit status {code}"


def is_crash(status: int) -> bool:
    """Whether the process ended by a fault such as a segmentation fault."""
    return -os.waitstatus_to_exitcode(status) in _CRASHES
