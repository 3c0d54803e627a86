"""The hooks of an emperor and of what it starts: which there are, and how the emperor's own are run without waiting.

The app-server knows the verbs; a process of it runs the emperor's hooks, a vassal runs its own before it serves.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

import trio

from palatine_emperor.settings import Settings
from palatine_emperor.stop_hook import HOOK_SECONDS

_PROGRAM: Final = (sys.executable, "-P", "-m", "palatine_app_server.starting.hook_program")


def as_vassal(settings: Settings) -> tuple[str, ...]:
    """What each vassal runs before it serves, in uWSGI's order."""
    return _texts(settings.hook_as_vassal, settings.mount_as_vassal, settings.umount_as_vassal, settings.exec_as_vassal)


def as_emperor(settings: Settings) -> tuple[str, ...]:
    """What the emperor runs once a vassal is started."""
    return _texts(
        settings.hook_as_emperor, settings.mount_as_emperor, settings.umount_as_emperor, settings.exec_as_emperor
    )


def _texts(
    hooks: tuple[str, ...], mounts: tuple[str, ...], unmounts: tuple[str, ...], commands: tuple[str, ...]
) -> tuple[str, ...]:
    lists = (("mount", mounts), ("umount", unmounts), ("exec", commands))
    return (*hooks, *(f"{verb}:{argument}" for verb, arguments in lists for argument in arguments))


def about(name: str, pid: int, uid: int | None, gid: int | None) -> dict[str, str]:
    """What uWSGI tells hooks of the vassal they run for."""
    ids = {"UID": os.geteuid() if uid is None else uid, "GID": os.getegid() if gid is None else gid}
    return {f"UWSGI_VASSAL_{what}": str(value) for what, value in {"CONFIG": name, "PID": pid, **ids}.items()}


async def run_hooks(moment: str, texts: tuple[str, ...], environ: Mapping[str, str]) -> int:
    """Run them in a process of their own, what they say goes where our log goes; its exit code, -9 for too slow."""
    done = None
    with trio.move_on_after(HOOK_SECONDS):
        done = await trio.run_process(
            [*_PROGRAM, moment, *texts], stdin=subprocess.DEVNULL, check=False, env={**os.environ, **environ}
        )
    return done.returncode if done else -9
