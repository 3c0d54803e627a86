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
from palatine_app_server.worker_policy import Life, Phase


class _Zygote(NamedTuple):
    pid: int
    orders: socket.socket
    generation: int


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
        self.reload = reload_policy.State()
        self.stopping = False

    # ------------------------------------------------------------------ what the master asks

    def request_reload(self) -> None:
        """Bring up a new generation beside the present one (the first call: the first one)."""
        if not self.stopping:
            self._reload_event(reload_policy.Event.REQUESTED)

    def stop(self, mercy: float, *, brutal: bool = False) -> None:
        """Let every worker finish within `mercy` seconds, or with `brutal` drop what it is serving."""
        self.stopping = True
        for key in list(self._lives):
            self._life_event(key, worker_policy.Leave(mercy, brutal))
        for generation in list(self._zygotes):
            self._end_zygote(generation)

    @property
    def finished(self) -> bool:
        """Nothing is left to wait for."""
        return self.stopping and not self._zygotes and not any(life.pid for life in self._lives.values())

    def tick(self, now: float) -> None:
        """Do what time has made due."""
        if self._settings.harakiri_seconds:
            self._look_for_overdue(now)
        for key, life in list(self._lives.items()):
            due = worker_policy.next_due(life)
            if due is not None and now >= due:
                self._life_event(key, worker_policy.Tick())
            elif life.phase is Phase.CONDEMNED and not self._watch.siblings_busy(key[1], key[0] & 1, now):
                grace_over = life.due - worker_policy.HARAKIRI_GRACE_SECONDS
                if now >= min(life.due, grace_over):
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
        self._early_deaths[pid] = status
        return False

    def accepting(self, worker: int, generation: int) -> None:
        """A worker says that it takes requests."""
        key = (generation, worker)
        if key not in self._lives:
            return
        self._life_event(key, worker_policy.Accepting())
        lives = [life for (number, _), life in self._lives.items() if number == self.reload.coming]
        if lives and all(life.phase is Phase.SERVING for life in lives):
            self._reload_event(reload_policy.Event.READY)

    def workers(self) -> Iterator[Life]:
        """Every worker that has a process."""
        return (life for life in self._lives.values() if life.pid)

    def serving_pids(self) -> list[tuple[int, int]]:
        """(index, pid) of the workers that take requests."""
        return [(life.worker, life.pid) for life in self._lives.values() if life.phase is Phase.SERVING]

    # ------------------------------------------------------------------ generations

    def _reload_event(self, event: reload_policy.Event) -> None:
        before = self.reload
        self.reload, actions = reload_policy.decide(self.reload, event)
        for action in actions:
            self._carry_out(action, before)
        if self.reload.serving != before.serving:
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
            self._logs.say("the new generation could not be started: the old one goes on serving")
            self._count("reload_failures")
            self._retire(before.coming, 0)
        elif action is Do.GIVE_UP:
            self._on_fatal(exits.NO_APP)

    def _start_zygote(self, generation: int) -> None:
        ours, theirs = channel.pair()
        pid = os.fork()
        if pid == 0:
            self._in_child()
            ours.close()
            for other in self._zygotes.values():
                other.orders.close()
            zygote.run(self._inheritance(generation), theirs)
        theirs.close()
        ours.setblocking(False)
        self._zygotes[generation] = _Zygote(pid, ours, generation)
        self._server[self._segment.word("server", "zygote_pid")] = pid
        self._loop.watch(ours.fileno(), lambda: self._hear(generation))

    def _start_workers(self, generation: int) -> None:
        now = time.monotonic()
        for worker in range(1, self._settings.processes + 1):
            key = (generation, worker)
            if key not in self._lives:
                self._lives[key] = Life(worker, generation, due=now)
            self._life_event(key, worker_policy.Tick())

    def _retire(self, generation: int, mercy: float) -> None:
        self._end_zygote(generation)
        for key in [key for key in self._lives if key[0] == generation]:
            self._life_event(key, worker_policy.Leave(mercy, brutal=not mercy))

    def _end_zygote(self, generation: int) -> None:
        """Close its orders: it ends by itself. One that still imports is killed."""
        gone = self._zygotes.get(generation)
        if gone is None:
            return
        self._loop.forget(gone.orders.fileno())
        gone.orders.close()
        os.kill(gone.pid, signal.SIGKILL)

    def _zygote_died(self, generation: int, status: int) -> None:
        gone = self._zygotes.pop(generation)
        if gone.orders.fileno() >= 0:
            self._loop.forget(gone.orders.fileno())
            gone.orders.close()
        if self.stopping or generation not in {self.reload.serving, self.reload.coming}:
            return
        if generation == self.reload.coming:
            self._reload_event(reload_policy.Event.FAILED)
            return
        self._logs.say(f"zygote of generation {generation} (pid: {gone.pid}) {_words(status)}, starting another")
        self._start_zygote(generation)

    def _hear(self, generation: int) -> None:
        teller = self._zygotes.get(generation)
        while teller is not None and teller.orders.fileno() >= 0:
            try:
                message = channel.receive(teller.orders)
            except BlockingIOError:
                return
            except OSError:
                message = None
            if message is None:
                self._loop.forget(teller.orders.fileno())  # its death is reaped; nothing more comes from here
                return
            self._obey(generation, message)
            teller = self._zygotes.get(generation)

    def _obey(self, generation: int, message: dict[str, Any]) -> None:
        if message["op"] == "spawned":
            self._spawned((generation, int(message["worker"])), int(message["pid"]))
        elif message["op"] == "loaded" or (message["op"] == "failed" and self._may_serve_without_app(generation)):
            if generation == self.reload.coming:
                self._reload_event(reload_policy.Event.LOADED)
            else:  # another zygote for a generation that serves already: fork what its predecessor could not
                self._retry_forks(generation)

    def _may_serve_without_app(self, generation: int) -> bool:
        return generation == 1 and not self._settings.need_app

    def _retry_forks(self, generation: int) -> None:
        now = time.monotonic()
        for key, life in list(self._lives.items()):
            if key[0] == generation and life.phase is Phase.STARTING and not life.pid:
                self._lives[key] = life._replace(phase=Phase.WAITING, due=now)
                self._life_event(key, worker_policy.Tick())

    # ------------------------------------------------------------------ workers

    def _spawned(self, key: tuple[int, int], pid: int) -> None:
        if key not in self._lives:
            os.kill(pid, signal.SIGKILL)
            return
        row = self._slot(key[1])
        respawned = row["respawn_count"].get() > 0
        row["respawn_count"].add(1)
        row["pid"].set(pid)
        row["generation"].set(key[0])
        row["last_spawn"].set(int(time.time()))
        row["requests_at_spawn"].set(self._requests_of(key[1]))
        if respawned and self._lives[key].generation == self.reload.serving:
            self._logs.say(f"Respawned uWSGI worker {key[1]} (new pid: {pid})")
        else:
            self._logs.say(f"spawned uWSGI worker {key[1]} (pid: {pid}, cores: {self._settings.threads})")
        self._life_event(key, worker_policy.Spawned(pid))
        early = self._early_deaths.pop(pid, None)
        if early is not None:
            self._worker_died(key, pid, early)

    def _worker_died(self, key: tuple[int, int], pid: int, status: int) -> None:
        row = self._slot(key[1])
        row["last_exit_status"].set(status)
        if row["pid"].get() == pid:
            row["pid"].set(0)
        before = self._lives[key].phase
        self._clear_cores(key)
        code = os.waitstatus_to_exitcode(status)
        self._life_event(key, worker_policy.Died(status, f"DAMN ! worker {key[1]} (pid: {pid}) {_words(status)}"))
        if before is Phase.LEAVING:
            ended = "buried" if self.stopping else "killed successfully"
            self._logs.say(f"worker {key[1]} {ended} (pid: {pid})")
        elif key[0] == self.reload.coming and (code == exits.NO_APP or before is Phase.STARTING):
            self._reload_event(reload_policy.Event.FAILED)
        elif code == exits.NO_APP:
            self._on_fatal(exits.NO_APP)

    def _clear_cores(self, key: tuple[int, int]) -> None:
        """A dead worker serves nothing: its writer is gone, so the master may write its rows."""
        generation, worker = key
        words = [self._segment.word("cores", name) for name in ("in_request", "harakiri_deadline_ms")]
        for core in range(self._settings.threads):
            cells = self._segment.cells("cores", (worker - 1) * self._settings.threads + core, generation & 1)
            for word in words:
                cells[word] = 0
        row = self._segment.cells("workers", worker - 1, generation & 1)
        row[self._segment.word("workers", "accepting")] = 0

    def _life_event(self, key: tuple[int, int], event: worker_policy.Event) -> None:
        life, actions = worker_policy.decide(self._lives[key], event, time.monotonic())
        self._lives[key] = life
        for action in actions:
            match action:
                case worker_policy.Fork():
                    self._ask_for(key)
                case worker_policy.Signal(number):
                    os.kill(life.pid, number)  # not reaped yet, so the pid is still its own
                case worker_policy.Note(text):
                    self._logs.say(text)
        if life.phase is Phase.GONE and not life.pid:
            self._lives.pop(key, None)

    def _ask_for(self, key: tuple[int, int]) -> None:
        parent = self._zygotes.get(key[0])
        if parent is None or parent.orders.fileno() < 0:
            return  # its successor will be told by _retry_forks
        try:
            channel.send(parent.orders, {"op": "fork", "worker": key[1]})
        except OSError as error:
            self._logs.say(f"zygote of generation {key[0]} cannot be told to fork: {error.strerror}")

    # ------------------------------------------------------------------ harakiri

    def _look_for_overdue(self, now: float) -> None:
        for late in self._watch.overdue(now):
            for key, life in list(self._lives.items()):
                if key[1] == late.worker and key[0] & 1 == late.bank and life.phase in {Phase.SERVING, Phase.LEAVING}:
                    self._announce_harakiri(late, life.pid)
                    self._slot(late.worker)["harakiri_count"].add(1)
                    grace = min(late.grace, float(self._settings.mercy_seconds))
                    self._life_event(key, worker_policy.Overdue(grace))

    def _announce_harakiri(self, late: OverdueRequest, pid: int) -> None:
        method, uri, _host, peer = (late.activity.decode("latin-1").split("\0") + [""] * 4)[:4]
        say, worker = self._logs.say_dated, late.worker
        say(f"*** HARAKIRI ON WORKER {worker} (pid: {pid}, try: 1, graceful: yes) ***")
        say(f"HARAKIRI !!! worker {worker} status !!!")
        say(f"HARAKIRI [core {late.core}] {peer} - {method} {uri} since {late.started}")
        say(f"HARAKIRI !!! end of worker {worker} status !!!")
        self._logs.say(f"HARAKIRI triggered by worker {worker} core {late.core} !!!")

    # ------------------------------------------------------------------ rows

    def _slot(self, worker: int) -> dict[str, "Cell"]:
        cells = self._segment.cells("slots", worker - 1)
        names = ("pid", "respawn_count", "generation", "last_spawn", "requests_at_spawn", "last_exit_status",
                 "harakiri_count")  # fmt: skip
        return {name: Cell(cells, self._segment.word("slots", name)) for name in names}

    def _requests_of(self, worker: int) -> int:
        word, threads = self._segment.word("cores", "requests"), self._settings.threads
        rows = range((worker - 1) * threads, worker * threads)
        return sum(self._segment.cells("cores", row, bank)[word] for row in rows for bank in (0, 1))

    def _count(self, name: str) -> None:
        self._server[self._segment.word("server", name)] += 1


class Cell(NamedTuple):
    """One word of a row the master owns."""

    cells: memoryview
    word: int

    def get(self) -> int:
        """Its value."""
        value: int = self.cells[self.word]
        return value

    def set(self, value: int) -> None:
        """Store a value."""
        self.cells[self.word] = value

    def add(self, value: int) -> None:
        """Add to it; the master is its one writer."""
        self.cells[self.word] += value


def _words(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"died, killed by signal {-code}" if code < 0 else f"died, exit status {code}"
