"""Zygotes and workers as the master runs them: carries out what reload_policy and worker_policy decide.

It owns the generations, the life of every worker, and the `slots` rows; it never waits for any of them.
"""

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from palatine import exits
from palatine.counters import Segment
from palatine_app_server.config.settings import AppSettings
from palatine_app_server.log.logs import Logs
from palatine_app_server.supervision import endings, reload_policy, worker_policy
from palatine_app_server.supervision.crash_reports import CrashReports
from palatine_app_server.supervision.harakiri import DeadlineWatch
from palatine_app_server.supervision.harakiri_gate import HarakiriGate
from palatine_app_server.supervision.inheritance import Inheritance
from palatine_app_server.supervision.nursery import Nursery
from palatine_app_server.supervision.reload_policy import Do, How
from palatine_app_server.supervision.slots import Slots
from palatine_app_server.supervision.tally import Tally
from palatine_app_server.supervision.worker_policy import Life, Phase
from palatine_app_server.supervision.zygote_respawn import ZygoteRespawn
from palatine_app_server.system.loop import Loop


class Workforce:
    """All app processes of one instance."""

    def __init__(
        self,
        settings: AppSettings,
        segment: Segment,
        tally: Tally,
        loop: Loop,
        logs: Logs,
        *,
        inheritance: Callable[[int], Inheritance],
        in_child: Callable[[], None],
        on_ready: Callable[[], None],
        on_fatal: Callable[[int], None],
        on_aide: Callable[[str, int, int], None] = lambda _role, _number, _pid: None,
        on_zygote_gone: Callable[[], None] = lambda: None,
        crashes: CrashReports,
        frugal: bool = False,
    ) -> None:
        self._settings = settings
        self._logs = logs
        self._on_ready = on_ready
        self._on_fatal = on_fatal
        self._on_aide = on_aide
        self._on_zygote_gone = on_zygote_gone
        self._crashes = crashes
        self._frugal = frugal
        self._nursery = Nursery(loop, logs, inheritance=inheritance, in_child=in_child, hear=self._obey)
        self._lives: dict[tuple[int, int], Life] = {}
        self._unborn: dict[int, tuple[int, int]] = {}  # pids of workers that have not said a word yet
        self._watch = DeadlineWatch(segment, settings.processes, settings.threads)
        self._tally = tally
        self.slots = Slots(segment, settings.threads)
        self.harakiri = HarakiriGate(self._watch, lambda: tally.value("listen_queue"), self.slots.harakiri, logs)
        self._respawn = ZygoteRespawn()
        self._why = ""  # the last zygote that failed to load said so
        self._how = How.TOGETHER
        self._chain: deque[int] = deque()  # workers of the coming generation still to be started, one by one
        self.reload = reload_policy.State()
        self.stopping = False
        self.paused = False

    # ------------------------------------------------------------------ what the master asks

    def request_reload(self, settings: AppSettings | None = None, how: How = How.TOGETHER) -> None:
        """Bring up a new generation beside the present one (the first call: the first one), by these `settings`."""
        if settings is not None:
            self._settings = settings
        if self.stopping:
            return
        if how is How.CHAIN:
            self._logs.say("chain reload already running..." if self.reload.coming else "chain reload starting...")
        if self.reload.stage is reload_policy.Stage.STEADY or how is not How.CHAIN:
            self._how = how
        self._reload_event(reload_policy.Event.REQUESTED)

    def stop(self, mercy: float, *, brutal: bool = False) -> None:
        """Let every worker finish within `mercy` seconds, or with `brutal` drop what it is serving."""
        self.stopping = True
        for key in list(self._lives):
            self._life_event(key, worker_policy.Leave(mercy, brutal))
        for generation in {generation for generation, _ in self._lives} | self._nursery.generations:
            self._end_zygote(generation)

    def toggle_pause(self) -> None:
        """Have the workers take no requests, or take them again; the connections wait in the listen queue."""
        self.paused = not self.paused
        self.slots.pause(paused=self.paused)
        for life in self._lives.values():
            if life.pid and life.phase is Phase.SERVING:  # one that starts says what it believes when it accepts
                os.kill(life.pid, signal.SIGTSTP)

    def scale(self, delta: int, idle: Callable[[Life], bool] = lambda _life: True) -> None:
        """Start cheap workers (delta > 0) or stop serving ones that are `idle`, those first that run longest."""
        ours = [life for (generation, _), life in self._lives.items() if generation == self.reload.serving]
        if delta > 0:
            ready = [life for life in ours if life.phase is Phase.CHEAP or (life.cheap and not life.last)]
            for life in sorted(ready, key=lambda life: (life.phase is not Phase.CHEAP, life.worker))[:delta]:
                self._life_event((life.generation, life.worker), worker_policy.Wake())
        else:
            ready = [life for life in ours if life.phase is Phase.SERVING and idle(life)]
            for life in sorted(ready, key=lambda life: life.since)[:-delta]:
                mercy = float(self._settings.mercy_seconds)
                self._life_event((life.generation, life.worker), worker_policy.Cheapen(mercy))

    def renew(self, life: Life, event: worker_policy.Recycle | worker_policy.Kill) -> None:
        """Replace the process of one worker."""
        key = (life.generation, life.worker)
        if key in self._lives:
            self._life_event(key, event)

    def leaving(self, worker: int, generation: int, reason: str) -> None:
        """A worker says that it has begun to leave, for a fresh process."""
        life = self._lives.get((generation, worker))
        if life is None:
            return
        if reason == "exception":
            self._logs.say(f"... monitored exception detected, respawning worker {worker} (pid: {life.pid})...")
        self.renew(life, worker_policy.Recycle(float(self._settings.mercy_seconds), told=False))

    def fork_aide(self, role: str, number: int) -> bool:
        """Have the serving generation's zygote fork a mule or spooler; False where there is none to ask."""
        return not self.stopping and self._nursery.ask_aide(self.reload.serving, role, number)

    @property
    def finished(self) -> bool:
        """Nothing is left to wait for."""
        return self.stopping and not self._nursery.generations and not any(life.pid for life in self._lives.values())

    def tick(self, now: float) -> None:
        """Do what time has made due."""
        if not self.stopping and self._respawn.take(now):
            self._start_zygote(self.reload.serving)
        for late, grace in self.harakiri.due_workers(self._settings, list(self._lives.values()), now):
            self._life_event((late.generation, late.worker), worker_policy.Overdue(grace))
        for key, life in list(self._lives.items()):
            if life.phase is Phase.CONDEMNED and not self._watch.siblings_busy(key[1], key[0] & 1, now):
                self._life_event(key, worker_policy.Alone())
            due = worker_policy.next_due(life)
            if due is not None and now >= due:
                self._life_event(key, worker_policy.Tick())
        if self.reload.stage is reload_policy.Stage.RETIRING and not self._others_left():
            self._reload_event(reload_policy.Event.OLD_GONE)

    def _others_left(self) -> bool:
        present = {generation for generation, _ in self._lives} | self._nursery.generations
        return any(generation != self.reload.serving for generation in present)

    def next_due(self, now: float) -> float | None:
        """When `tick` should be called next."""
        moments = [due for life in self._lives.values() if (due := worker_policy.next_due(life)) is not None]
        if self._respawn.due is not None and not self.stopping:
            moments.append(self._respawn.due)
        overdue = self.harakiri.next_due(self._settings, now)
        return min(moments if overdue is None else [*moments, overdue], default=None)

    def hear(self, dead: int) -> None:
        """Hear of who was born, before `dead` is reaped: it may have died before it could say so itself."""
        self._nursery.hear()
        if dead in self._unborn:
            self._spawned(self._unborn[dead], dead)

    def reaped(self, pid: int, status: int) -> bool:
        """A child ended, whose last words were heard; whether it was one of ours."""
        generation = self._nursery.generation_of(pid)
        if generation:
            self._zygote_died(generation, status)
            return True
        for key, life in self._lives.items():
            if life.pid == pid:
                self._worker_died(key, pid, status)
                return True
        return False  # an orphan of the app's

    def accepting(self, worker: int, generation: int, *, paused: bool) -> None:
        """A worker says that it takes requests, or would if it were not `paused`."""
        key = (generation, worker)
        if key not in self._lives:
            return
        self._life_event(key, worker_policy.Accepting())
        pid = self._lives[key].pid
        if pid and paused is not self.paused:
            os.kill(pid, signal.SIGTSTP)
        if generation == self.reload.coming:
            if self._how is How.CHAIN:
                self._next_of_chain(worker)
            self._see_whether_ready()

    def workers(self) -> Iterator[Life]:
        """Every worker that has a process."""
        return (life for life in self._lives.values() if life.pid)

    # ------------------------------------------------------------------ generations

    def _reload_event(self, event: reload_policy.Event) -> None:
        before = self.reload
        self.reload, actions = reload_policy.decide(self.reload, event)
        serves = self.reload.serving != before.serving  # by this event: what follows from it has its own
        for action in actions:
            self._carry_out(action, before)
        if serves:
            self._respawn.loaded()
            self._tally.show("generation", self.reload.serving)
            self._tally.show("last_reload", int(time.time()))
            self._on_ready()

    def _carry_out(self, action: Do, before: reload_policy.State) -> None:
        if action is Do.START_ZYGOTE:
            self._start_zygote(self.reload.coming)
        elif action is Do.START_WORKERS:
            self._start_workers(self.reload.coming)
        elif action is Do.RETIRE_OLD:
            self._retire(before.serving, 0 if self._how is How.BRUTAL else self._settings.mercy_seconds)
            self._tally.count("reloads")
            if self._how is How.CHAIN:
                self._logs.say("chain reloading complete")
        elif action is Do.ABANDON:
            why = f" ({self._why})" if self._why else ""
            self._logs.say(f"the new generation could not be started{why}: the old one goes on serving")
            self._retire(before.coming, 0)
            self.slots.withdraw(before.coming)
            self._chain.clear()
            self._start_workers(before.serving)  # those a chain had replaced already
            self._tally.count("reload_failures")
        elif action is Do.GIVE_UP:
            self._on_fatal(exits.NO_APP)

    def _start_zygote(self, generation: int) -> None:
        must_load = self._settings.need_app or generation > 1 or self.reload.serving > 0
        self._why = ""
        self._nursery.start(generation, must_load=must_load)
        self._tally.show("zygote_pid", self._nursery.newest_pid)
        for key, life in self._lives.items():  # what its predecessor was asked for and did not do
            if key[0] == generation and life.phase is Phase.STARTING and not life.pid:
                self._ask(key)

    def _ask(self, key: tuple[int, int]) -> None:
        """Ask for a worker. The only one a vassal has, which only an accident ends, is its zygote: a process less."""
        lone = self._frugal and self._settings.life.lone and not self._settings.features.aides
        if self._nursery.ask(*key, become=lone) or key[0] in self._nursery.generations:
            return
        if key[0] == self.reload.serving and self._respawn.due is None:
            self._start_zygote(key[0])

    def _start_workers(self, generation: int) -> None:
        """As many as run in the generation that serves, at least as many as the config starts with; the rest cheap."""
        now = time.monotonic()
        serving = [life for (number, _), life in self._lives.items() if number == self.reload.serving]
        count = max(self._settings.life.initial, sum(bool(life.pid) for life in serving))
        if serving and self._settings.life.may_be_idle and not any(life.pid for life in serving):
            count = 0  # nobody has asked for anything for long
        chained = self._how is How.CHAIN and generation == self.reload.coming
        for worker in range(1, self._settings.processes + 1):
            key = (generation, worker)
            wanted = worker <= count
            if key not in self._lives:
                phase = Phase.WAITING if wanted and not chained else Phase.CHEAP
                self._lives[key] = Life(worker, generation, phase, due=now)
            if wanted and chained:
                self._chain.append(worker)
            if generation == self.reload.coming:
                self.slots.cheap(worker, cheap=not wanted)
            self._life_event(key, worker_policy.Tick())
        if chained:
            self._next_of_chain(0)
        if generation == self.reload.coming:
            self._see_whether_ready()

    def _next_of_chain(self, done: int) -> None:
        """Worker `done` of the coming generation accepts: its predecessor leaves, and the next one is started."""
        old = (self.reload.serving, done)
        if old in self._lives:
            self._life_event(old, worker_policy.Leave(self._settings.mercy_seconds))
        if self._chain:
            worker = self._chain.popleft()
            self._logs.say(f"chain next victim is worker {worker}")
            self._life_event((self.reload.coming, worker), worker_policy.Wake())
            self._life_event((self.reload.coming, worker), worker_policy.Tick())

    def _see_whether_ready(self) -> None:
        lives = [life for (number, _), life in self._lives.items() if number == self.reload.coming]
        if lives and not self._chain and all(life.phase in {Phase.SERVING, Phase.CHEAP} for life in lives):
            self._reload_event(reload_policy.Event.READY)

    def _retire(self, generation: int, mercy: float) -> None:
        for key in [key for key in self._lives if key[0] == generation]:
            self._life_event(key, worker_policy.Leave(mercy, brutal=not mercy))
        self._end_zygote(generation)

    def _end_zygote(self, generation: int) -> None:
        if not self._nursery.end(generation):
            self._nothing_more_from(generation)

    def _nothing_more_from(self, generation: int) -> None:
        for key in [key for key, life in self._lives.items() if key[0] == generation and not life.pid]:
            self._life_event(key, worker_policy.Unforked())

    def _zygote_died(self, generation: int, status: int) -> None:
        pid = self._nursery.bury(generation)
        self._tally.show("zygote_pid", self._nursery.newest_pid)
        self._nothing_more_from(generation)
        self._on_zygote_gone()
        self._crashes.died(pid, status, f"zygote (pid: {pid}) {endings.in_words(status)}")
        if self.stopping:
            return
        if generation == self.reload.coming:
            self._reload_event(reload_policy.Event.FAILED)
        elif generation == self.reload.serving:
            delay = self._respawn.died(time.monotonic(), self._settings.process.forkbomb_seconds)
            later = f" in {delay:g} seconds" if delay else ""
            self._logs.say(
                f"zygote of generation {generation} (pid: {pid}) {endings.in_words(status)}, starting another{later}"
            )

    def _obey(self, generation: int, message: dict[str, Any]) -> None:
        op = message["op"]
        if op == "aide":
            self._on_aide(str(message["role"]), int(message["number"]), int(message["pid"]))
            return
        if op == "forked":
            self._unborn[int(message["pid"])] = (generation, int(message["worker"]))
            return
        if op == "spawned":
            self._spawned((generation, int(message["worker"])), int(message["pid"]))
            return
        if op == "failed":
            self._why = str(message["error"])
            if message.get("hopeless"):
                return  # it ends, and its death is the failure
        if generation == self.reload.coming:
            self._reload_event(reload_policy.Event.LOADED)
        elif generation == self.reload.serving:
            self._respawn.loaded()

    # ------------------------------------------------------------------ workers

    def _spawned(self, key: tuple[int, int], pid: int) -> None:
        self._unborn.pop(pid, None)
        if self._nursery.generation_of(pid):
            self._nursery.release(key[0])
            self._tally.show("zygote_pid", self._nursery.newest_pid)
        if key not in self._lives or self._lives[key].pid:
            os.kill(pid, signal.SIGKILL)
            return
        leaving = self._lives[key].last
        respawned = not leaving and self.slots.spawned(key[1], key[0], pid)
        if respawned and self.reload.serving in {0, key[0]}:  # 0: the others of the first have not all come yet
            self._logs.say(f"Respawned uWSGI worker {key[1]} (new pid: {pid})")
        else:
            self._logs.say(f"spawned uWSGI worker {key[1]} (pid: {pid}, cores: {self._settings.threads})")
        self._life_event(key, worker_policy.Spawned(pid))

    def _worker_died(self, key: tuple[int, int], pid: int, status: int) -> None:
        generation, worker = key
        before = self._lives[key]
        code, text = os.waitstatus_to_exitcode(status), f"worker {worker} (pid: {pid}) {endings.in_words(status)}"
        served = ", ".join(self._watch.running(worker, generation & 1)) or "no request"
        self._crashes.died(pid, status, f"{text}, in {served}", worker, generation)
        self.slots.died(worker, generation, pid, status)
        self.harakiri.forget(pid)
        self._life_event(key, worker_policy.Died(status, f"DAMN ! {text}", self._settings.process.forkbomb_seconds))
        if before.last or before.phase is Phase.LEAVING:
            ended = "buried" if self.stopping else "killed successfully"
            self._logs.say(f"worker {worker} {ended} (pid: {pid})")
            if before.last and generation == self.reload.serving and not (self.reload.coming or self.stopping):
                self._start_workers(generation)  # a chain that failed meanwhile had told it to go
        elif generation == self.reload.coming:
            if code == exits.NO_APP or (before.phase is Phase.STARTING and self.reload.serving):
                self._reload_event(reload_policy.Event.FAILED)
        elif code == exits.NO_APP and (self._settings.need_app or self._settings.app.mounts):
            self._on_fatal(exits.NO_APP)

    def _life_event(self, key: tuple[int, int], event: worker_policy.Event) -> None:
        before = self._lives[key].phase
        life, actions = worker_policy.decide(self._lives[key], event, time.monotonic())
        self._lives[key] = life
        if Phase.CHEAP in {before, life.phase} and before is not life.phase and key[0] == self.reload.serving:
            self.slots.cheap(key[1], cheap=life.phase is Phase.CHEAP)
        for action in actions:
            match action:
                case worker_policy.Fork():
                    self._ask(key)
                case worker_policy.Signal(number):
                    assert life.pid, "pid 0 would be our whole process group"
                    os.kill(life.pid, number)  # not reaped yet, so the pid is still its own
                case worker_policy.Note(text):
                    self._logs.say(text)
        if life.phase is Phase.GONE and not life.pid:
            self._lives.pop(key, None)
