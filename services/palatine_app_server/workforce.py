"""Zygotes and workers as the master runs them: carries out what reload_policy and worker_policy decide.

It owns the generations' zygotes, the life of every worker, and the `slots` rows; it never waits for any of them.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from palatine import exits
from palatine.counters import Segment
from palatine_app_server import channel, reload_policy, worker_policy, zygote
from palatine_app_server.harakiri import DeadlineWatch, OverdueRequest
from palatine_app_server.logs import Logs
from palatine_app_server.loop import Loop
from palatine_app_server.reload_policy import Do
from palatine_app_server.settings import AppSettings
from palatine_app_server.slots import Slots
from palatine_app_server.worker_policy import Life, Phase


class _Zygote(NamedTuple):
    pid: int
    orders: socket.socket
    generation: int


class _Respawn(NamedTuple):
    """When the serving generation gets another zygote, and how often one has died in a row before it had loaded."""

    failures: int = 0
    due: float | None = None


class Workforce:
    """All app processes of one instance."""

    def __init__(
        self,
        settings: AppSettings,
        segment: Segment,
        loop: Loop,
        logs: Logs,
        *,
        inheritance: Callable[[int], zygote.Inheritance],
        in_child: Callable[[], None],
        on_ready: Callable[[], None],
        on_fatal: Callable[[int], None],
    ) -> None:
        self._settings = settings
        self._segment = segment
        self._loop = loop
        self._logs = logs
        self._inheritance = inheritance
        self._in_child = in_child
        self._on_ready = on_ready
        self._on_fatal = on_fatal
        self._zygotes: dict[int, _Zygote] = {}
        self._lives: dict[tuple[int, int], Life] = {}
        self._early_deaths: dict[int, int] = {}  # pids reaped before their "spawned" was read
        self._watch = DeadlineWatch(segment, settings.processes, settings.threads)
        self._server = segment.cells("server")
        self._slots = Slots(segment, settings.threads)
        self._respawn = _Respawn()
        self._why = ""  # the last zygote that failed to load said so
        self.reload = reload_policy.State()
        self.stopping = False
        self.paused = False

    # ------------------------------------------------------------------ what the master asks

    def request_reload(self, settings: AppSettings | None = None) -> None:
        """Bring up a new generation beside the present one (the first call: the first one), by these `settings`."""
        if settings is not None:
            self._settings = settings
        if not self.stopping:
            self._reload_event(reload_policy.Event.REQUESTED)

    def stop(self, mercy: float, *, brutal: bool = False) -> None:
        """Let every worker finish within `mercy` seconds, or with `brutal` drop what it is serving."""
        self.stopping = True
        for key in list(self._lives):
            self._life_event(key, worker_policy.Leave(mercy, brutal))
        for generation in {generation for generation, _ in self._lives} | set(self._zygotes):
            self._end_zygote(generation)

    def toggle_pause(self) -> None:
        """Have the workers take no requests, or take them again; the connections wait in the listen queue."""
        self.paused = not self.paused
        self._slots.pause(paused=self.paused)
        for life in self._lives.values():
            if life.pid and life.phase is Phase.SERVING:  # one that starts says what it believes when it accepts
                os.kill(life.pid, signal.SIGTSTP)

    @property
    def finished(self) -> bool:
        """Nothing is left to wait for."""
        return self.stopping and not self._zygotes and not any(life.pid for life in self._lives.values())

    def tick(self, now: float) -> None:
        """Do what time has made due."""
        if self._respawn.due is not None and now >= self._respawn.due and not self.stopping:
            self._respawn = self._respawn._replace(due=None)
            self._start_zygote(self.reload.serving)
        if self._settings.harakiri_seconds:
            self._look_for_overdue(now)
        for key, life in list(self._lives.items()):
            if life.phase is Phase.CONDEMNED and not self._watch.siblings_busy(key[1], key[0] & 1, now):
                self._life_event(key, worker_policy.Alone())
            due = worker_policy.next_due(life)
            if due is not None and now >= due:
                self._life_event(key, worker_policy.Tick())
        if self.reload.stage is reload_policy.Stage.RETIRING and not self._others_left():
            self._reload_event(reload_policy.Event.OLD_GONE)

    def _others_left(self) -> bool:
        serving = self.reload.serving
        return any(generation != serving for generation, _ in self._lives) or any(
            generation != serving for generation in self._zygotes
        )

    def next_due(self, now: float) -> float | None:
        """When `tick` should be called next."""
        moments = [due for life in self._lives.values() if (due := worker_policy.next_due(life)) is not None]
        if self._respawn.due is not None and not self.stopping:
            moments.append(self._respawn.due)
        if self._settings.harakiri_seconds:
            deadline = self._watch.next_deadline(now)
            if deadline is not None:
                moments.append(deadline)
        return min(moments, default=None)

    def reaped(self, pid: int, status: int) -> bool:
        """A child ended; whether it was one of ours."""
        for generation, gone in list(self._zygotes.items()):
            if gone.pid == pid:
                self._zygote_died(generation, status)
                return True
        for key, life in self._lives.items():
            if life.pid == pid:
                self._worker_died(key, pid, status)
                return True
        if self._awaiting():  # else it is an orphan of the app's, and its number may come again
            self._early_deaths[pid] = status
        return False

    def _awaiting(self) -> bool:
        """Whether a worker may exist that has not said so yet."""
        return any(not life.pid and life.phase not in {Phase.WAITING, Phase.GONE} for life in self._lives.values())

    def accepting(self, worker: int, generation: int, *, paused: bool) -> None:
        """A worker says that it takes requests, or would if it were not `paused`."""
        key = (generation, worker)
        if key not in self._lives:
            return
        self._life_event(key, worker_policy.Accepting())
        pid = self._lives[key].pid
        if pid and paused is not self.paused:
            os.kill(pid, signal.SIGTSTP)
        lives = [life for (number, _), life in self._lives.items() if number == self.reload.coming]
        if lives and all(life.phase is Phase.SERVING for life in lives):
            self._reload_event(reload_policy.Event.READY)

    def workers(self) -> Iterator[Life]:
        """Every worker that has a process."""
        return (life for life in self._lives.values() if life.pid)

    # ------------------------------------------------------------------ generations

    def _reload_event(self, event: reload_policy.Event) -> None:
        before = self.reload
        self.reload, actions = reload_policy.decide(self.reload, event)
        for action in actions:
            self._carry_out(action, before)
        if self.reload.serving != before.serving:
            self._respawn = _Respawn()
            self._server[self._segment.word("server", "generation")] = self.reload.serving
            self._server[self._segment.word("server", "last_reload")] = int(time.time())
            self._on_ready()

    def _carry_out(self, action: Do, before: reload_policy.State) -> None:
        if action is Do.START_ZYGOTE:
            self._start_zygote(self.reload.coming)
        elif action is Do.START_WORKERS:
            self._start_workers(self.reload.coming)
        elif action is Do.RETIRE_OLD:
            self._retire(before.serving, self._settings.mercy_seconds)
            self._count("reloads")
        elif action is Do.ABANDON:
            why = f" ({self._why})" if self._why else ""
            self._logs.say(f"the new generation could not be started{why}: the old one goes on serving")
            self._retire(before.coming, 0)
            self._slots.withdraw(before.coming)
            self._count("reload_failures")
        elif action is Do.GIVE_UP:
            self._on_fatal(exits.NO_APP)

    def _start_zygote(self, generation: int) -> None:
        must_load = self._settings.need_app or generation > 1 or self.reload.serving > 0
        self._why = ""
        ours, theirs = channel.pair()
        pid = os.fork()
        if pid == 0:
            try:
                self._in_child()
                ours.close()
                for other in self._zygotes.values():
                    other.orders.close()
                zygote.run(self._inheritance(generation)._replace(must_load=must_load), theirs)
            finally:
                os._exit(exits.FAILURE)
        theirs.close()
        ours.setblocking(False)
        started = _Zygote(pid, ours, generation)
        self._zygotes[generation] = started
        self._show_zygote()
        self._loop.watch(ours.fileno(), lambda: self._hear(started))
        for key, life in self._lives.items():  # what its predecessor was asked for and did not do
            if key[0] == generation and life.phase is Phase.STARTING and not life.pid:
                self._ask_for(key)

    def _start_workers(self, generation: int) -> None:
        now = time.monotonic()
        for worker in range(1, self._settings.processes + 1):
            key = (generation, worker)
            if key not in self._lives:
                self._lives[key] = Life(worker, generation, due=now)
            self._life_event(key, worker_policy.Tick())

    def _retire(self, generation: int, mercy: float) -> None:
        for key in [key for key in self._lives if key[0] == generation]:
            self._life_event(key, worker_policy.Leave(mercy, brutal=not mercy))
        self._end_zygote(generation)

    def _end_zygote(self, generation: int) -> None:
        """It may be importing, so it is killed; what it has forked is heard of when it is reaped."""
        gone = self._zygotes.get(generation)
        if gone is None:
            self._nothing_more_from(generation)
        else:
            os.kill(gone.pid, signal.SIGKILL)

    def _nothing_more_from(self, generation: int) -> None:
        for key in [key for key, life in self._lives.items() if key[0] == generation and not life.pid]:
            self._life_event(key, worker_policy.Unforked())

    def _zygote_died(self, generation: int, status: int) -> None:
        gone = self._zygotes.pop(generation)
        self._show_zygote()
        if gone.orders.fileno() >= 0:
            self._hear(gone)  # of workers forked just before
            self._loop.forget(gone.orders.fileno())
            gone.orders.close()  # one that has not said its name yet cannot, and ends
        self._nothing_more_from(generation)
        if self.stopping:
            return
        if generation == self.reload.coming:
            self._reload_event(reload_policy.Event.FAILED)
        elif generation == self.reload.serving:
            delay = worker_policy.respawn_delay(self._respawn.failures)
            later = f" in {delay:g} seconds" if delay else ""
            self._logs.say(
                f"zygote of generation {generation} (pid: {gone.pid}) {_words(status)}, starting another{later}"
            )
            self._respawn = _Respawn(self._respawn.failures + 1, time.monotonic() + delay)

    def _hear(self, teller: _Zygote) -> None:
        while True:
            try:
                message = channel.receive(teller.orders)
            except BlockingIOError:
                return
            except OSError:
                message = None
            if message is None:
                self._loop.forget(teller.orders.fileno())  # its death is reaped; nothing more comes from here
                return
            self._obey(teller.generation, message)

    def _obey(self, generation: int, message: dict[str, Any]) -> None:
        op = message["op"]
        if op == "spawned":
            self._spawned((generation, int(message["worker"])), int(message["pid"]))
            return
        if op == "failed":
            self._why = str(message["error"])
            if generation > 1 or self._settings.need_app or self.reload.serving:
                return  # it ends, and its death is the failure
        if generation == self.reload.coming:
            self._reload_event(reload_policy.Event.LOADED)
        elif generation == self.reload.serving:
            self._respawn = _Respawn()

    # ------------------------------------------------------------------ workers

    def _spawned(self, key: tuple[int, int], pid: int) -> None:
        if key not in self._lives or self._lives[key].pid:
            os.kill(pid, signal.SIGKILL)
            return
        leaving = self._lives[key].last
        respawned = not leaving and self._slots.spawned(key[1], key[0], pid)
        if respawned and key[0] == self.reload.serving:
            self._logs.say(f"Respawned uWSGI worker {key[1]} (new pid: {pid})")
        else:
            self._logs.say(f"spawned uWSGI worker {key[1]} (pid: {pid}, cores: {self._settings.threads})")
        self._life_event(key, worker_policy.Spawned(pid))
        early = self._early_deaths.pop(pid, None)
        if early is not None:
            self._worker_died(key, pid, early)
        if not self._awaiting():
            self._early_deaths.clear()

    def _worker_died(self, key: tuple[int, int], pid: int, status: int) -> None:
        generation, worker = key
        before = self._lives[key]
        self._slots.died(worker, generation, pid, status)
        code = os.waitstatus_to_exitcode(status)
        self._life_event(key, worker_policy.Died(status, f"DAMN ! worker {worker} (pid: {pid}) {_words(status)}"))
        if before.last:
            ended = "buried" if self.stopping else "killed successfully"
            self._logs.say(f"worker {worker} {ended} (pid: {pid})")
        elif generation == self.reload.coming:
            if code == exits.NO_APP or (before.phase is Phase.STARTING and self.reload.serving):
                self._reload_event(reload_policy.Event.FAILED)
        elif code == exits.NO_APP and self._settings.need_app:
            self._on_fatal(exits.NO_APP)

    def _life_event(self, key: tuple[int, int], event: worker_policy.Event) -> None:
        life, actions = worker_policy.decide(self._lives[key], event, time.monotonic())
        self._lives[key] = life
        for action in actions:
            match action:
                case worker_policy.Fork():
                    self._ask_for(key)
                case worker_policy.Signal(number):
                    assert life.pid, "pid 0 would be our whole process group"
                    os.kill(life.pid, number)  # not reaped yet, so the pid is still its own
                case worker_policy.Note(text):
                    self._logs.say(text)
        if life.phase is Phase.GONE and not life.pid:
            self._lives.pop(key, None)

    def _ask_for(self, key: tuple[int, int]) -> None:
        parent = self._zygotes.get(key[0])
        if parent is None or parent.orders.fileno() < 0:
            return  # its successor will be asked
        try:
            channel.send(parent.orders, {"op": "fork", "worker": key[1]})
        except OSError as error:
            self._logs.say(f"zygote of generation {key[0]} cannot be told to fork: {error.strerror}")

    # ------------------------------------------------------------------ harakiri

    def _look_for_overdue(self, now: float) -> None:
        for late in self._watch.overdue(now):
            for key, life in list(self._lives.items()):
                at_work = life.pid and life.phase in {Phase.SERVING, Phase.LEAVING}
                if at_work and key[1] == late.worker and key[0] & 1 == late.bank:
                    self._announce_harakiri(late, life.pid)
                    self._slots.harakiri(late.worker)
                    grace = min(late.grace, float(self._settings.mercy_seconds))
                    self._life_event(key, worker_policy.Overdue(grace))

    def _announce_harakiri(self, late: OverdueRequest, pid: int) -> None:
        method, uri, _host, peer = (self._watch.activity(late).split("\0") + [""] * 4)[:4]
        say, worker = self._logs.say_dated, late.worker
        say(f"*** HARAKIRI ON WORKER {worker} (pid: {pid}, try: 1, graceful: yes) ***")
        say(f"HARAKIRI !!! worker {worker} status !!!")
        say(f"HARAKIRI [core {late.core}] {peer} - {method} {uri} since {late.started}")
        say(f"HARAKIRI !!! end of worker {worker} status !!!")
        self._logs.say(f"HARAKIRI triggered by worker {worker} core {late.core} !!!")

    def _show_zygote(self) -> None:
        newest = self._zygotes.get(max(self._zygotes, default=0))
        self._server[self._segment.word("server", "zygote_pid")] = newest.pid if newest else 0

    def _count(self, name: str) -> None:
        self._server[self._segment.word("server", name)] += 1


def _words(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"died, killed by signal {-code}" if code < 0 else f"died, exit status {code}"
