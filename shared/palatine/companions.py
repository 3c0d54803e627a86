"""Keeps daemons running as children that cannot outlive their parent. Plain: the master loads this; it must never wait.

The parent's loop calls `due(now)` and waits no longer than it says, and hands every reaped child to `reaped`.
"""

import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, NoReturn

from palatine import companions_policy as policy

#: What a daemon's extra brings, by import name; tests compare it with pyproject.toml.
EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "app-server": (),
    "snmp-agent": ("cryptography", "pysnmp"),
    "stats-exporter": ("httpx", "hypercorn"),
    "alarm-daemon": ("httpx", "re2"),
    "emperor": ("aiormq", "asyncpg", "httpx", "motor"),
}

#: The parent's own business with its manager, its emperor and its umbrella.
_NOT_INHERITED: Final = frozenset({
    "LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "PALATINE_LINK_FD", "PALATINE_UMBRELLA",
    "UWSGI_EMPEROR_FD", "UWSGI_EMPEROR_FD_CONFIG", "UWSGI_EMPEROR_PROXY", "WATCHDOG_PID", "WATCHDOG_USEC",
})  # fmt: skip
_PR_SET_PDEATHSIG: Final = 1
_CANNOT_EXECUTE: Final = 127

#: Seconds between TERM and KILL.
MERCY: Final = 35.0


class Status(NamedTuple):
    """A companion as it is now: its pid (0 if it has none), phase (see companions_policy) and failures in a row."""

    pid: int
    phase: str
    failures: int


def missing(daemon: str) -> str | None:
    """Why `daemon` cannot be started here, naming the extra that helps; None if it can. Imports nothing."""
    package = f"palatine_{daemon.replace('-', '_')}"
    absent = [name for name in (package, *EXTRAS.get(daemon, ())) if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return f"palatine-{daemon} needs {', '.join(absent)}: pip install 'palatine[{daemon}]'"


def command(daemon: str, *args: str) -> list[str]:
    """The argv of a daemon under this interpreter; -P keeps the working directory out of its imports."""
    return [sys.executable, "-P", "-m", f"palatine_{daemon.replace('-', '_')}", *args]


def inheritable(environ: Mapping[str, str]) -> dict[str, str]:
    """What of the parent's environment is a companion's too."""
    return {name: value for name, value in environ.items() if name not in _NOT_INHERITED}


class Companions:
    """The children of one single-threaded parent; `say` gets lines for its log."""

    def __init__(self, say: Callable[[str], None], environ: Mapping[str, str] | None = None) -> None:
        self._say = say
        self._environ = inheritable(os.environ if environ is None else environ)
        self._argv: dict[str, list[str]] = {}
        self._extra: dict[str, Mapping[str, str]] = {}
        self._states: dict[str, policy.State] = {}
        self._pids: dict[str, int] = {}

    def add(
        self, daemon: str, args: Sequence[str] = (), *, name: str = "", environ: Mapping[str, str] | None = None
    ) -> bool:
        """Have a daemon run from the next `spawn` or `due` on; False, with a word to the log, if its extra is not here.

        `name` tells several of one kind apart, `environ` is added to its environment. One that has ended is begun anew.
        """
        problem = missing(daemon)
        if problem:
            self._say(problem)
            return False
        self.add_command(name or daemon, command(daemon, *args), environ)
        return True

    def add_command(self, name: str, argv: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        """Have any program run likewise."""
        self._argv[name] = list(argv)
        self._extra[name] = dict(environ or {})
        if self._states.get(name, policy.State(policy.ENDED)).phase == policy.ENDED:
            self._states[name] = policy.State()

    def spawn(self, now: float) -> None:
        """Start what is to run and does not."""
        self.due(now)

    def due(self, now: float) -> float | None:
        """Do what has become due; returns the monotonic time of the next thing to do, None if there is none."""
        for name in list(self._states):
            self._event(name, policy.Clock(), now)
        return min((at for at in map(policy.due, self._states.values()) if at is not None), default=None)

    def reaped(self, pid: int, status: int, now: float) -> bool:
        """A child was reaped with the wait `status`; False if it is none of the companions."""
        name = next((name for name, known in self._pids.items() if known == pid), None)
        if name is None:
            return False
        del self._pids[name]
        self._event(name, policy.Exited(os.waitstatus_to_exitcode(status)), now)
        return True

    def stop(self, now: float, mercy: float = MERCY, *, name: str | None = None) -> None:
        """Ask all (or one) to end; `due` kills those that have not after `mercy` seconds."""
        for one in list(self._states) if name is None else [name]:
            self._event(one, policy.StopAsked(mercy), now)

    def running(self) -> bool:
        """Whether any companion has a process."""
        return bool(self._pids)

    def status(self) -> dict[str, Status]:
        """All companions by name."""
        return {
            name: Status(self._pids.get(name, 0), state.phase, state.failures) for name, state in self._states.items()
        }

    def _event(self, name: str, event: policy.Event, now: float) -> None:
        self._states[name], actions = policy.decide(self._states[name], event, now)
        for action in actions:
            match action:
                case policy.Say(text):
                    self._say(f"{name} {text}")
                case policy.Send(signum):
                    os.kill(self._pids[name], signum)  # not reaped yet, so the pid is still its own
                case policy.Start():
                    self._start(name, now)

    def _start(self, name: str, now: float) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._event(name, policy.SpawnFailed(str(error)), now)
            return
        if pid == 0:
            environ = {**self._environ, **self._extra[name], "PALATINE_PARENT": str(parent)}
            _become(self._argv[name], environ, parent)
        self._pids[name] = pid
        self._event(name, policy.Spawned(), now)


def _become(argv: list[str], environ: Mapping[str, str], parent: int) -> NoReturn:
    """In the forked child: a session of its own, clean signals, the parent's death as a TERM, then the program."""
    try:
        os.setsid()
        _die_with(parent)
        for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            if signal.getsignal(signum) == signal.SIG_IGN:
                signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execvpe(argv[0], argv, environ)  # noqa: S606 - without a shell is the point
    except BaseException as error:  # noqa: BLE001 - nothing may run on in a copy of the parent
        os.write(2, f"{argv[0]}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(_CANNOT_EXECUTE)


def _die_with(parent: int) -> None:
    import ctypes  # in the child only: the master stays without it

    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the line above
        os._exit(0)
