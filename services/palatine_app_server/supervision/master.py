"""The master: binds and keeps every socket the config asks for, and supervises. It never imports the app.

One turn of `run` waits for descriptors and signals until the next thing is due, and does it; nothing in here may block.
Its pid never changes: a reload forks a fresh zygote and retires the old one when the new generation serves.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

from palatine import places
from palatine.codec import emperor_pipe
from palatine.companions import Companions
from palatine.notify import Notifier
from palatine_app_server.config.settings import AppSettings
from palatine_app_server.crews.crew import Crew
from palatine_app_server.linking import link_sibling
from palatine_app_server.linking.link_end import LinkEnd
from palatine_app_server.log.logs import Logs
from palatine_app_server.orders.actions import Actions
from palatine_app_server.orders.inquiries import Inquiries
from palatine_app_server.orders.orders import Orders
from palatine_app_server.orders.standing_orders import StandingOrders
from palatine_app_server.orders.vassal import EmperorPipe
from palatine_app_server.scheduling.schedule import Schedule
from palatine_app_server.sharing import commons
from palatine_app_server.starting import hooks, pid_files
from palatine_app_server.supervision import alarm_raising, certificates, foundation, optional_parts, succession, vacuum
from palatine_app_server.supervision.alarm_raising import Alarms
from palatine_app_server.supervision.backlog import Backlog
from palatine_app_server.supervision.crash_reports import CrashReports
from palatine_app_server.supervision.hearing import Hearing, Message
from palatine_app_server.supervision.heritage import Heritage
from palatine_app_server.supervision.push_offers import PushOffers
from palatine_app_server.supervision.scaling import Scaling
from palatine_app_server.supervision.succession import Words
from palatine_app_server.supervision.takers import Takers
from palatine_app_server.supervision.tally import Tally
from palatine_app_server.supervision.workforce import Workforce
from palatine_app_server.system import background, instance, linux, own_lines, sockets, titles
from palatine_app_server.system.instance import Place
from palatine_app_server.system.loop import MEANINGLESS, Loop
from palatine_app_server.system.part import Part

#: uWSGI's check-interval: listen queues, backlog alarms and loyalty are looked at this often.
TICK_SECONDS: Final = 1.0
#: How soon to try again when the link does not read.
RETRY_SECONDS: Final = 0.05


class Master:
    """One running instance; `run` returns its exit code."""

    def __init__(self, settings: AppSettings, place: Place, words: Words, reread: Callable[[], AppSettings]) -> None:
        environ = dict(words.environ)
        left = succession.inherited(environ)
        self._ready_fd = background.herald(environ)
        self._words = words._replace(environ=dict(environ))
        sibling = link_sibling.inherited(environ)
        self._succeeds = bool(left)
        self._served = False
        self._place = place
        # a name made of our pid is nobody's after us: what is kept under it must go with us
        self._state_dir = settings.state_dir if settings.name else str(place.directory)
        self._environ = dict(environ)
        self._loop = Loop()
        self._emperor = EmperorPipe.from_environment(environ)
        self._notifier = Notifier.from_environment(self._environ)
        foundation.begin_with_rights(settings, place)
        hooks.run(settings.process.hooks_at("asap"), "asap")
        left = {**sockets.activated(settings.sockets, environ, os.getpid())[0], **dict(words.given), **left}
        self._sockets = foundation.bind_all(settings, left, settings.mercy_seconds if place.after_crash else 0.0)
        tls = certificates.contexts(settings.tls)  # keys are read with the rights we were started with
        log = foundation.open_log(settings, begun=self._succeeds)
        foundation.make_spools(settings, words.cwd)
        pid_files.write(settings.process.early_pidfiles, own_lines.say)
        foundation.drop_privileges(settings, place, self._sockets, words.argv)
        self._segment = foundation.make_segment(settings, place, self._sockets, words.cwd)
        self._tally = Tally(self._segment)
        self._alarms = Alarms(lambda: self._settings, self._tally, lambda: self._link)
        self._logs = Logs(settings.log, settings.alarms, self._segment, settings.processes, log)
        self._crashes = CrashReports(
            settings.processes, wanted=bool(settings.process.crash_alarms),
            raise_alarm=self._alarms.crashed, say=self._logs.say,
        )  # fmt: skip
        self._commons = commons.make(settings, words.cwd, place.directory / "lock", self._takes_requests)
        self._signals = self._commons.signals
        self._hearing = Hearing(self._handlers(), self._logs.say)
        self._heritage = Heritage(
            lambda: self._settings, place, self._segment, self._sockets,
            logs=self._logs, commons=self._commons, crashes=self._crashes, tls=tls, master=self._hearing.theirs,
        )  # fmt: skip
        self._takers = Takers(
            place.directory / "handoff", self._sockets.offered, self._loop,
            PushOffers(lambda: self._settings.pushes, self._logs.say),
            settings=lambda: self._settings, community=settings.community, say=self._logs.say,
        )  # fmt: skip
        self._backlog = Backlog(
            self._sockets.requests,
            self._signals,
            self._segment,
            self._logs,
            settings.alarms.backlog,
            self._alarms,
        )
        self._actions = Actions(self._logs, self._deliver, self._commons.queues, self._app_environ(settings))
        self._companions = Companions(self._logs.say, self._environ)
        self._parts: list[Part] = []
        self._crew = Crew(
            settings.features,
            self._segment,
            self._logs,
            self._crashes,
            fork=self._fork_aide,
            gentle=lambda: self._orders.gentle,
        )
        self._workforce = Workforce(
            settings, self._segment, self._tally, self._loop, self._logs,
            inheritance=self._heritage.of, in_child=self._in_child,
            on_ready=self._on_ready, on_fatal=self._give_up,
            on_aide=self._crew.spawned, on_zygote_gone=self._crew.zygote_gone,
            crashes=self._crashes, frugal=self._emperor is not None,
        )  # fmt: skip
        self._scaling = Scaling(
            lambda: self._settings, self._workforce, self._segment, self._loop, self._logs,
            doors=[bound.socket.fileno() for bound in self._sockets.requests], on_idle=self._die_of_idleness,
        )  # fmt: skip
        self._parts.append(self._scaling)
        self._orders = Orders(
            settings, self._workforce, self._logs, self._notifier, self._emperor,
            reread=reread, count=self._tally.count, total_requests=self._tally.requests,
        )  # fmt: skip
        self._schedule = Schedule(self._deliver, self._logs.say, self._loop, settings.features.timers)
        self._parts += [self._schedule, self._crew]
        self._parts += optional_parts.chosen(
            settings, self._segment, self._logs,
            commons=self._commons, orders=self._orders, crew=self._crew, environ=self._app_environ(settings),
            cwd=self._words.cwd, raise_alarm=self._alarms, loop=self._loop, emperor=self._emperor, bound=self._sockets,
        )  # fmt: skip
        standing = StandingOrders(
            settings.process, self._orders, self._scaling, self._logs, self._loop,
            deliver=self._deliver, alarm=self._alarms, emperor=self._emperor, environ=self._app_environ(settings),
        )  # fmt: skip
        self._parts.append(standing)
        self._orders.at = standing.at
        inquiries = Inquiries(
            settings, place, self._logs, self._sockets,
            actions=self._actions, orders=self._orders, workforce=self._workforce, total_requests=self._tally.requests,
        )  # fmt: skip
        self._link = LinkEnd(
            place, self._logs, self._loop,
            answer=inquiries.answer, greeting=inquiries.greeting, state_dir=self._state_dir,
            environ=self._environ, sibling=sibling, on_outbox=self._tally.show_outbox,
            wanted=alarm_raising.has_news(settings, place.name, self._state_dir),
        )  # fmt: skip

    @property
    def _settings(self) -> AppSettings:
        """Those in force: a reload changes them."""
        return self._orders.settings

    def run(self) -> int:
        """Serve until told to stop."""
        linux.become_subreaper()
        self._watch()
        foundation.announce(self._settings, self._logs, self._sockets)
        pid_files.write(self._settings.process.pidfiles, self._logs.say)
        titles.put_on(self._settings.process.titles, "master")
        now = time.monotonic()
        self._link.start(now)
        self._start_companions(now)
        if self._emperor is not None and not self._succeeds:
            self._emperor.tell(emperor_pipe.SPAWNED)
        for part in self._parts:
            part.start(now)
        self._workforce.request_reload()
        tick_at = now + TICK_SECONDS
        while not self._workforce.finished:
            now = time.monotonic()
            if now >= tick_at:
                self._tick()
                tick_at = now + TICK_SECONDS
            self._takers.tick(now)
            self._workforce.tick(now)
            for part in self._parts:
                part.tick(now)
            flushed = all([self._link.flush(), self._logs.flush()])
            due = [tick_at, self._workforce.next_due(now), self._link.due(now), self._companions.due(now)]
            due += [part.due(now) for part in self._parts]
            if not flushed:
                due.append(now + RETRY_SECONDS)
            self._show_state()
            self._loop.turn(min(moment for moment in due if moment is not None) - now)
        self._end()
        hooks.run(self._settings.process.hooks_at("as-user-atexit"), "as-user-atexit")
        if self._orders.successor_wanted:
            succession.hand_over(self._words, foundation.wishes(self._settings), self._sockets.everything)
        self._logs.say("goodbye to uWSGI.")
        return self._orders.exit_code

    # ------------------------------------------------------------------ start and end

    def _watch(self) -> None:
        settings = self._settings
        stop, drain, reload = self._orders.stop_now, self._orders.drain, self._orders.reload
        self._loop.watch_signals(
            {
                signal.SIGCHLD: self._reap,
                signal.SIGINT: stop,
                signal.SIGQUIT: reload if settings.die_on_term else stop,
                signal.SIGTERM: drain,
                signal.SIGHUP: reload,
                signal.SIGUSR1: self._orders.dump,
                signal.SIGTSTP: self._orders.pause,
            },
            ignored=MEANINGLESS,
        )
        self._hearing.watch(self._loop)
        self._takers.watch(time.monotonic())
        for fd, read in self._logs.readers():
            self._loop.watch(fd, read)
        if self._emperor is not None and not self._settings.process.start.emperor_proxy:
            self._loop.watch(self._emperor.fd, self._hear_emperor)

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
        for part in self._parts:
            part.stop(time.monotonic())
        while self._link.running or self._companions.running() or any(part.running for part in self._parts):
            now = time.monotonic()
            for part in self._parts:
                part.tick(now)
            due = [now + TICK_SECONDS, self._link.due(now), self._companions.due(now)]
            due += [part.due(now) for part in self._parts]
            self._loop.turn(min(moment for moment in due if moment is not None) - now)
        self._takers.close()
        self._segment.close(unlink=True)
        if self._settings.vacuum and not self._orders.successor_wanted:
            vacuum.clean(self._settings.process, self._sockets, self._logs.say)
        instance.leave(self._place)

    # ------------------------------------------------------------------ what children get

    def _in_child(self) -> None:
        """Drop what only the master may hold: above all its end of the lifeline."""
        self._loop.abandon_in_child()
        self._segment.release_in_child()
        instance.release_in_child(self._place)
        self._heritage.close_in_child()
        self._hearing.close_in_child()
        self._takers.close_in_child()
        self._logs.close_in_child()
        if self._emperor is not None:
            os.close(self._emperor.fd)
        self._link.close_in_child()
        for part in self._parts:
            part.close_in_child()

    def _app_environ(self, settings: AppSettings) -> dict[str, str]:
        environ = {key: value for key, value in self._environ.items() if key not in settings.unenv}
        return environ | dict(settings.env)

    # ------------------------------------------------------------------ what happens

    def _hear_emperor(self) -> None:
        assert self._emperor is not None
        if not self._orders.hear_emperor():
            self._loop.forget(self._emperor.fd)

    def _tick(self) -> None:
        self._backlog.measure()
        self._logs.tick()
        if self._emperor is not None:
            self._emperor.announce_loyalty(self._tally.requests())

    def _reap(self) -> None:
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if dead is None:
                return
            # its last words, that it was leaving for example, while its pid is still its own and may be signalled
            self._workforce.hear(dead.si_pid)
            self._hearing.hear()
            pid, status = os.waitpid(dead.si_pid, 0)
            now = time.monotonic()
            if self._link.reaped(pid, status, now) or self._companions.reaped(pid, status, now):
                continue
            if any(part.reaped(pid, status, now) for part in self._parts):
                continue
            if not self._actions.reaped(pid, status):
                self._workforce.reaped(pid, status)

    def _handlers(self) -> dict[str, Callable[[Message], object]]:
        """What each word of a worker, mule or spooler means."""
        return {
            "accepting": self._worker_accepts,
            "leaving": lambda said: self._workforce.leaving(
                int(said["worker"]), int(said["generation"]), str(said["reason"])
            ),
            "signal": lambda said: self._deliver(int(said["number"])),
            "alarm": lambda said: self._alarms(str(said["alarm"]), str(said["message"]), "api"),
            "community": lambda said: self._takers.change_community(str(said["community"])),
            "reload": lambda _said: self._orders.reload(),
            "stop": lambda _said: self._orders.stop_now(),
            "register": lambda said: self._signals.register(
                int(said["generation"]), int(said["number"]), str(said["target"])
            ),
            "schedule": lambda said: self._schedule.register(int(said["generation"]), tuple(said["wish"])),
            "harakiri": lambda _said: self._workforce.harakiri.watch_apps(),
            "spooler-frequency": lambda said: self._tally.show("spooler_frequency", int(said["seconds"])),
        }

    def _worker_accepts(self, said: Message) -> None:
        worker = int(said["worker"])
        self._workforce.accepting(worker, int(said["generation"]), paused=bool(said.get("paused")))
        if self._emperor is not None and worker == 1:
            self._emperor.tell(emperor_pipe.ACCEPTING)

    def _deliver(self, number: int) -> None:
        delivered = self._signals.deliver(number)
        self._tally.count("routed_signals" if delivered else "unrouted_signals")
        if not delivered:
            self._logs.say(
                f"*** unable to route signal {number}: nobody is registered for it, or its queue is full ***"
            )

    def _show_state(self) -> None:
        self._tally.show("state", self._orders.state)
        self._tally.show("link_pid", self._link.pid)

    def _on_ready(self) -> None:
        generation = self._workforce.reload.serving
        if self._emperor is not None:
            self._emperor.begin(self._tally.requests() if generation > 1 else 0)
        if not self._served:
            self._served = True
            background.tell(self._ready_fd)
            pid_files.write(self._settings.process.safe_pidfiles, self._logs.say)
        self._notifier.send("READY=1", f"STATUS=generation {generation} serves")
        self._signals.serve(generation)
        for part in self._parts:
            part.serving(generation)

    def _fork_aide(self, role: str, number: int) -> bool:
        return self._workforce.fork_aide(role, number)

    def _takes_requests(self, worker: int) -> bool:
        return self._tally.accepts(worker, self._workforce.reload.serving)

    def _die_of_idleness(self) -> None:
        if self._emperor is not None:
            self._emperor.tell(emperor_pipe.LEAVING)
        else:
            self._orders.drain()

    def _give_up(self, code: int) -> None:
        self._orders.give_up(code)


def start(settings: AppSettings, place: Place, words: Words, reread: Callable[[], AppSettings]) -> int:
    """Run the master in this process; the exit code."""
    try:
        master = Master(settings, place, words, reread)
    except BaseException:
        instance.leave(place)
        raise
    sys.stdout.flush()
    return master.run()
