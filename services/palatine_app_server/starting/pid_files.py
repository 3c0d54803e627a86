"""The files that hold the master's pid, written when their time has come; vacuum.py removes them. Plain."""

import os
from collections.abc import Callable, Sequence


def write(paths: Sequence[str], say: Callable[[str], None]) -> None:
    """Write our pid into each; what an instance serves is worth more than the file that names it."""
    for path in paths:
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            say(f"could not write pidfile {path}: {error.strerror}")
        else:
            say(f"writing pidfile to {path}")
