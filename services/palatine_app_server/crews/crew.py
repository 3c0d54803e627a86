"""Mules and spoolers as the master runs them: carries out what crew_policy decides, and owns their rows. Never waits.

Their processes are forked by the zygote of the generation that serves, so they know the app as the workers do.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from palatine.counters import Segment
from palatine_app_server.config.feature_settings import Features
from palatine_app_server.crews import crew_policy
from palatine_app_server.crews.crew_policy import Life, Phase
from palatine_app_server.log.logs import Logs
from palatine_app_server.supervision import endings
from palatine_app_server.supervision.crash_reports import CrashReports
from palatine_app_server.system.part import Part

MULE: Final = "mule"
SPOOLER: Final = "spooler"
#: At a brutal stop: whoever is left is killed.
BRUTAL_SECONDS: Final = 3.0
#: The master's table of each role, and the table its processes write themselves.
_TABLES: Final = {MULE: ("mules", "mule_work"), SPOOLER: ("spoolers", "spooler_tasks")}


class Place(NamedTuple):
    """What a process is for: its role and number, from 1."""

    role: str
    number: int


class Crew(Part):
    """All mules and spoolers of one instance; `fork` asks for one and says whether there was a zygote to ask.

    `gentle` says at the end whether what is being done may be finished.
    """

    def __init__(
        self,
        features: Features,
        segment: Segment,
        logs: Logs,
        crashes: CrashReports,
        *,
        fork: Callable[[str, int], bool],
        gentle: Callable[[], bool],
    ) -> None:
        self._features = features
        self._segment = segment
        self._logs = logs
        self._crashes = crashes
        self._fork = fork
        self._gentle = gentle
        mules, spoolers = len(features.mules.programs), len(features.spoolers.directories)
        places = [Place(MULE, number + 1) for number in range(mules)]
        places += [Place(SPOOLER, number + 1) for number in range(spoolers)]
        self._lives = dict.fromkeys(places, Life())
        self._begun = False
        self._early_deaths: dict[int, int] = {}  # wait status by pid
        self._deadlines = {
            place: (
                segment.cells(_TABLES[place.role][1], place.number - 1),
                segment.word(_TABLES[place.role][1], "harakiri_deadline_ms"),
            )
            for place in places
        }

    # ------------------------------------------------------------------ what the master asks

    def serving(self, generation: int) -> None:
        """A new generation serves: start everybody, or replace those of the one before."""
        del generation
        if self._begun:
            self._replace(self._lives)
        self._begun = True

    def reload(self, role: str) -> None:
        """Replace all mules, or all spoolers, by fresh processes."""
        self._replace([place for place in self._lives if place.role == role])

    def stop(self, now: float) -> None:
        """Let everybody end."""
        del now
        gentle = self._gentle()
        for place in self._lives:
            self._event(place, crew_policy.Leave(self._mercy if gentle else BRUTAL_SECONDS, brutal=not gentle))

    @property
    def running(self) -> bool:
        """Whether a process is left, or may still come."""
        return self._begun and any(life.phase is not Phase.GONE for life in self._lives.values())

    def tick(self, now: float) -> None:
        """Do what time has made due."""
        if not self._begun:
            return
        for place, life in self._lives.items():
            cells, word = self._deadlines[place]
            if life.pid and 0 < cells[word] <= now * 1000 and life.phase in {Phase.RUNNING, Phase.LEAVING}:
                self._announce_harakiri(place, life.pid)
                cells[word] = 0
                self._event(place, crew_policy.Overdue())
            due = crew_policy.next_due(self._lives[place])
            if due is not None and now >= due:
                self._event(place, crew_policy.Tick())

    def due(self, now: float) -> float | None:
        """When `tick` should be called next; a deadline armed meanwhile is seen within a second."""
        del now
        if not self._begun:
            return None
        moments = [due for life in self._lives.values() if (due := crew_policy.next_due(life)) is not None]
        moments += [cells[word] / 1000 for cells, word in self._deadlines.values() if cells[word]]
        return min(moments, default=None)

    def pids(self, role: str) -> list[int]:
        """The processes of a role by number, 0 where there is none."""
        return [life.pid for place, life in self._lives.items() if place.role == role]

    # ------------------------------------------------------------------ what happens

    def spawned(self, role: str, number: int, pid: int) -> None:
        """A process says that it is the one asked for."""
        place = Place(role, number)
        life = self._lives.get(place)
        if life is None or life.phase is not Phase.STARTING or life.pid:
            os.kill(pid, signal.SIGKILL)
            return
        self._store(place, "pid", pid)
        if role == MULE:
            self._count(place, "respawn_count")
            self._store(place, "last_spawn", int(time.time()))
            self._logs.say(f"spawned uWSGI mule {number} (pid: {pid})")
        else:
            directory = self._features.spoolers.directories[number - 1]
            self._logs.say(f"spawned the uWSGI spooler on dir {directory} with pid {pid}")
        self._event(place, crew_policy.Spawned(pid))
        if pid in self._early_deaths:
            self.reaped(pid, self._early_deaths[pid], 0.0)

    def zygote_gone(self) -> None:
        """A zygote ended: whoever had been asked for and did not come must be asked for again."""
        for place in self._lives:
            self._event(place, crew_policy.Unforked())

    def reaped(self, pid: int, status: int, now: float) -> bool:
        """A child ended; whether it was one of ours."""
        del now
        for place, life in self._lives.items():
            if life.pid == pid:
                self._crashes.died(pid, status, f"{self._name(place)} (pid: {pid}) {endings.in_words(status)}")
                self._died(place, life, done=place.role == SPOOLER and not status)  # spooler-max-tasks
                self._early_deaths.pop(pid, None)
                return True
        if any(life.phase is Phase.STARTING and not life.pid for life in self._lives.values()):
            self._early_deaths[pid] = status
        else:
            self._early_deaths.clear()
        return False

    def _died(self, place: Place, life: Life, *, done: bool) -> None:
        self._store(place, "pid", 0)
        cells, word = self._deadlines[place]
        cells[word] = 0
        if life.last:
            self._logs.say(f"{self._name(place)} (pid: {life.pid}) annihilated")
        elif life.phase is Phase.LEAVING:
            self._logs.say(f"{self._name(place)} (pid: {life.pid}) killed successfully")
        elif place.role == MULE:
            self._logs.say(f"OOOPS mule {place.number} (pid: {life.pid}) crippled...trying respawn...")
        else:
            self._count(place, "respawns")
            self._logs.say("OOOPS the spooler is no more...trying respawn...")
        if place.role == SPOOLER:
            row = self._segment.cells("spooler_tasks", place.number - 1)
            row[self._segment.word("spooler_tasks", "running")] = 0
        self._event(place, crew_policy.Died(done))

    def _replace(self, places: Iterable[Place]) -> None:
        for place in places:
            if self._lives[place].pid:
                self._event(place, crew_policy.Leave(self._mercy, last=False))

    def _event(self, place: Place, event: crew_policy.Event) -> None:
        now = time.monotonic()
        life, actions = crew_policy.decide(self._lives[place], event, now)
        self._lives[place] = life
        for action in actions:
            if isinstance(action, crew_policy.Signal):
                assert life.pid, "pid 0 would be our whole process group"
                os.kill(life.pid, action.number)
            elif isinstance(action, crew_policy.Merciless):
                self._logs.say(f"{self._name(place)} (pid: {life.pid}) is taking too much time to die...NO MERCY !!!")
            elif not self._fork(*place):
                self._event(place, crew_policy.Unforked())

    def _announce_harakiri(self, place: Place, pid: int) -> None:
        if place.role == MULE:
            cells = self._segment.cells("mule_work", place.number - 1)
            running = cells[self._segment.word("mule_work", "running_signal")]
            doing = f"HANDLING SIGNAL {running - 1}" if running else "HANDLING A MESSAGE"
            self._logs.say_dated(f"*** HARAKIRI ON MULE {place.number} {doing} (pid: {pid}) ***")
        else:
            self._logs.say_dated(f"*** HARAKIRI ON THE SPOOLER (pid: {pid}) ***")

    @property
    def _mercy(self) -> float:
        return float(self._features.mules.mercy_seconds)

    @staticmethod
    def _name(place: Place) -> str:
        return f"{place.role} {place.number}"

    def _store(self, place: Place, name: str, value: int) -> None:
        table = _TABLES[place.role][0]
        self._segment.cells(table, place.number - 1)[self._segment.word(table, name)] = value

    def _count(self, place: Place, name: str) -> None:
        table = _TABLES[place.role][0]
        self._segment.cells(table, place.number - 1)[self._segment.word(table, name)] += 1
