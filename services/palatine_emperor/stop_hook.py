"""`vassals-stop-hook`: a command run by the emperor after each vassal's death; it never holds the emperor up."""

import os
import subprocess
from collections.abc import Callable
from typing import Final

import trio

#: A hook that takes longer is killed. Seconds.
HOOK_SECONDS: Final = 60.0


async def run_stop_hook(command: str, name: str, directory: str, say: Callable[[str], None]) -> None:
    """Run `<command> <name>` through the shell; only its exit code is told."""
    line = f"{command} {name}"
    say(f"[emperor] running vassal stop-hook: {line}")
    with trio.move_on_after(HOOK_SECONDS) as scope:
        done = await trio.run_process(
            ["/bin/sh", "-c", line],
            stdin=subprocess.DEVNULL,
            check=False,
            env={**os.environ, "UWSGI_VASSALS_DIR": directory},
        )
        say(f"[emperor] {name} stop-hook returned {done.returncode}")
    if scope.cancelled_caught:
        say(f"[emperor] {name} stop-hook did not end within {HOOK_SECONDS:g} seconds, killed")
