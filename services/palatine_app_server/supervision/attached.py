"""Daemons attached to an instance: started with it, started again when they end, stopped with it. Decides by policy.

Each is the leader of a session of its own, so that what it starts ends with it, and dies with the master, but for
smart ones, whose pidfile says where they are: those outlive us.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from palatine import exits
from palatine.counters import Segment
from palatine.errors import PalatineError
from palatine_app_server.config.attached_settings import DaemonWish
from palatine_app_server.log.logs import Logs
from palatine_app_server.starting import privileges
from palatine_app_server.supervision import attached_policy
from palatine_app_server.system import linux
from palatine_app_server.system.part import Part

DEFAULT_MERCY_SECONDS: Final = 3.0
_SHELL: Final = "/bin/sh"


class _Daemon:
    """One daemon and where it stands."""

    def __init__(self, wish: DaemonWish, row: int) -> None:
        self.wish = wish
        self.row = row
        self.pid = 0
        self.since = 0.0
        self.starts = 0
        self.throttle = 0
        self.due: float | None = None  # when to start it, or to look at its pidfile
        self.asked = 0.0  # to stop
        self.touched = {path: _changed_at(path) for path in wish.touches}


class Attached(Part):
    """All of one instance; `on_control` ends it when one that controls it has ended."""

    def __init__(
        self,
        wishes: Sequence[DaemonWish],
        segment: Segment,
        logs: Logs,
        *,
        environ: Mapping[str, str],
        mercy: float,
        on_control: Callable[[], None],
    ) -> None:
        self._daemons = [_Daemon(wish, row) for row, wish in enumerate(wishes)]
        self._segment = segment
        self._logs = logs
        self._environ = dict(environ)
        self._mercy = mercy or DEFAULT_MERCY_SECONDS
        self._on_control = on_control
        self._stopping = False
        self._generation = 0

    def start(self, now: float) -> None:
        """Start all of them."""
        for daemon in self._daemons:
            self._look(daemon, now)

    def serving(self, generation: int) -> None:
        """After a reload those with a `reloadsignal` get it."""
        for daemon in self._daemons if self._generation else ():
            number = daemon.wish.reload_signal or (signal.SIGHUP if daemon.wish.notify else 0)
            if number:
                _signal(daemon.pid, number)
        self._generation = generation

    def tick(self, now: float) -> None:
        """Start what is due, look at pidfiles and touched files, kill what does not end."""
        for daemon in self._daemons:
            if self._stopping:
                if daemon.pid and daemon.asked and attached_policy.stopped_by(now, daemon.asked, self._mercy):
                    text = f"daemon did not die in time, killing (pid: {daemon.pid}): {daemon.wish.command}"
                    self._logs.say(f"[uwsgi-daemons] {text}")
                    _signal(daemon.pid, signal.SIGKILL)
                    daemon.asked = now
                continue
            if daemon.due is not None and now >= daemon.due:
                self._look(daemon, now)
            self._look_for_touches(daemon)

    def due(self, now: float) -> float | None:
        """The next start or kill."""
        if self._stopping:
            return min((daemon.asked + self._mercy for daemon in self._daemons if daemon.asked), default=None)
        del now
        return min((daemon.due for daemon in self._daemons if daemon.due is not None), default=None)

    def reaped(self, pid: int, status: int, now: float) -> bool:
        """Start it again, when it is time."""
        daemon = next((each for each in self._daemons if each.pid == pid), None)
        if daemon is None:
            return False
        self._show(daemon, 0)
        daemon.asked = 0.0
        if self._stopping:
            self._logs.say(f'daemon "{daemon.wish.command}" (pid: {pid}) annihilated')
        elif daemon.wish.control:
            code = os.waitstatus_to_exitcode(status)
            self._logs.say(f'[uwsgi-daemons] control daemon "{daemon.wish.command}" ended ({code}): so do we')
            self._on_control()
        else:
            if not daemon.wish.pidfile:  # what it has left behind is nobody's
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, daemon.wish.stop_signal)
            wait = attached_policy.after_end(now - daemon.since, daemon.throttle, daemon.wish.most_throttle)
            daemon.throttle, daemon.due = wait.throttle, now + wait.seconds
            if wait.seconds:
                text = f'throttling "{daemon.wish.command}" for {wait.seconds:.0f} seconds'
                self._logs.say(f"[uwsgi-daemons] {text}")
        return True

    def stop(self, now: float) -> None:
        """Ask all to end but the smart ones, who are only told where they want to be."""
        self._stopping = True
        for daemon in self._daemons:
            if not daemon.pid or (daemon.wish.pidfile and not daemon.wish.notify):
                continue
            self._logs.say(f"[uwsgi-daemons] stopping daemon (pid: {daemon.pid}): {daemon.wish.command}")
            _signal(daemon.pid, daemon.wish.stop_signal)
            if not daemon.wish.pidfile:
                daemon.asked = now

    @property
    def running(self) -> bool:
        """One that was asked to end has not ended."""
        return any(daemon.asked for daemon in self._daemons)

    # ------------------------------------------------------------------ one daemon

    def _look(self, daemon: _Daemon, now: float) -> None:
        daemon.due = None
        if not daemon.wish.pidfile:
            self._spawn(daemon, now)
            return
        daemon.due = now + daemon.wish.frequency
        pid = _alive_by(daemon.wish.pidfile)
        if not pid:
            if daemon.pid:
                self._show(daemon, 0)
            self._spawn(daemon, now)
        elif pid != daemon.pid:
            text = f'found valid/active pidfile for "{daemon.wish.command}" (pid: {pid})'
            self._logs.say(f"[uwsgi-daemons] {text}")
            self._show(daemon, pid)

    def _spawn(self, daemon: _Daemon, now: float) -> None:
        wish = daemon.wish
        again = "re" if daemon.starts else ""
        text = f'{again}spawning "{wish.command}" (uid: {os.getuid()} gid: {os.getgid()})'
        self._logs.say(f"[uwsgi-daemons] {text}")
        master = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                self._become(wish, master)
            except (OSError, PalatineError) as error:
                os.write(2, f'[uwsgi-daemons] unable to spawn "{wish.command}": {error}\n'.encode())
            finally:
                os._exit(exits.FAILURE)
        daemon.since = now
        daemon.starts += 1
        cells = self._segment.cells("daemons", daemon.row)
        cells[self._segment.word("daemons", "respawns")] = daemon.starts - 1
        if not wish.pidfile:
            self._show(daemon, pid)

    def _become(self, wish: DaemonWish, master: int) -> None:
        """In the child: drop everything of the master's, and execute the command."""
        if wish.daemonize:
            if os.fork():
                os._exit(exits.OK)
            if wish.pidfile:
                with open(wish.pidfile, "w", encoding="ascii") as file:  # it does not write its own, as uWSGI has it
                    file.write(f"{os.getpid()}\n")
        os.setsid()
        if not wish.pidfile:
            linux.die_with_parent(master, signal.SIGKILL)
        fd = self._logs.child_fd
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        if not wish.keep_stdin:
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        privileges.become(wish.uid, wish.gid)
        if wish.chdir:
            os.chdir(wish.chdir)
        os.execve(_SHELL, [_SHELL, "-c", attached_policy.shell_line(wish.command)], self._environ)  # noqa: S606 - the config's own command

    def _look_for_touches(self, daemon: _Daemon) -> None:
        for path, before in daemon.touched.items():
            found = _changed_at(path)
            if found > before:
                what = f'reloading daemon "{daemon.wish.command}" (pid: {daemon.pid})'
                self._logs.say_dated(f"*** {path} has been touched... {what} !!! ***")
                _signal(daemon.pid, daemon.wish.stop_signal)
            daemon.touched[path] = found

    def _show(self, daemon: _Daemon, pid: int) -> None:
        daemon.pid = pid
        self._segment.cells("daemons", daemon.row)[self._segment.word("daemons", "pid")] = pid


def _signal(pid: int, number: int) -> None:
    """To the daemon and all it has started."""
    if pid:
        with contextlib.suppress(ProcessLookupError):
            group = os.getpgid(pid)
            if group == os.getpgrp():  # it has just been forked
                os.kill(pid, number)
            else:
                os.killpg(group, number)


def _alive_by(pidfile: str) -> int:
    """The process a pidfile names, where it lives; else 0."""
    try:
        with open(pidfile, encoding="ascii") as file:
            pid = int(file.read())
    except (OSError, ValueError):
        return 0
    return pid if pid > 0 and os.path.exists(f"/proc/{pid}") else 0


def _changed_at(path: str) -> int:
    try:
        return int(os.stat(path).st_mtime)
    except OSError:
        return 0
