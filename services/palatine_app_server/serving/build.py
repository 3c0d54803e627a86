"""Says which build of the request path runs: the source as it is, or what mypyc made of it. Imports nothing of it."""

import os


def compiled() -> bool:
    """Whether the hot modules lie here as C, too (hatch_build.py): Python loads that, then."""
    return any(name.startswith("reactor.") and name.endswith(".so") for name in os.listdir(os.path.dirname(__file__)))


def suffix() -> str:
    """What is said behind the version."""
    return " compiled" if compiled() else ""
