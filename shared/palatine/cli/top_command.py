"""`palatine top`: what runs here, live, in uwsgitop's spirit; must never ask a process, only read counters."""

import argparse
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

from palatine.cli.found import Found, look_everywhere
from palatine.cli.status_command import thing_lines
from palatine.cli.text import Paint
from palatine.cli.top_facts import Worker, workers_of
from palatine.cli.top_screen import App, View, apps_screen, keys_of, ordered_apps, press, workers_screen
from palatine.errors import PalatineError
from palatine.exits import OK, UNAVAILABLE

_ENTER_SCREEN: Final = "\033[?1049h\033[?25l"
_LEAVE_SCREEN: Final = "\033[?25h\033[?1049l"
_HOME: Final = "\033[H"
_END_OF_LINE: Final = "\033[K\n"
_BELOW: Final = "\033[J"


class Rates:
    """Requests per second of each instance or worker between two looks."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, int]] = {}

    def update(self, things: list[Found], now: float) -> dict[str, float]:
        """The rates of things since the last call, by their names."""
        found = {one.name: self.of(str(one.directory), one.figures.get("requests", 0), now) for one in things}
        return {name: rate for name, rate in found.items() if rate is not None}

    def of(self, key: str, requests: int, now: float) -> float | None:
        """The rate since the last call for this key; `now` is monotonic. None the first time."""
        before = self._before.get(key)
        if before is None or now - before[0] > 0:
            self._before[key] = (now, requests)
        if before is None or now <= before[0]:
            return None
        return max(0.0, (requests - before[1]) / (now - before[0]))


def main(name: str, words: list[str]) -> int:
    """Until q or Ctrl-C, or for a number of looks."""
    parser = argparse.ArgumentParser(
        prog=f"palatine {name}",
        description="What runs here, live: a line an app; its workers with NAME, or Enter on its line.",
        epilog="On a terminal the letters at the bottom sort, again backwards; elsewhere plain lines are printed.",
    )
    parser.add_argument("app", nargs="?", default="", metavar="NAME", help="the workers of this app")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="look this often (1)")
    parser.add_argument("--count", type=int, default=0, metavar="N", help="look this often and leave")
    parser.add_argument("--runtime-dir", metavar="DIR", help="look here only")
    args = parser.parse_args(words)
    if args.app and not any(app.name == args.app for app in _instances(args.runtime_dir)):
        sys.stderr.write(f"palatine top: no app {args.app!r} runs here\n")
        return UNAVAILABLE
    interactive = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return _on_terminal(args) if interactive else _plain(args)


def _plain(args: argparse.Namespace) -> int:
    """Lines for a file or a pipe."""
    paint, rates = Paint(on=False), Rates()
    looks = 0
    while True:
        lines = [time.strftime("%H:%M:%S"), *_plain_lines(args, rates, paint)]
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
        looks += 1
        if looks == args.count:
            return OK
        select.select([], [], [], args.every)


def _plain_lines(args: argparse.Namespace, rates: Rates, paint: Paint) -> list[str]:
    now = time.monotonic()
    if args.app:
        app = next((App(one) for one in _instances(args.runtime_dir) if one.name == args.app), None)
        if app is None:
            return [f"{args.app} is gone"]
        return workers_screen(View(), app, _workers(app.thing, rates, now), time.time(), paint, (10_000, 10_000))[2:-1]
    things = look_everywhere(args.runtime_dir)
    speeds = rates.update([thing for some in things.values() for thing in some], now)
    lines: list[str] = []
    for runtime, some in things.items():
        lines += ["", str(runtime), *thing_lines(some, time.time(), paint, speeds)]
    return lines if things else ["", "nothing runs here"]


def _on_terminal(args: argparse.Namespace) -> int:
    view, rates, paint = View(opened=args.app, chosen=args.app), Rates(), Paint.for_stdout()
    looks = 0
    with _screen():
        while not view.ended:
            now = time.monotonic()
            apps = [App(one, _app_rate(one, rates, now)) for one in _instances(args.runtime_dir)]
            workers: list[Worker] = []
            opened = next((app for app in apps if app.thing.name == view.opened), None)
            if opened is not None:
                workers = _workers(opened.thing, rates, now)
            elif view.opened:
                view = view._replace(opened="")
            looks += 1
            deadline = now + args.every
            while not view.ended:
                _draw(view, apps, opened, workers, paint)
                if looks == args.count:
                    return OK
                keys = _keys(deadline - time.monotonic())
                if not keys:
                    break
                before = view.opened
                for key in keys:
                    view = press(view, key, [app.thing.name for app in ordered_apps(view, apps)])
                if view.opened != before:
                    break
    return OK


def _draw(view: View, apps: list[App], opened: App | None, workers: list[Worker], paint: Paint) -> None:
    within = os.get_terminal_size()
    if opened is not None:
        lines = workers_screen(view, opened, workers, time.time(), paint, within)
    else:
        lines = apps_screen(view, apps, time.time(), paint, within)
    sys.stdout.write(_HOME + _END_OF_LINE.join(lines) + "\033[K" + _BELOW)
    sys.stdout.flush()


def _keys(seconds: float) -> list[str]:
    """The keys typed next, none when the time is up."""
    ready, _, _ = select.select([sys.stdin], [], [], max(0.0, seconds))
    if not ready:
        return []
    typed = os.read(sys.stdin.fileno(), 1024)
    if not typed:
        raise KeyboardInterrupt  # the terminal is gone
    return keys_of(typed.decode("ascii", "ignore")) or ["ignored"]


@contextmanager
def _screen() -> Iterator[None]:
    """The terminal's other screen, keys as they are typed; everything as it was at the end, whatever ends it."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    handlers = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    tty.setcbreak(fd)
    sys.stdout.write(_ENTER_SCREEN)
    try:
        yield
    finally:
        sys.stdout.write(_LEAVE_SCREEN)
        sys.stdout.flush()
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _leave(number: int, _frame: Any) -> NoReturn:
    raise SystemExit(128 + number)


def _instances(runtime: str | None) -> list[Found]:
    return [one for some in look_everywhere(runtime).values() for one in some if one.kind == "instance"]


def _app_rate(one: Found, rates: Rates, now: float) -> float | None:
    return rates.of(str(one.directory), one.figures.get("requests", 0), now)


def _workers(one: Found, rates: Rates, now: float) -> list[Worker]:
    """The workers with their rates; none while the counters cannot be read."""
    try:
        found = workers_of(one.directory)
    except (OSError, PalatineError):  # it is being replaced, or gone: the next look shows which
        return []
    return [
        worker._replace(rate=rates.of(f"{one.directory} {slot}", worker.requests, now))
        for slot, worker in enumerate(found)
    ]
