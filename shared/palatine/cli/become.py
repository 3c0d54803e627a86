"""Turn this process into the app-server: same pid, descriptors and signals; must never fork."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from palatine.companions import command, missing
from palatine.exits import UNAVAILABLE


def become_app_server(words: Sequence[str]) -> NoReturn:
    """Does not return; exits 69 if the app-server is not here."""
    problem = missing("app-server")
    if problem:
        sys.stderr.write(f"palatine: {problem}\n")
        sys.exit(UNAVAILABLE)
    argv = app_server_argv(words)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(argv[0], argv, {**os.environ, "PALATINE_UMBRELLA": "1"})  # noqa: S606 - without a shell is the point


def app_server_argv(words: Sequence[str]) -> list[str]:
    """The installed script, by which ps and pgrep know the process, or the module where there is none."""
    script = _script()
    return [script, *words] if os.access(script, os.X_OK) else command("app-server", *words)


def _script() -> str:
    return os.path.join(os.path.dirname(sys.executable), "palatine-app-server")
