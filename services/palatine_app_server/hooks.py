"""UWSGI's hooks, `verb:argument`, run at fixed moments of an instance's life with the rights of that moment. Plain.

A hook waits for what it starts, so in the master only the moments before it serves use `run`.
"""

import os
import re
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from palatine.errors import ConfigError, PalatineError

#: The moments of `hook-MOMENT` and, but for the later ones, `exec-MOMENT`.
MOMENTS: Final = (
    "asap", "pre-jail", "post-jail", "in-jail", "as-root", "as-user", "as-user-atexit", "pre-app", "post-app",
    "post-fork", "accepting", "accepting1", "accepting-once", "accepting1-once", "master-start",
)  # fmt: skip
EXEC_MOMENTS: Final = frozenset(MOMENTS[:9])
#: What `unix_signal:N FUNCTION` may name: uWSGI's C functions, and what they mean here.
SIGNAL_ORDERS: Final[Mapping[str, str]] = {
    "gracefully_kill_them_all": "drain",
    "kill_them_all": "stop_now",
    "grace_them_all": "reload",
    "reap_them_all": "reload_brutally",
}


#: It knows alarms and signals; other processes and moments do not.
_OF_THE_MASTER: Final = frozenset({"unix_signal", "alarm"})


class HookError(PalatineError):
    """A hook failed: the instance ends, as uWSGI's does."""


class Hook(NamedTuple):
    """One hook; `text` is what the config says."""

    verb: str
    argument: str

    @property
    def text(self) -> str:
        """As uWSGI's log shows it."""
        return f"{self.verb}:{self.argument}"


def parse(text: str) -> Hook:
    """`verb:argument`; ConfigError for another form or a verb nobody knows."""
    verb, colon, argument = text.partition(":")
    if not colon:
        raise ConfigError("invalid hook syntax, must be hook:args")
    if verb not in VERBS and verb not in _OF_THE_MASTER:
        raise ConfigError(f"hook action not found: {verb}")
    if verb == "unix_signal":
        number, _, function = argument.partition(" ")
        if not number.isdigit() or function.strip() not in SIGNAL_ORDERS:
            raise ConfigError(f"unix_signal takes a number and one of {', '.join(SIGNAL_ORDERS)}, not {argument!r}")
    return Hook(verb, argument)


def run(hooks: Sequence[Hook], moment: str) -> None:
    """Run each in turn; HookError for the first that fails."""
    for hook in hooks:
        if hook.verb in _OF_THE_MASTER:
            raise HookError(f"FATAL hook failed: {hook.text}: only hook-master-start and hook-touch can do that")
        said = f'"{hook.argument}"' if hook.verb == "exec" else f'"{hook.text}"'
        sys.stderr.write(f"running {said} ({moment.replace('-', ' ', 1) if 'as-' in moment else moment})...\n")
        sys.stderr.flush()
        try:
            VERBS[hook.verb](hook.argument)
        except (OSError, ValueError, KeyError, HookError) as error:
            raise HookError(f"FATAL hook failed, destroying instance: {hook.text}: {error}") from error


def _execute(argument: str) -> None:
    import subprocess  # rarely needed, and half a megabyte

    code = subprocess.run(["/bin/sh", "-c", argument], stdin=subprocess.DEVNULL, check=False).returncode
    if code:
        raise HookError(f'command "{argument}" exited with non-zero code: {code}')


def _write(mode: int, end: str) -> Callable[[str], None]:
    def write(argument: str) -> None:
        path, text = _two(argument)
        fd = os.open(path, os.O_WRONLY | mode, 0o666)
        try:
            os.write(fd, (text + end).encode("utf-8", "surrogateescape"))
        finally:
            os.close(fd)

    return write


def _two(argument: str) -> tuple[str, str]:
    path, space, text = argument.partition(" ")
    if not space:
        raise HookError("invalid hook syntax, must be: <file> <string>")
    return path, text


def _chmod(argument: str) -> None:
    path, mode = _two(argument)
    os.chmod(path, int(mode, 8))


def _chown(argument: str) -> None:
    import shutil

    path, owner = _two(argument)
    user, _, group = owner.partition(" ")
    shutil.chown(path, int(user) if user.isdigit() else user, int(group) if group.isdigit() else group)


def _sticky(path: str) -> None:
    os.chmod(path, os.stat(path).st_mode | stat.S_ISVTX)


def _putenv(argument: str) -> None:
    name, _, value = argument.partition("=")
    os.environ[name] = value


def _create(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666))


def _print(end: str) -> Callable[[str], None]:
    def say(text: str) -> None:
        sys.stderr.write(re.sub(r"\\n", "\n", text) + end)
        sys.stderr.flush()

    return say


def _exit(argument: str) -> None:
    os._exit(int(argument or "0"))


_NEW: Final = os.O_CREAT | os.O_TRUNC
_MORE: Final = os.O_CREAT | os.O_APPEND

VERBS: Final[Mapping[str, Callable[[str], None]]] = {
    "exec": _execute,
    "safeexec": _execute,
    "cd": os.chdir,
    "chdir": os.chdir,
    "mkdir": os.mkdir,
    "rmdir": os.rmdir,
    "unlink": os.unlink,
    "create": _create,
    "creat": _create,
    "write": _write(_NEW, ""),
    "writen": _write(_NEW, "\n"),
    "append": _write(_MORE, ""),
    "appendn": _write(_MORE, "\n"),
    "writefifo": _write(os.O_NONBLOCK, ""),
    "chmod": _chmod,
    "sticky": _sticky,
    "chown": _chown,
    "chown2": _chown,
    "putenv": _putenv,
    "print": _print("\n"),
    "println": _print("\n"),
    "log": _print("\n"),
    "exit": _exit,
}
