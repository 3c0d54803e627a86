"""The master: binds and keeps every socket the config asks for, and supervises. It never imports the app.

One turn of `run` waits for descriptors and signals until the next thing is due, and does it; nothing in here may block.
Its pid never changes: a reload forks a fresh zygote and retires the old one when the new generation serves.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from palatine import __version__, exits, places
from palatine.codec import emperor_pipe
from palatine.companions import Companions
from palatine.errors import PalatineError
from palatine.notify import Notifier
from palatine.schema import SERVER_STATES
from palatine_app_server import channel, foundation, instance, linux, sockets, succession
from palatine_app_server.actions import Actions
from palatine_app_server.api import ApiSettings
from palatine_app_server.backlog import Backlog
from palatine_app_server.connection import Listener
from palatine_app_server.instance import Place
from palatine_app_server.link_end import LinkEnd
from palatine_app_server.logs import Logs
from palatine_app_server.loop import Loop
from palatine_app_server.settings import AppSettings
from palatine_app_server.signals_table import SignalsTable
from palatine_app_server.succession import Words
from palatine_app_server.takers import Takers
from palatine_app_server.vassal import EmperorPipe, Order
from palatine_app_server.worker import Doors
from palatine_app_server.workforce import Workforce
from palatine_app_server.zygote import Inheritance

#: uWSGI's check-interval: listen queues, backlog alarms and loyalty are looked at this often.
TICK_SECONDS: Final = 1.0
#: How soon to try again when the link does not read.
RETRY_SECONDS: Final = 0.05
#: A daemon that has not fetched its socket by then is missing, and one warning says so.
FETCH_SECONDS: Final = 10.0
#: What is left this long after SIGINT is killed.
STOP_SECONDS: Final = 3.0


class Master:
    """One running instance; `run` returns its exit code."""

    def __init__(self, settings: AppSettings, place: Place, words: Words, reread: Callable[[], AppSettings]) -> None:
        environ = dict(words.environ)
        left = succession.inherited(environ)
        self._settings = settings
        self._words = words._replace(environ=dict(environ))
        self._reread = reread
        self._successor_wanted = False
        self._succeeds = bool(left)
        self._place = place
        # a name made of our pid is nobody's after us: what is kept under it must go with us
        self._state_dir = settings.state_dir if settings.name else str(place.directory)
        self._environ = dict(environ)
        self._loop = Loop()
        self._exit_code = exits.OK
        self._draining = False
        self._emperor = EmperorPipe.from_environment(environ)
        self._notifier = Notifier.from_environment(self._environ)
        self._sockets = foundation.bind_all(settings, left, settings.mercy_seconds if place.after_crash else 0.0)
        foundation.drop_privileges(settings, place)
        self._segment = foundation.make_segment(settings, place, self._sockets)
        self._logs = Logs(settings.log, settings.alarms, self._segment)
        self._signals = SignalsTable(settings.processes)
        self._lifeline = os.pipe2(os.O_CLOEXEC)
        self._workers_end, self._own_end = channel.pair()
        self._own_end.setblocking(False)
        self._takers = Takers(place.directory / "handoff", self._sockets.offered, self._loop, self._offer_options)
        self._backlog = Backlog(self._sockets.requests, self._segment, self._logs, settings.alarms.backlog, self._raise)
        self._community = settings.community
        self._actions = Actions(self._logs, self._deliver, self._app_environ())
        self._link = LinkEnd(
            place, self._logs, self._loop, answer=self._answer, greeting=self._greeting, state_dir=self._state_dir
        )
        self._companions = Companions(self._logs.say, self._environ)
        self._workforce = Workforce(
            settings, self._segment, self._loop, self._logs,
            inheritance=self._inheritance, in_child=self._in_child,
            on_ready=self._on_ready, on_fatal=self._give_up,
        )  # fmt: skip
        self._server = self._segment.cells("server")

    def run(self) -> int:
        """Serve until told to stop."""
        linux.become_subreaper()
        self._watch()
        foundation.announce(self._settings, self._logs, self._sockets)
        self._write_pidfile()
        now = time.monotonic()
        self._link.start(now)
        self._start_companions(now)
        if self._emperor is not None and not self._succeeds:
            self._emperor.tell(emperor_pipe.SPAWNED)
        self._workforce.request_reload()
        tick_at = now + TICK_SECONDS
        fetch_by = now + FETCH_SECONDS
        while not self._workforce.finished:
            now = time.monotonic()
            if now >= tick_at:
                self._tick()
                tick_at = now + TICK_SECONDS
            if self._takers.missing and now >= fetch_by:
                self._warn_of_missing()
            self._workforce.tick(now)
            flushed = self._link.flush()
            due = [tick_at, self._workforce.next_due(now), self._link.due(now), self._companions.due(now)]
            if not flushed:
                due.append(now + RETRY_SECONDS)
            self._show_state()
            self._loop.turn(min(moment for moment in due if moment is not None) - now)
        self._end()
        if self._successor_wanted:
            settings = self._settings
            succession.hand_over(
                self._words,
                [*settings.sockets, *settings.daemon_sockets],
                [*self._sockets.requests, *self._sockets.offered],
            )
        self._logs.say("goodbye to uWSGI.")
        return self._exit_code

    # ------------------------------------------------------------------ start and end

    def _watch(self) -> None:
        settings = self._settings
        stop, drain, reload = self._stop_now, self._drain, self._reload
        self._loop.watch_signals(
            {
                signal.SIGCHLD: self._reap,
                signal.SIGINT: stop,
                signal.SIGQUIT: reload if settings.die_on_term else stop,
                signal.SIGTERM: drain,
                signal.SIGHUP: reload,
                signal.SIGUSR1: self._dump,
                signal.SIGTSTP: self._pause,
            },
            ignored=(signal.SIGUSR2, signal.SIGALRM, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH, signal.SIGURG),
        )
        self._loop.watch(self._own_end.fileno(), self._hear_workers)
        self._takers.watch()
        if self._logs.reader is not None:
            self._loop.watch(self._logs.reader.fileno(), self._logs.read)
        if self._emperor is not None:
            self._loop.watch(self._emperor.fd, self._hear_emperor)

    def _write_pidfile(self) -> None:
        if self._settings.pidfile:
            try:
                with open(self._settings.pidfile, "w", encoding="ascii") as file:
                    file.write(f"{os.getpid()}\n")
            except OSError as error:  # what it serves is worth more than the file that names it
                self._logs.say(f"pidfile {self._settings.pidfile}: {error.strerror}")

    def _start_companions(self, now: float) -> None:
        if not self._place.private:
            return
        for daemon in self._settings.companions:
            arguments = ["--runtime-dir", str(self._place.runtime)]
            state = places.state_dir(f"private/{self._place.name}", self._state_dir or None)
            self._companions.add(daemon, [*arguments, "--state-dir", str(state)])
        self._companions.spawn(now)

    def _end(self) -> None:
        """Everything we started ends, everything we made goes."""
        self._link.stop(time.monotonic())
        self._companions.stop(time.monotonic())
        while self._link.running or self._companions.running():
            now = time.monotonic()
            due = [moment for moment in (self._link.due(now), self._companions.due(now)) if moment is not None]
            self._loop.turn(min([*due, now + TICK_SECONDS]) - now)
        self._takers.close()
        self._segment.close(unlink=True)
        if self._settings.vacuum and not self._successor_wanted:
            for bound in (*self._sockets.requests, *self._sockets.offered):
                sockets.remove_path(bound)
            if self._settings.pidfile and os.path.exists(self._settings.pidfile):
                os.unlink(self._settings.pidfile)
        instance.leave(self._place)

    # ------------------------------------------------------------------ what children get

    def _inheritance(self, generation: int) -> Inheritance:
        settings = self._settings
        return Inheritance(
            settings=settings,
            api=ApiSettings(
                options=settings.options,
                processes=settings.processes,
                threads=settings.threads,
                buffer_size=settings.limits.head_bytes,
                master_pid=os.getppid(),  # called in the zygote
                snmp=settings.snmp,
                locks=settings.locks,
                lock_path=str(self._place.directory / "lock"),
                alarm_message_bytes=settings.alarms.message_bytes,
            ),
            segment=self._segment,
            doors=self._doors,
            master=self._workers_end,
            generation=generation,
            master_pid=os.getppid(),
            log_fd=self._logs.child_fd,
        )

    def _doors(self, worker: int) -> Doors:
        listeners = [
            Listener(bound.socket, bound.socket.fileno(), bound.name, bound.kind, sockets.request_variables(bound))
            for bound in self._sockets.requests
        ]
        return Doors(listeners, self._lifeline[0], self._signals.readers(worker))

    def _in_child(self) -> None:
        """Drop what only the master may hold: above all its end of the lifeline."""
        self._loop.abandon_in_child()
        self._segment.release_in_child()
        instance.release_in_child(self._place)
        os.close(self._lifeline[1])
        self._own_end.close()
        self._takers.close_in_child()
        if self._logs.reader is not None:
            self._logs.reader.close()
        if self._emperor is not None:
            os.close(self._emperor.fd)
        self._link.close_in_child()

    def _app_environ(self) -> dict[str, str]:
        environ = {key: value for key, value in self._environ.items() if key not in self._settings.unenv}
        return environ | dict(self._settings.env)

    # ------------------------------------------------------------------ what happens

    def _tick(self) -> None:
        self._backlog.measure()
        if self._emperor is not None and self._total_requests():
            self._emperor.announce_loyalty()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            now = time.monotonic()
            if self._link.reaped(pid, status, now) or self._companions.reaped(pid, status, now):
                continue
            if not self._actions.reaped(pid, status):
                self._workforce.reaped(pid, status)

    def _hear_workers(self) -> None:
        while True:
            try:
                message = channel.receive(self._own_end)
            except BlockingIOError:
                return
            if message is None:
                return
            self._obey_worker(message)

    def _obey_worker(self, message: dict[str, Any]) -> None:
        op = message["op"]
        if op == "accepting":
            self._workforce.accepting(
                int(message["worker"]), int(message["generation"]), paused=bool(message.get("paused"))
            )
            if self._emperor is not None and message["worker"] == 1:
                self._emperor.tell(emperor_pipe.ACCEPTING)
        elif op == "register":
            self._signals.register(int(message["number"]), str(message["target"]))
        elif op == "signal":
            self._deliver(int(message["number"]))
        elif op == "alarm":
            self._raise(str(message["alarm"]), str(message["message"]), "api")
        elif op == "community":
            self._community = str(message["community"])
            self._takers.send_away()
        elif op == "reload":
            self._reload()
        elif op == "stop":
            self._stop_now()

    def _hear_emperor(self) -> None:
        assert self._emperor is not None
        for order in self._emperor.hear():
            if order is Order.LOST:
                self._logs.say("lost connection with my emperor !!!")
                self._loop.forget(self._emperor.fd)
                self._stop_now()
                return
            self._logs.say_dated(f"received message {order.value} from emperor")
            actions: dict[Order, Callable[[], object]] = {
                Order.STOP: self._stop_now,
                Order.GRACEFUL_STOP: self._drain,
                Order.RELOAD: self._reload,
            }
            actions[order]()

    def _offer_options(self, kind: str) -> dict[str, Any]:
        """What the config says now about a socket of this kind."""
        if kind == "stats":
            return self._settings.stats_options
        return {
            "community": self._community,
            "snmp": self._settings.snmp,
            "null_unset": self._settings.snmp_null_unset,
        }

    def _warn_of_missing(self) -> None:
        for daemon in sorted(self._takers.missing):
            self._logs.say(f"*** WARNING: no {daemon} has come for its sockets; they are served once one runs ***")
        self._takers.missing.clear()

    def _show_state(self) -> None:
        workforce = self._workforce
        state = "ready"
        if workforce.stopping:
            state = "draining" if self._draining else "stopping"
        elif not workforce.reload.serving:
            state = "starting"
        elif workforce.reload.coming:
            state = "reloading"
        elif workforce.paused:
            state = "paused"
        self._server[self._segment.word("server", "state")] = SERVER_STATES.index(state)
        self._server[self._segment.word("server", "link_pid")] = self._link.pid

    # ------------------------------------------------------------------ what others ask

    def _answer(self, kind: str, body: Any) -> dict[str, Any]:
        """A request that came over the bus, already authorised by the link."""
        if kind == "alarm.action":
            return self._actions.run(body if isinstance(body, dict) else {})
        if kind == "alarm.config":
            return self._alarm_config()
        if kind == "reload":
            refusal = self._reload()
            if refusal:
                return {"error": "config", "message": refusal}
            return {"generation": self._workforce.reload.coming}
        if kind == "stop":
            drain = not isinstance(body, dict) or bool(body.get("drain", True))
            (self._drain if drain else self._stop_now)()
            return {"stopping": True}
        if kind == "status":
            return self._status()
        if kind == "udp.datagram" and isinstance(body, dict):
            self._logs.say(f"[udp:{body.get('peer', '')}] {body.get('payload', '')}")
            return {}
        return {"error": "unknown-type", "message": f"no request {kind!r}"}

    def _status(self) -> dict[str, Any]:
        reload = self._workforce.reload
        return {
            "name": self._place.name,
            "pid": os.getpid(),
            "version": __version__,
            "generation": reload.serving,
            "coming": reload.coming,
            "workers": [
                {"id": life.worker, "pid": life.pid, "generation": life.generation, "phase": life.phase.value}
                for life in self._workforce.workers()
            ],
            "sockets": [bound.name for bound in self._sockets.requests],
            "requests": self._total_requests(),
            "private": self._place.private,
        }

    def _greeting(self) -> dict[str, Any]:
        return {"op": "config", **self._alarm_config()}

    def _alarm_config(self) -> dict[str, Any]:
        """What the alarm-daemon must know of this instance."""
        alarms = self._settings.alarms
        return {
            "instance": self._place.name,
            "freq": alarms.freq,
            "alarms": [alarm._asdict() for alarm in alarms.alarms],
            "rules": [rule._asdict() for rule in alarms.rules],
        }

    def _raise(self, alarm: str, message: str, source: str) -> None:
        if any(known.name == alarm for known in self._settings.alarms.alarms):
            self._server[self._segment.word("server", "alarms_raised")] += 1
            self._link.post({"op": "raise", "alarm": alarm, "message": message, "source": source})

    def _deliver(self, number: int) -> None:
        delivered = self._signals.deliver(number)
        self._server[self._segment.word("server", "routed_signals" if delivered else "unrouted_signals")] += 1
        if not delivered:
            self._logs.say(
                f"*** unable to route signal {number}: nobody is registered for it, or its queue is full ***"
            )

    # ------------------------------------------------------------------ orders

    def _on_ready(self) -> None:
        self._notifier.send("READY=1", f"STATUS=generation {self._workforce.reload.serving} serves")

    def _reload(self) -> str:
        """Read the config again and bring it into force; why not, where it cannot be read: then the old one stays."""
        if self._workforce.stopping:
            return "stopping"
        try:
            wanted = self._reread()
        except PalatineError as error:
            self._logs.say(f"the config cannot be read again, the old one stays in force: {error}")
            self._server[self._segment.word("server", "reload_failures")] += 1
            return str(error)
        if succession.needs_successor(self._settings, wanted):
            self._notifier.send("RELOADING=1")
            self._logs.say("the config changes what a master is made of: it starts anew when its workers have finished")
            self._successor_wanted = self._draining = True
            self._workforce.stop(float(self._settings.mercy_seconds))
        else:
            self._settings = wanted
            self._workforce.request_reload(wanted)
        return ""

    def _drain(self) -> None:
        self._notifier.send("STOPPING=1")
        self._draining = True
        self._logs.say("SIGTERM received...draining workers...")
        self._workforce.stop(float(self._settings.mercy_seconds))

    def _stop_now(self) -> None:
        self._successor_wanted = False
        self._notifier.send("STOPPING=1")
        self._draining = False
        self._logs.say("SIGINT/SIGTERM received...killing workers...")
        self._workforce.stop(0.0 if self._workforce.stopping else STOP_SECONDS, brutal=True)

    def _pause(self) -> None:
        self._workforce.toggle_pause()
        paused = "*** PAUSE (press start to resume, if you do not have a joypad send SIGTSTP) ***"
        self._logs.say_dated(paused if self._workforce.paused else "*** (SIGTSTP received) resuming workers ***")

    def _dump(self) -> None:
        for life in self._workforce.workers():
            self._logs.say(f"worker {life.worker} pid {life.pid} generation {life.generation} {life.phase.value}")
        self._logs.say(f"total requests: {self._total_requests()}")

    def _give_up(self, code: int) -> None:
        self._exit_code = code
        if self._emperor is not None:
            self._emperor.tell_reason("no app could be loaded")
        self._logs.say("no app could be loaded: giving up")
        self._workforce.stop(0.0, brutal=True)

    def _total_requests(self) -> int:
        word = self._segment.word("cores", "requests")
        rows = self._settings.processes * self._settings.threads
        return sum(self._segment.cells("cores", row, bank)[word] for row in range(rows) for bank in (0, 1))


def start(settings: AppSettings, place: Place, words: Words, reread: Callable[[], AppSettings]) -> int:
    """Run the master in this process; the exit code."""
    try:
        master = Master(settings, place, words, reread)
    except BaseException:
        instance.leave(place)
        raise
    sys.stdout.flush()
    return master.run()
