"""`palatine top`: `palatine status`, live, with rates; must never ask a process, only read counters."""

import argparse
import select
import sys
import time
from typing import Final

from palatine.cli.found import Found, look_everywhere
from palatine.cli.status_command import thing_lines
from palatine.cli.text import Paint
from palatine.exits import OK

_HOME_AND_CLEAR: Final = "\033[H\033[J"


class Rates:
    """Requests per second of each instance between two looks."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, int]] = {}

    def update(self, things: list[Found], now: float) -> dict[str, float]:
        """The rates since the last call, by instance directory; `now` is monotonic."""
        rates: dict[str, float] = {}
        for thing in things:
            requests = thing.figures.get("requests", 0)
            then, before = self._before.get(str(thing.directory), (now, requests))
            if now > then:
                rates[thing.name] = max(0.0, (requests - before) / (now - then))
            self._before[str(thing.directory)] = (now, requests)
        return rates


def main(name: str, words: list[str]) -> int:
    """Until Ctrl-C, or for a number of looks."""
    parser = argparse.ArgumentParser(prog=f"palatine {name}", description="What runs here, live; ends with Ctrl-C.")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="look this often (1)")
    parser.add_argument("--count", type=int, default=0, metavar="N", help="look this often and leave")
    parser.add_argument("--runtime-dir", metavar="DIR", help="look here only")
    args = parser.parse_args(words)
    paint, rates = Paint.for_stdout(), Rates()
    looks = 0
    while True:
        things = look_everywhere(args.runtime_dir)
        speeds = rates.update([thing for some in things.values() for thing in some], time.monotonic())
        lines = [time.strftime("%H:%M:%S")]
        for runtime, some in things.items():
            lines += ["", paint("1", str(runtime)), *thing_lines(some, time.time(), paint, speeds)]
        screen = _HOME_AND_CLEAR if sys.stdout.isatty() else ""
        sys.stdout.write(screen + "\n".join(lines if things else [*lines, "", "nothing runs here"]) + "\n")
        sys.stdout.flush()
        looks += 1
        if looks == args.count:
            return OK
        select.select([], [], [], args.every)
