"""How many workers there are, how large and how old: what the master looks at once a second. Decides by policies."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Final

from palatine.counters import Segment
from palatine_app_server.config.settings import AppSettings
from palatine_app_server.log.logs import Logs
from palatine_app_server.supervision import cheaper_policy, recycle_policy, worker_policy
from palatine_app_server.supervision.cheaper_policy import Seen, View
from palatine_app_server.supervision.recycle_policy import Memory
from palatine_app_server.supervision.reload_policy import Stage
from palatine_app_server.supervision.worker_policy import Life, Phase
from palatine_app_server.supervision.workforce import Workforce
from palatine_app_server.system import linux
from palatine_app_server.system.loop import Loop
from palatine_app_server.system.part import Part

_WAITING: Final = "cheap mode enabled: waiting for socket connection..."
#: What keeps a worker's successor from serving yet: no second one is recycled for its age meanwhile.
_ABSENT: Final = frozenset({Phase.WAITING, Phase.STARTING, Phase.LEAVING, Phase.CONDEMNED})


class Scaling(Part):
    """Cheaper, idle and recycling of one instance; `on_idle` ends it where `die-on-idle` asks for that."""

    def __init__(
        self,
        settings: Callable[[], AppSettings],
        workforce: Workforce,
        segment: Segment,
        loop: Loop,
        logs: Logs,
        *,
        doors: Sequence[int],
        on_idle: Callable[[], None],
    ) -> None:
        self._get_settings = settings
        self._workforce = workforce
        self._segment = segment
        self._loop = loop
        self._logs = logs
        self._doors = doors
        self._on_idle = on_idle
        self._state = cheaper_policy.State()
        self._looked = self._measured = 0.0
        self._watching = False
        self._requests = -1
        self._asked = 0.0  # when the number of requests changed last
        self._somebody_waits = False
        self._unwanted = 0  # workers the FIFO's - asked to stop, and nobody could yet
        self._rss = 0
        self._lifetimes: dict[int, int] = {}  # by pid: each with its own delta
        words = ("requests", "running_time", "in_request")
        self._word = {name: segment.word("cores", name) for name in words}

    def serving(self, generation: int) -> None:
        """A generation that starts without workers waits for the first connection."""
        del generation
        if self._get_settings().life.may_be_idle and not self._running():
            self._watch_doors(wanted=True)
            if self._doors:
                self._logs.say(_WAITING)

    def tick(self, now: float) -> None:
        """Look, once in each check-interval."""
        life = self._get_settings().life
        if now - self._looked < life.check_seconds:
            return
        self._looked = now
        workforce = self._workforce
        if workforce.stopping or workforce.paused or workforce.reload.stage is not Stage.STEADY:
            return
        if now - self._measured >= life.memory_seconds:
            self._measured = now
            self._measure()
        if self._somebody_waits:
            self._somebody_waits = False
            self._somebody_came()
        if self._unwanted:
            self._shrink()
        self._retire_aged(now)
        if life.idle_seconds:
            self._look_for_idleness(now)
        if life.cheaper.least and not self._watching:
            self._balance(now)

    def change(self, delta: int) -> None:
        """One worker more or less, as the FIFO's + and - ask for."""
        if delta > 0:
            self._unwanted = 0
            self._workforce.scale(delta)
        else:
            self._unwanted += 1
            self._shrink()

    def _shrink(self) -> None:
        """Stop who is not wanted any more, as soon as one more than the fewest serves and is idle."""
        running = self._running()
        if len(running) > (self._get_settings().life.cheaper.least or 1):
            if any(not self._busy(life) for life in running):
                self._unwanted -= 1
                self._workforce.scale(-1, lambda life: not self._busy(life))
        elif not any(life.phase is Phase.STARTING for life in self._workforce.workers()):
            self._unwanted = 0

    def go_cheap(self) -> None:
        """Stop all workers; the first connection brings them back."""
        running = self._running()
        self._workforce.scale(-len(running))
        self._watch_doors(wanted=True)
        self._logs.say(_WAITING)

    # ------------------------------------------------------------------ numbers

    def _balance(self, now: float) -> None:
        settings = self._get_settings()
        if any(life.phase is Phase.STARTING for life in self._workforce.workers()):
            return  # what was decided last has not come into force yet
        view = View(
            now=now,
            workers={
                life.worker: Seen(self._busy(life), self._sum(life.worker, "running_time")) for life in self._running()
            },
            processes=settings.processes,
            backlog=self._segment.cells("server")[self._segment.word("server", "listen_queue")],
            rss=self._rss,
        )
        self._state, delta, notes = cheaper_policy.decide(settings.life.cheaper, self._state, view)
        for note in notes:
            self._logs.say(note)
        if delta:
            self._workforce.scale(delta, lambda life: not self._busy(life))

    def _running(self) -> list[Life]:
        serving = self._workforce.reload.serving
        return [
            life for life in self._workforce.workers() if life.generation == serving and life.phase is Phase.SERVING
        ]

    def _busy(self, life: Life) -> bool:
        return self._sum(life.worker, "in_request", life.generation & 1) > 0

    def _sum(self, worker: int, name: str, bank: int | None = None) -> int:
        threads, word = self._get_settings().threads, self._word[name]
        banks = (0, 1) if bank is None else (bank,)
        rows = range((worker - 1) * threads, worker * threads)
        return sum(self._segment.cells("cores", row, bank)[word] for row in rows for bank in banks)

    # ------------------------------------------------------------------ idleness

    def _look_for_idleness(self, now: float) -> None:
        settings = self._get_settings()
        workers = range(1, settings.processes + 1)
        requests = sum(self._sum(worker, "requests") for worker in workers)
        if requests != self._requests or any(self._sum(worker, "in_request") for worker in workers):
            self._requests, self._asked = requests, now
        if self._watching or now - self._asked <= settings.life.idle_seconds:
            return
        self._asked = now
        idle, unix = settings.life.idle_seconds, int(time.time())
        self._logs.say(f"workers have been inactive for more than {idle} seconds ({unix}-{unix - idle})")
        if settings.life.die_on_idle:
            self._on_idle()
        else:
            self.go_cheap()

    def _watch_doors(self, *, wanted: bool) -> None:
        if wanted is self._watching:
            return
        self._watching = wanted
        for fd in self._doors:
            if wanted:
                self._loop.watch(fd, self._somebody_came)
            else:
                self._loop.forget(fd)

    def _somebody_came(self) -> None:
        self._watch_doors(wanted=False)
        if self._workforce.paused:
            self._somebody_waits = True  # until the pause is over
            return
        self._asked = self._looked
        self._workforce.scale(self._get_settings().life.woken)

    # ------------------------------------------------------------------ size and age

    def _measure(self) -> None:
        settings, total = self._get_settings(), 0
        for life in self._workforce.workers():
            try:
                memory = Memory(*linux.memory_of(life.pid))
                if settings.life.memory_report:
                    self._workforce.slots.shares(life.worker, *linux.shares_of(life.pid))
            except (OSError, IndexError):  # it has just died: to be reaped in a moment
                continue
            total += memory.resident
            self._workforce.slots.memory(life.worker, memory)
            evil = recycle_policy.is_evil(settings.life.recycle, memory)
            if evil:
                text = f"*** EVIL RELOAD ON WORKER {life.worker} {evil} (pid: {life.pid}) ***"
                self._workforce.renew(life, worker_policy.Kill(text))
        self._rss = total

    def _retire_aged(self, now: float) -> None:
        """One worker at a time: all of the same age together would leave nobody."""
        recycle = self._get_settings().life.recycle
        if not recycle.max_lifetime or any(life.phase in _ABSENT for life in self._workforce.workers()):
            return
        running = self._running()
        self._lifetimes = {life.pid: self._lifetimes.get(life.pid) or self._lifetime() for life in running}
        for life in running:
            age = now - life.since
            if age > self._lifetimes[life.pid]:
                text = f"worker {life.worker} lifetime reached, it was running for {int(age)} second(s)"
                self._logs.say(text)
                mercy = float(self._get_settings().mercy_seconds)
                self._workforce.renew(life, worker_policy.Recycle(mercy))
                return

    def _lifetime(self) -> int:
        recycle = self._get_settings().life.recycle
        chance = int.from_bytes(os.urandom(4)) / 0xFFFFFFFF
        return recycle_policy.jittered(recycle.max_lifetime, recycle.max_lifetime_delta, chance)
