"""UWSGI's hooks, `verb:argument`, run at fixed moments of an instance's life with the rights of that moment. Plain.

A hook waits for what it starts, so in the master only the moments before it serves use `run`.
"""

import errno
import os
import re
import socket
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from palatine.errors import ConfigError
from palatine_app_server.starting import gates
from palatine_app_server.starting.errors import GateError, HookError
from palatine_app_server.starting.gates import Gate

#: The moments of `hook-MOMENT` and, but for the later ones, `exec-MOMENT`.
MOMENTS: Final = (
    "asap", "pre-jail", "post-jail", "in-jail", "as-root", "as-user", "as-user-atexit", "pre-app", "post-app",
    "post-fork", "accepting", "accepting1", "accepting-once", "accepting1-once", "master-start", "as-mule",
    "emperor-stop", "emperor-reload", "emperor-lost",
)  # fmt: skip
EXEC_MOMENTS: Final = frozenset(MOMENTS[:9])
#: Of mount-MOMENT and umount-MOMENT.
MOUNT_MOMENTS: Final = MOMENTS[:5]
#: Of call-MOMENT; those before would call C functions.
CALL_MOMENTS: Final = frozenset({"pre-app", "post-app"})
#: Where the app's modules are loaded, so that Python functions can be called.
PYTHON_MOMENTS: Final = frozenset({*MOMENTS[7:14], "as-mule"})
#: What `unix_signal:N FUNCTION` may name: uWSGI's C functions, and what they mean here.
SIGNAL_ORDERS: Final[Mapping[str, str]] = {
    "gracefully_kill_them_all": "drain",
    "kill_them_all": "stop_now",
    "grace_them_all": "reload",
    "reap_them_all": "reload_brutally",
}


#: It knows alarms and signals; other processes and moments do not.
_OF_THE_MASTER: Final = frozenset({"unix_signal", "alarm"})
#: uWSGI calls C functions by these; here they call Python's.
_CALLS: Final = frozenset({"call", "callret", "callint", "callintret"})
SHELL: Final = "/bin/sh"


class Hook(NamedTuple):
    """One hook; `text` is what the config says. The log does not show a private one; `shell` runs its command."""

    verb: str
    argument: str
    shell: str = SHELL
    private: bool = False

    @property
    def text(self) -> str:
        """As uWSGI's log shows it."""
        return f"{self.verb}:{self.argument}"


def parse(text: str, moment: str, shell: str = SHELL) -> Hook:
    """`verb:argument` or `!verb:argument`; ConfigError for another form, and for what cannot be done at `moment`."""
    verb, colon, argument = text.partition(":")
    private = verb.startswith("!")
    verb = verb.removeprefix("!")
    if not colon:
        raise ConfigError("invalid hook syntax, must be hook:args")
    if verb in {"rpc", "retryrpc"}:
        raise ConfigError(f"{verb}: there is no rpc: use exec with curl")
    if verb not in VERBS and verb not in _OF_THE_MASTER and verb not in _CALLS:
        raise ConfigError(f"hook action not found: {verb}")
    if verb in _CALLS and (moment not in PYTHON_MOMENTS or not set(argument.partition(" ")[0]) & {".", ":"}):
        raise ConfigError(
            f"{verb} takes MODULE:FUNCTION, a Python function, from pre-app on: C functions cannot be called; use exec"
        )
    if verb in {"mount", "umount"}:
        from palatine_app_server.starting import filesystems

        filesystems.check(verb, argument)
    if verb == "unix_signal":
        number, _, function = argument.partition(" ")
        if not number.isdigit() or function.strip() not in SIGNAL_ORDERS:
            raise ConfigError(f"unix_signal takes a number and one of {', '.join(SIGNAL_ORDERS)}, not {argument!r}")
    return Hook(verb, argument, shell, private)


#: What uWSGI calls moments it does not call by their options.
_SHOWN: Final = {"as-root": "as root", "as-user": "as user", "pre-app": "pre app", "post-app": "post app",
                 "as-user-atexit": "atexit"}  # fmt: skip


def run(hooks: Sequence[Hook], moment: str) -> None:
    """Run each in turn; HookError for the first that fails."""
    for hook in hooks:
        if hook.verb in _OF_THE_MASTER:
            raise HookError(f"FATAL hook failed: {hook.text}: only hook-master-start and hook-touch can do that")
        said = "--- PRIVATE HOOK ---" if hook.private else f'"{hook.argument if hook.verb == "exec" else hook.text}"'
        sys.stderr.write(f"running {said} ({_SHOWN.get(moment, moment)})...\n")
        sys.stderr.flush()
        try:
            _do(hook)
        except (OSError, ValueError, KeyError, HookError, ConfigError) as error:
            shown = "a private hook" if hook.private else hook.text
            raise HookError(f"FATAL hook failed, destroying instance: {shown}: {error}") from error


def _do(hook: Hook) -> None:
    if hook.verb in {"exec", "safeexec"}:
        _execute(hook)
    elif hook.verb in _CALLS:
        from palatine_app_server.starting import python_calls

        python_calls.call(hook.verb, hook.argument)
    else:
        VERBS[hook.verb](hook.argument)


def _execute(hook: Hook) -> None:
    import subprocess  # rarely needed, and half a megabyte

    code = subprocess.run([hook.shell, "-c", hook.argument], stdin=subprocess.DEVNULL, check=False).returncode
    if code:
        text = f'command "{hook.argument}" exited with non-zero code: {code}'
        if hook.verb == "exec":
            raise HookError(text)
        sys.stderr.write(f"{text}\n")


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


def _mount(argument: str) -> None:
    from palatine_app_server.starting import filesystems

    filesystems.mount(argument)


def _unmount(argument: str) -> None:
    from palatine_app_server.starting import filesystems

    filesystems.unmount(argument)


def _wait_for(kind: str) -> Callable[[str], None]:
    def wait(name: str) -> None:
        try:
            gates.wait(Gate(kind, name))
        except GateError as error:
            raise HookError(str(error)) from error

    return wait


def _write_when_read(argument: str) -> None:
    """Wait until somebody reads the FIFO, as long as that takes."""
    path, _ = _two(argument)
    while True:
        sys.stderr.write(f"waiting for {path} ...\n")
        sys.stderr.flush()
        try:
            _write(os.O_NONBLOCK, "")(argument)
        except OSError as error:
            if error.errno not in {errno.ENXIO, errno.ENOENT, errno.ENODEV}:
                raise
        else:
            return
        time.sleep(1)


def _exit(argument: str) -> None:
    os._exit(int(argument or "0"))


_NEW: Final = os.O_CREAT | os.O_TRUNC
_MORE: Final = os.O_CREAT | os.O_APPEND

VERBS: Final[Mapping[str, Callable[[str], None]]] = {
    "exec": lambda _command: None,  # known by name: a command needs its shell
    "safeexec": lambda _command: None,
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
    "mount": _mount,
    "umount": _unmount,
    "hostname": socket.sethostname,
    "wait_for_fs": _wait_for("fs"),
    "wait_for_file": _wait_for("file"),
    "wait_for_dir": _wait_for("dir"),
    "wait_for_socket": _wait_for("socket"),
    "spinningfifo": _write_when_read,
}
