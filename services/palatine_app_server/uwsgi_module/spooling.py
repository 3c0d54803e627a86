"""The spooler's side of the module: `uwsgi.spool` and its kin. A task is on disk when `spool` returns."""

import os
import stat
from collections.abc import Callable, Sequence
from typing import Any

from palatine.counters import Segment
from palatine.errors import ProtocolError
from palatine_app_server.sharing import spool
from palatine_app_server.system import own_lines
from palatine_app_server.uwsgi_module import arguments
from palatine_app_server.uwsgi_module.seat import Seat


class Spooling:
    """Writes tasks into `directories` (absolute, the first is the default one) and tells of those who run them."""

    def __init__(self, seat: Seat, directories: Sequence[str], segment: Segment) -> None:
        self._seat = seat
        self._directories = list(directories)
        self._segment = segment
        self._writer = spool.Writer()

    def functions(self) -> dict[str, Any]:
        """What the module offers; without a spooler `spool` does not exist, as in uWSGI."""
        always: dict[str, Any] = {
            "SPOOL_OK": spool.SPOOL_OK,
            "SPOOL_RETRY": spool.SPOOL_RETRY,
            "SPOOL_IGNORE": spool.SPOOL_IGNORE,
            "i_am_the_spooler": lambda: True if self._seat.spooler else None,
            "spoolers": tuple(os.fsencode(directory) for directory in self._directories),
        }
        if not self._directories:
            return always
        offered: dict[str, Callable[..., Any]] = {
            "spool": self._spool,
            "send_to_spooler": self._spool,
            "set_spooler_frequency": self._set_frequency,
            "spooler_jobs": self._jobs,
            "spooler_pid": lambda: next(iter(self._pids()), 0),
            "spooler_pids": self._pids,
            "spooler_get_task": self._task,
        }
        return always | offered

    def _spool(self, *arguments_given: Any, **named: Any) -> bytes:
        given = arguments_given[0] if arguments_given else named
        if not isinstance(given, dict):
            raise ValueError("The argument of spooler callable must be a dictionary")  # noqa: TRY004 - uWSGI's
        variables = spool.variables_of(given)
        body = variables.pop(b"body", b"")
        directory = self._directory(os.fsdecode(variables.get(b"spooler", b"")))
        priority = os.fsdecode(variables.get(b"priority", b""))
        at = variables.get(b"at", b"").partition(b".")[0]
        if (priority and not priority.isdigit()) or (at and not at.isdigit()):
            raise ValueError("unable to spool job")
        try:
            path = self._writer.write(directory, spool.Task(variables, body), priority=priority, at=float(at or 0))
        except (OSError, ValueError) as error:
            own_lines.say(f"[uwsgi-spooler] {error}")
            raise ValueError("unable to spool job") from error
        return os.fsencode(path)

    def _directory(self, wanted: str) -> str:
        if not wanted:
            return self._directories[0]
        if os.path.realpath(wanted) in self._directories:
            return os.path.realpath(wanted)
        own_lines.say(f'[uwsgi-spooler] unable to find spooler "{wanted}"')
        raise ValueError("unable to spool job")

    def _set_frequency(self, seconds: int) -> bool:
        return self._seat.ask({"op": "spooler-frequency", "seconds": max(0, arguments.integer(seconds))})

    def _jobs(self) -> list[bytes]:
        directory = self._directories[0]
        found = []
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            if name.startswith(spool.PREFIX) and os.path.isfile(path) and os.access(path, os.R_OK | os.W_OK):
                found.append(os.fsencode(path))
        return found

    def _pids(self) -> list[int]:
        word = self._segment.word("spoolers", "pid")
        return [self._segment.cells("spoolers", row)[word] for row in range(self._segment.rows("spoolers"))]

    @staticmethod
    def _task(path: str) -> dict[Any, Any] | None:
        name = arguments.text(path, "spooler_get_task")
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            task = spool.read(fd) if stat.S_ISREG(os.fstat(fd).st_mode) else None
        except ProtocolError:
            return None
        finally:
            os.close(fd)
        return None if task is None else task.as_dict(name)
