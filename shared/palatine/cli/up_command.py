"""`palatine up`: parent of all daemons, in the foreground; plain, and what it starts must not outlive it."""

import argparse
import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from palatine.cli.found import Found, look
from palatine.cli.up_hints import hints, listens
from palatine.cli.up_plan import Part, Places, plan
from palatine.cli.up_rooms import Rooms
from palatine.cli.up_screen import Lines, Screen, open_view
from palatine.companions import Companions
from palatine.companions_policy import ENDED
from palatine.errors import PeerError
from palatine.exits import FAILURE, OK
from palatine.notify import Notifier

_ABOUT: Final = """\
Run the daemons and your apps under one parent, in the foreground, until Ctrl-C. Each CONFIG is an app's configuration,
or a directory of vassals. With --demo DIR, apps are DIR/*.ini (or .xml, .yaml, .json), vassals are in DIR/vassals, and
DIR/<daemon>.yaml configures a daemon.

Whatever dies is started again. If this process is killed, everything it started ends by itself. Journals stay in the
state directory: an alarm nobody could deliver waits there for the next `palatine up`."""

_REFRESH_SECONDS: Final = 1.0
#: How long apps and then daemons may drain, each.
_MERCY_SECONDS: Final = 35.0
#: When to say which parts are not ready.
_LATE_SECONDS: Final = 20.0
_FIRST, _LAST = ("app-server", "emperor"), ("stats-exporter", "snmp-agent", "alarm-daemon")


def main(name: str, words: list[str]) -> int:
    """0 once everything has stopped as asked, 1 if nothing was left that could be started again."""
    parser = argparse.ArgumentParser(
        prog=f"palatine {name}", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "configs", nargs="*", metavar="CONFIG", help="an app's configuration, or a directory of vassals"
    )
    parser.add_argument("--demo", metavar="DIR", help="run all that is in a directory")
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="leave a daemon or app out")
    parser.add_argument(
        "--log-format", choices=("console", "json"), default="console", help="of daemons that do not log as uWSGI does"
    )
    parser.add_argument("--runtime-dir", metavar="DIR", help="sockets and counters (default: `up` in the usual one)")
    parser.add_argument("--state-dir", metavar="DIR", help="journals (default: `up` in the usual one)")
    args = parser.parse_args(words)
    rooms = Rooms.claim(args.runtime_dir, args.state_dir)
    try:
        places = Places(str(rooms.runtime), str(rooms.state), args.log_format)
        parts = plan(args.demo, args.configs, places, args.without)
        return _Parent(rooms, parts, _own_hints(args.demo)).run()
    finally:
        rooms.leave()


def _own_hints(demo: str | None) -> list[str]:
    """What to try, as the demo's try.txt says."""
    path = Path(demo, "try.txt") if demo else None
    return path.read_text(encoding="utf-8").splitlines() if path and path.is_file() else []


