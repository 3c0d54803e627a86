"""The first moments of a vassal, in the process the keeper forked; plain; must drop rights before reading anything."""

import contextlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from palatine.codec.emperor_pipe import CONFIG_FD_VARIABLE, FD_VARIABLE, reason
from palatine.codec.keeper import Spawn
from palatine.errors import PalatineError
from palatine.exits import NO_PERMISSION, SOFTWARE
from palatine_app_server.keeping import vassal_jail
from palatine_app_server.linking import link_sibling

#: Runs an app-server: argv without the program's name, environ, cwd to its exit code.
Serve: TypeAlias = Callable[[list[str], dict[str, str], str], int]
#: sysexits(3): the system could not do it.
_OS_ERROR: Final = 71
_DEFAULTS: Final = (
    signal.SIGCHLD,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGTSTP,
)


class Birth(NamedTuple):
    """What a forked child needs to become the vassal: the order, its ends of the pipes, on-demand socket (or -1)."""

    order: Spawn
    pipe: int
    config: int
    stdin: int
    #: The soft limit of descriptors the keeper itself was started with.
    descriptors: int
    #: Where its master asks for a link, see link_sibling.py.
    links: int


def serve_app(argv: list[str], environ: dict[str, str], cwd: str) -> int:
    """Run the app-server in this process; its module is loaded before the keeper forks."""
    from palatine_app_server.serve import serve

    return serve(argv, environ, cwd=cwd)


def enter(birth: Birth, serve: Serve) -> int:
    """Become the vassal; returns its exit code when it ends, or never if another program takes the process."""
    order = birth.order
    birth = birth._replace(pipe=_lowest(birth.pipe), config=_lowest(birth.config))
    try:
        _settle(birth)
        environ = _environment(birth)
        if order.start_hook:
            _start_hook(order)
        if order.hooks:
            _run_hooks(order)
        if order.program:
            _hand_over(birth, environ)
    except OSError as error:
        _complain(birth.pipe, f"{order.name}: {error.strerror}" + (f": {error.filename}" if error.filename else ""))
        return NO_PERMISSION if isinstance(error, PermissionError) else _OS_ERROR
    except PalatineError as error:
        _complain(birth.pipe, f"{order.name}: {error}")
        return error.exit_status
    try:
        return serve(list(order.argv[1:]), environ, order.cwd)
    except PalatineError as error:
        _complain(birth.pipe, f"{order.name}: {error}")
        return error.exit_status
    except Exception:  # noqa: BLE001 - the edge of the process: say everything; the emperor throttles
        traceback.print_exc()
        _complain(birth.pipe, f"{order.name}: {traceback.format_exc().splitlines()[-1]}")
        return SOFTWARE


def _lowest(descriptor: int) -> int:
    """The same with the lowest free number: a vassal may be a shell script, and those write to `>&3`, not to `>&12`."""
    if descriptor < 0:
        return descriptor
    low = os.dup(descriptor)
    if low > descriptor:
        os.close(low)
        return descriptor
    os.close(descriptor)
    return low


def _settle(birth: Birth) -> None:
    """Signals, session, descriptors, rights and directory, in this order."""
    for signum in _DEFAULTS:
        signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)
    os.setsid()
    resource.setrlimit(resource.RLIMIT_NOFILE, (birth.descriptors, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    stdin = birth.stdin if birth.stdin >= 0 else os.open(os.devnull, os.O_RDONLY)
    os.dup2(stdin, 0)
    os.close(stdin)
    order = birth.order
    if order.namespaces or order.capabilities:
        vassal_jail.enter(order.namespaces, order.capabilities)
    if order.gid is not None:
        os.setgroups(order.groups)
        os.setresgid(order.gid, order.gid, order.gid)
    if order.uid is not None:
        os.setresuid(order.uid, order.uid, order.uid)
    if order.capabilities:
        vassal_jail.keep_only(order.capabilities)
        _log(f"capabilities applied for vassal {order.name} (pid: {os.getpid()})")
    os.chdir(order.cwd)


def _environment(birth: Birth) -> dict[str, str]:
    environ = {**birth.order.environ, FD_VARIABLE: str(birth.pipe)}
    if birth.links >= 0 and not birth.order.program and not vassal_jail.hides_pids(birth.order.namespaces):
        environ[link_sibling.VARIABLE] = str(birth.links)
    if birth.config >= 0:
        environ[CONFIG_FD_VARIABLE] = str(birth.config)
    for name in os.environ.keys() - environ.keys():
        del os.environ[name]
    for name, value in environ.items():
        if os.environ.get(name) != value:  # most are the keeper's own: what is not written stays shared
            os.environ[name] = value
    sys.argv = list(birth.order.argv)
    return environ


def _start_hook(order: Spawn) -> None:
    command = f"{order.start_hook} {order.name}"
    _log(f"[emperor] running vassal start-hook: {command}")
    status = os.spawnv(os.P_WAIT, "/bin/sh", ["/bin/sh", "-c", command])  # noqa: S606 - the shell is named
    _log(f"[emperor] {order.name} start-hook returned {status}")


def _run_hooks(order: Spawn) -> None:
    from palatine_app_server.starting import hooks  # few vassals have any

    hooks.run([hooks.parse(text, "as-vassal") for text in order.hooks], "as-vassal")


def _hand_over(birth: Birth, environ: dict[str, str]) -> None:
    """Exec the program named for this vassal; OSError if that cannot be."""
    for descriptor in (birth.pipe, birth.config):
        if descriptor >= 0:
            os.set_inheritable(descriptor, True)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execve(birth.order.program, list(birth.order.argv), environ)  # noqa: S606 - no shell is the point


def _complain(pipe: int, text: str) -> None:
    _log(text)
    try:
        os.write(pipe, reason(text))
    except OSError:  # no emperor left to tell
        return


def _log(text: str) -> None:
    with contextlib.suppress(OSError):  # the log's reader may be gone; the vassal lives without
        os.write(2, f"{text}\n".encode(errors="backslashreplace"))
