"""A spooler: a process that runs the tasks in one spool directory. A task ends when its file does, never before.

It is killed at any moment without loss: its lock ends with it, the file is still there, and the next one runs it again.
"""

import importlib
import os
import select
import time
from collections.abc import Callable
from typing import Any, Final

from palatine import exits
from palatine.errors import ProtocolError
from palatine_app_server.config.feature_settings import SpoolerSettings
from palatine_app_server.crews.aide import Aide
from palatine_app_server.sharing import spool
from palatine_app_server.system import linux, own_lines
from palatine_app_server.system.last_words import print_exc

_LOWEST_PRIORITY: Final = 20


class Spooler:
    """The process for `directory`; `function` gives the app's spooler function, `run_signal` runs its handlers."""

    def __init__(
        self,
        directory: str,
        settings: SpoolerSettings,
        aide: Aide,
        signal_fd: int,
        *,
        function: Callable[[], Callable[[dict[Any, Any]], Any] | None],
        run_signal: Callable[[int], None],
        frequency: Callable[[], int],
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._aide = aide
        self._signal_fd = signal_fd
        self._function = function
        self._run_signal = run_signal
        self._frequency = frequency
        self._inotify = linux.inotify()
        self._watched: set[str] = set()
        self._done = 0
        self._next_at = 0.0  # unix time of the first task that must wait, 0 for none
        self._attempted: set[bytes] = set()  # names tried in the last look: closing them makes events of our own

    def run(self) -> int:
        """Run tasks until told to leave, or until `spooler-max-tasks` are done; the exit code."""
        os.setpriority(os.PRIO_PROCESS, 0, _LOWEST_PRIORITY)
        _import_all(self._settings.imports)
        while True:
            os.chdir(self._directory)
            self._watch()  # before the look, so that nothing comes unseen between the two
            self._look()
            if self._settings.max_tasks and self._done >= self._settings.max_tasks:
                self._say(f"maximum number of tasks reached ({self._settings.max_tasks}) recycling ...", always=True)
                return exits.OK
            self._wait()

    def _watch(self) -> None:
        places = {self._directory}
        with os.scandir(self._directory) as found:
            places |= {entry.path for entry in found if entry.name.isdigit() and entry.is_dir(follow_symlinks=False)}
        for place in places - self._watched:
            linux.watch(self._inotify, place, linux.IN_ARRIVALS)
        self._watched = places

    def _look(self) -> None:
        """Run what is due, once each."""
        self._next_at = 0.0
        self._attempted.clear()
        for entry in spool.entries(self._directory):
            if entry.due > time.time():
                self._next_at = min(entry.due, self._next_at or entry.due)
                continue
            self._attempt(entry.path)
            if self._settings.max_tasks and self._done >= self._settings.max_tasks:
                return

    def _attempt(self, path: str) -> None:
        fd = spool.claim(path)
        if fd is None:
            return
        self._attempted.add(os.fsencode(os.path.basename(path)))
        try:
            task = spool.read(fd)
            if task is not None:
                self._run(path, task)
        except ProtocolError as error:
            self._say(f"{path} is no task and is thrown away: {error}", always=True)
            os.unlink(path)
        finally:
            os.close(fd)

    def _run(self, path: str, task: spool.Task) -> None:
        name = os.path.relpath(path, self._directory)
        function = self._function()
        if function is None:
            own_lines.say("unable to find the spooler function, have you loaded it into the spooler process ?")
            return
        self._say(f"managing request {name} ...")
        if self._settings.chdir:
            os.chdir(self._settings.chdir)
        started = time.time()
        with self._aide.working():
            self._aide.store("running", 1)
            result = _called(function, task.as_dict(name))
            if result != spool.SPOOL_IGNORE:
                self._done += 1
                self._aide.count("tasks" if result == spool.SPOOL_OK else "failures")
            if result == spool.SPOOL_OK:
                self._say(f"done with task {name} after {int(time.time() - started)} seconds")
                os.unlink(path)
            self._aide.store("running", 0)
        os.chdir(self._directory)

    def _wait(self) -> None:
        """Wait for a task, a signal of either kind, or the time to look again."""
        deadline = time.time() + self._frequency()
        if self._next_at:
            deadline = min(deadline, self._next_at)
        poll = select.poll()
        for fd in (self._inotify, self._signal_fd):
            poll.register(fd, select.POLLIN)
        while (left := deadline - time.time()) > 0:
            ready = {fd for fd, _ in poll.poll(left * 1000 + 1)}
            if self._signal_fd in ready:
                self._hear_signal()
            if self._inotify in ready and any(name not in self._attempted for _, _, name in linux.drain(self._inotify)):
                return

    def _hear_signal(self) -> None:
        with self._aide.working():
            try:
                data = os.read(self._signal_fd, 1)
            except BlockingIOError:
                return  # another spooler took it
            if data:
                self._run_signal(data[0])

    def _say(self, text: str, *, always: bool = False) -> None:
        if always or not self._settings.quiet:
            own_lines.say(f"[spooler {self._directory} pid: {os.getpid()}] {text}")


def _called(function: Callable[[dict[Any, Any]], Any], arguments: dict[Any, Any]) -> int:
    """What the function says of its task; an exception, or no number, means: again later."""
    try:
        result = function(arguments)
    except Exception:  # noqa: BLE001 - the app's; the task stays
        print_exc()
        return spool.SPOOL_RETRY
    return result if isinstance(result, int) else spool.SPOOL_RETRY


def _import_all(names: tuple[str, ...]) -> None:
    from palatine_app_server.serving import loader

    for name in names:
        try:
            if "/" in name or name.endswith(".py"):
                loader.import_file(name)
            else:
                importlib.import_module(name)
        except Exception:  # noqa: BLE001 - the app's; its tasks wait until it is repaired
            print_exc()
