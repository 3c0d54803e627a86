"""`palatine doctor`: looks at the machine and at what runs on it, one line a finding; must never repair anything."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from palatine.cli.found import DAEMONS, Found, look, runtimes
from palatine.cli.text import Paint
from palatine.companions import missing
from palatine.errors import PalatineError
from palatine.exits import FAILURE, OK

GOOD, ODD, BAD = "good", "odd", "bad"
_MARKS: Final = {GOOD: ("32", "ok  "), ODD: ("33", "odd "), BAD: ("31", "bad ")}

#: The kernel cuts `listen` down to this without a word.
_SOMAXCONN: Final = Path("/proc/sys/net/core/somaxconn")
_USUAL_LISTEN: Final = 100
_SMALL_FILES: Final = 4096
_LEAST_FREE: Final = 16 << 20


class Finding(NamedTuple):
    """What was looked at, how it is, and what to do about it unless it is good."""

    verdict: str
    what: str
    advice: str = ""


def main(name: str, words: list[str]) -> int:
    """0, or 1 if something is bad."""
    parser = argparse.ArgumentParser(prog=f"palatine {name}", description="Find out why something does not work.")
    parser.add_argument("--runtime-dir", metavar="DIR", help="look at this runtime directory only")
    args = parser.parse_args(words)
    paint, worst = Paint.for_stdout(), OK
    for finding in examine(args.runtime_dir):
        colour, mark = _MARKS[finding.verdict]
        advice = f"\n       {finding.advice}" if finding.advice else ""
        sys.stdout.write(f"  {paint(colour, mark)} {finding.what}{advice}\n")
        worst = FAILURE if finding.verdict == BAD else worst
    return worst


def examine(runtime_dir: str | None) -> Iterator[Finding]:
    """Every finding; a check that cannot be made is a finding too."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        _python, _extras, _locks, lambda: _directories(runtime_dir), _limits, lambda: _running(runtime_dir),
    ]  # fmt: skip
    for check in checks:
        try:
            yield from check()
        except (OSError, PalatineError) as error:
            yield Finding(BAD, f"a check failed: {error}")


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(GOOD if sys.version_info >= (3, 11) else BAD, f"Python {version} at {sys.executable}")


def _extras() -> Iterator[Finding]:
    for daemon in ("app-server", *DAEMONS):
        problem = missing(daemon)
        yield Finding(ODD, problem) if problem else Finding(GOOD, f"palatine-{daemon} is installed")


def _locks() -> Iterator[Finding]:
    from palatine.counters import ofd

    with tempfile.TemporaryFile() as one, open(f"/proc/self/fd/{one.fileno()}", "rb+") as other:
        held = ofd.try_lock(one.fileno(), 0, 1) and not ofd.try_lock(other.fileno(), 0, 1)
    yield Finding(GOOD if held else BAD, "locks of open files (F_OFD_SETLK)", "" if held else "Linux 3.15 has them")


def _directories(runtime_dir: str | None) -> Iterator[Finding]:
    found = runtimes(runtime_dir)
    if not found:
        yield Finding(ODD, "no runtime directory yet", "the first daemon or app makes it")
    for path in found:
        writable = os.access(path, os.W_OK | os.X_OK)
        space = os.statvfs(path)
        free = space.f_bavail * space.f_frsize
        yield Finding(
            GOOD if writable else ODD, f"{path} is {'writable' if writable else 'not writable for this user'}"
        )
        if free < _LEAST_FREE:
            yield Finding(BAD, f"{path} has {free >> 20} MiB left", "counters and sockets need room")
    state = Path(os.environ.get("PALATINE_STATE_DIR") or "/var/lib/palatine")
    if state.exists() and not os.access(state, os.W_OK | os.X_OK):
        yield Finding(ODD, f"{state} is not writable for this user", "daemons of this user keep their state elsewhere")


def _limits() -> Iterator[Finding]:
    import resource

    backlog = int(_SOMAXCONN.read_text())
    cut = "apps that ask for listen = 100 get less: raise net.core.somaxconn"
    yield Finding(GOOD if backlog >= _USUAL_LISTEN else ODD, f"net.core.somaxconn is {backlog}", cut * (backlog < 100))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    enough = files == resource.RLIM_INFINITY or files >= _SMALL_FILES
    shown = "unlimited" if files == resource.RLIM_INFINITY else files
    advice = "an emperor with many vassals needs more" * (not enough)
    yield Finding(GOOD if enough else ODD, f"open files: at most {shown}", advice)


def _running(runtime_dir: str | None) -> Iterator[Finding]:
    for runtime in runtimes(runtime_dir):
        things = look(runtime)
        if not things and runtime.name.startswith("private-"):
            yield Finding(ODD, f"{runtime} is left over", "the next palatine that starts an app removes it")
        for thing in things:
            yield _thing(thing)


def _thing(thing: Found) -> Finding:
    what = f"{thing.name} in {thing.directory.parent} is {thing.state}"
    match thing.state:
        case "dead":
            return Finding(BAD, what, f"it was killed, and nothing started it again: {thing.after_kill}")
        case "unreadable":
            return Finding(ODD, f"{what}: {thing.status}", "group palatine may look at every instance")
        case "ready":
            return Finding(GOOD, what) if _answers(thing) else Finding(BAD, what, "but it does not answer on ctl")
        case _:
            return Finding(ODD, what)


def _answers(thing: Found) -> bool:
    import trio

    from palatine.bus import request

    try:
        trio.run(request, thing.ctl, "ping")
    except PalatineError:
        return False
    return True
