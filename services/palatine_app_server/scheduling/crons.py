"""Commands of the config by the clock (`cron`, `cron2`, `unique-cron`): the master starts and reaps, it never waits."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from palatine.counters import Segment
from palatine.schema import U64
from palatine_app_server.config.feature_settings import CronJob
from palatine_app_server.scheduling import schedule_policy
from palatine_app_server.scheduling.schedule import moment_of
from palatine_app_server.system.part import Part

_SHELL: Final = "/bin/sh"
_IDLE: Final = -1 & U64


class _Run(NamedTuple):
    """A running command: its row, and when it is killed on the monotonic clock (0: never)."""

    row: int
    deadline: float


class Crons(Part):
    """Runs `jobs`; `output` is the descriptor their output goes to."""

    def __init__(
        self,
        jobs: Sequence[CronJob],
        segment: Segment,
        say: Callable[[str], None],
        output: Callable[[], int],
        environ: Mapping[str, str],
    ) -> None:
        self._jobs = jobs
        self._segment = segment
        self._say = say
        self._output = output
        self._environ = dict(environ)
        self._last = [0.0] * len(jobs)
        self._runs: dict[int, _Run] = {}
        self._look_at = 0.0
        self._stopping = False
        for row in range(len(jobs)):
            self._store(row, "pid", _IDLE)

    def start(self, now: float) -> None:
        """They are known."""
        del now
        for job in self._jobs:
            self._say(f'[uwsgi-cron] command "{job.command}" registered as cron task')

    def tick(self, now: float) -> None:
        """Kill what takes too long; once a second, start what is due."""
        for pid, run in self._runs.items():
            if run.deadline and now >= run.deadline:
                self._say(f'{time.ctime()} - *** HARAKIRI ON CRON "{self._jobs[run.row].command}" (pid: {pid}) ***')
                os.killpg(pid, signal.SIGKILL)
                self._runs[pid] = run._replace(deadline=0.0)
        if now < self._look_at or self._stopping:
            return
        self._look_at = now + 1.0
        unix = time.time()
        moment = moment_of(unix)
        for row, job in enumerate(self._jobs):
            if job.unique and any(run.row == row for run in self._runs.values()):
                continue
            if (
                schedule_policy.matches(job.time, moment)
                and unix - self._last[row] >= schedule_policy.CRON_PAUSE_SECONDS
            ):
                self._last[row] = unix
                self._start(row, job, now)

    def due(self, now: float) -> float | None:
        """The next kill; commands are looked at once a second."""
        del now
        return min([run.deadline for run in self._runs.values() if run.deadline], default=None)

    def reaped(self, pid: int, status: int, now: float) -> bool:
        """A command ended."""
        del now
        run = self._runs.pop(pid, None)
        if run is None:
            return False
        self._store(run.row, "last_exit_status", status)
        if not any(other.row == run.row for other in self._runs.values()):
            self._store(run.row, "pid", _IDLE)
        took = int(time.time()) - self._segment.cells("crons", run.row)[self._word("started_at")]
        command = self._jobs[run.row].command
        self._say(
            f'{time.ctime()} - [uwsgi-cron] command "{command}" running with pid {pid} exited after {took} second(s)'
        )
        return True

    def stop(self, now: float) -> None:
        """The master ends: what runs goes with it."""
        del now
        self._stopping = True
        for pid in self._runs:
            os.killpg(pid, signal.SIGKILL)

    @property
    def running(self) -> bool:
        """Whether a command is left."""
        return bool(self._runs)

    def _start(self, row: int, job: CronJob, now: float) -> None:
        try:
            pid = os.posix_spawn(
                _SHELL,
                [_SHELL, "-c", job.command],
                self._environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, self._output(), 1), (os.POSIX_SPAWN_DUP2, self._output(), 2)],
                setsid=True,
                setsigdef=[
                    number for number in signal.valid_signals() if number not in {signal.SIGKILL, signal.SIGSTOP}
                ],
            )
        except OSError as error:
            self._say(f"[uwsgi-cron] cannot run {_SHELL}: {error.strerror}")
            return
        self._runs[pid] = _Run(row, now + job.harakiri_seconds if job.harakiri_seconds > 0 else 0.0)
        cells = self._segment.cells("crons", row)
        cells[self._word("runs")] += 1
        self._store(row, "pid", pid)
        self._store(row, "started_at", int(time.time()))
        self._say(f'{time.ctime()} - [uwsgi-cron] running "{job.command}" (pid {pid})')

    def _store(self, row: int, name: str, value: int) -> None:
        self._segment.cells("crons", row)[self._word(name)] = value

    def _word(self, name: str) -> int:
        return self._segment.word("crons", name)