class _Parent:
    """The parent's loop: reaps, starts again, shows, and stops everybody in order."""

    def __init__(self, rooms: Rooms, parts: Sequence[Part], hints: Sequence[str]) -> None:
        self._rooms = rooms
        self._parts = {part.name: part for part in parts}
        self._hints = hints
        self._things: list[Found] = []
        self._view: Lines | Screen = open_view(rooms.state / "up.log", self._head)
        self._notifier = Notifier.from_environment(os.environ)
        named = {"PALATINE_RUNTIME_DIR": str(rooms.runtime), "PALATINE_STATE_DIR": str(rooms.state)}
        self._family = Companions(self._view.say, {**os.environ, **named})
        self._stops = 0
        self._announced = False
        self._drawn_at = 0.0
        self._begun = time.monotonic()

    def run(self) -> int:
        """Until stopped, or until nothing is left that would be started again."""
        with _signals() as wakeup:
            try:
                self._start()
                self._loop(wakeup)
            finally:
                self._kill_rest()
                self._view.end()
        sys.stderr.write(f"palatine up: stopped; state is kept in {self._rooms.state}\n")
        gave_up = any(status.failures for status in self._family.status().values())
        return FAILURE if gave_up and not self._stops else OK

    def _start(self) -> None:
        for part in list(self._parts.values()):
            if not self._family.add(part.daemon, part.words, name=part.name, environ=dict(part.environ)):
                del self._parts[part.name]  # its extra is not installed, and the log says so
        if not self._parts:
            raise PeerError("there is nothing to run", "nothing")

    def _loop(self, wakeup: socket.socket) -> None:
        while True:
            now = time.monotonic()
            self._reap(now)
            due = self._family.due(now)
            self._stop_in_order(now)
            if not self._family.running() and self._over():
                return
            if now - self._drawn_at >= _REFRESH_SECONDS:
                self._look(now)
            next_look = self._drawn_at + _REFRESH_SECONDS
            self._wait(wakeup, min(next_look, next_look if due is None else due) - now)

    def _wait(self, wakeup: socket.socket, seconds: float) -> None:
        watched = [fd for fd in (wakeup.fileno(), self._view.log_fd) if fd is not None]
        if wakeup.fileno() in select.select(watched, [], [], max(0.0, seconds))[0]:
            self._signalled(wakeup.recv(4096))
        self._view.read_log()

    def _signalled(self, signums: bytes) -> None:
        for signum in signums:
            hung_up = signum == signal.SIGHUP and self._view.log_fd is not None  # the terminal has gone
            if hung_up or signum in {signal.SIGINT, signal.SIGTERM, signal.SIGQUIT}:
                self._stops += 1
                if self._stops == 1:
                    self._notifier.send("STOPPING=1")
                    self._view.say(f"{signal.Signals(signum).name}: stopping everything; again to kill it")
                else:
                    self._kill_rest()
            elif signum == signal.SIGHUP:
                for status in self._family.status().values():
                    if status.pid:
                        os.kill(status.pid, signal.SIGHUP)
            elif signum == signal.SIGWINCH:
                self._drawn_at = 0.0

    def _reap(self, now: float) -> None:
        while self._family.running():
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._family.reaped(pid, status, now)

    def _stop_in_order(self, now: float) -> None:
        """Apps and emperor first: what they have to say while they stop is still heard."""
        if not self._stops:
            return
        for name, part in self._parts.items():
            if part.daemon in _FIRST:
                self._family.stop(now, _MERCY_SECONDS, name=name)
        status = self._family.status()
        if not any(status[name].pid for name, part in self._parts.items() if part.daemon in _FIRST):
            for name, part in self._parts.items():
                if part.daemon in _LAST:
                    self._family.stop(now, _MERCY_SECONDS, name=name)

    def _over(self) -> bool:
        return all(status.phase == ENDED for status in self._family.status().values())

    def _kill_rest(self) -> None:
        for status in self._family.status().values():
            if status.pid:
                os.kill(status.pid, signal.SIGKILL)

    def _look(self, now: float) -> None:
        order = {name: place for place, name in enumerate(self._parts)}  # vassals come last
        self._things = sorted(look(self._rooms.runtime), key=lambda thing: order.get(thing.name, len(order)))
        self._view.show(self._things, self._family.status(), time.time())
        self._drawn_at = now
        if not self._announced:
            self._announce(now)

    def _announce(self, now: float) -> None:
        """Once: when everything is ready, or that some parts are not after a while."""
        late = set(self._parts) - {thing.name for thing in self._things if thing.state == "ready"}
        if late and now < self._begun + _LATE_SECONDS:
            return
        self._announced = True
        what = f"not ready yet: {', '.join(sorted(late))}" if late else "everything is up"
        self._notifier.send("READY=1", f"STATUS={what}")
        if isinstance(self._view, Lines):
            for line in (what, *self._head()):
                self._view.say(line)

    def _head(self) -> list[str]:
        """Where everything listens and what to try."""
        where = f"runtime directory {self._rooms.runtime}, state in {self._rooms.state}"
        return [where, *listens(self._things), "", *hints(self._things, self._hints)]


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket on which a byte arrives for each signal; the handlers are put back afterwards."""
    reader, writer = socket.socketpair()
    for end in (reader, writer):
        end.setblocking(False)
    names = (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGWINCH)
    before = {signum: signal.signal(signum, lambda *_: None) for signum in names}
    old = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(old)
        for signum, handler in before.items():
            signal.signal(signum, handler)
        reader.close()
        writer.close()
