"""`palatine status`: what runs here and how it does, for people or as JSON; must never wait for anybody."""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palatine import __version__
from palatine.cli.found import Found, look_everywhere
from palatine.cli.text import Paint, columns, counted, duration
from palatine.exits import FAILURE, OK, UNAVAILABLE


def main(name: str, words: list[str]) -> int:
    """0 if all that was asked for lives, 1 if something died, 69 if it does not run here."""
    parser = argparse.ArgumentParser(
        prog=f"palatine {name}",
        description="What runs here, and how it does.",
        epilog="Exit status: 0 all is well, 1 something died, 69 nothing (or not every NAME) runs here.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these daemons and instances")
    parser.add_argument("--json", action="store_true", help="for programs: everything that is known")
    parser.add_argument("--runtime-dir", metavar="DIR", help="look here only")
    args = parser.parse_args(words)
    things = look_everywhere(args.runtime_dir)
    if args.names:
        things = _named(things, args.names)
    if args.json:
        sys.stdout.write(json.dumps(as_json(things), indent=2) + "\n")
    elif things:
        sys.stdout.write("\n".join(as_lines(things, time.time(), Paint.for_stdout())) + "\n")
    else:
        sought = f"no {' or '.join(args.names)}" if args.names else "nothing"
        sys.stderr.write(f"palatine status: {sought} runs here\n")
    here = {thing.name for some in things.values() for thing in some}
    if not here or not here.issuperset(args.names):
        return UNAVAILABLE
    return OK if all(thing.state != "dead" for some in things.values() for thing in some) else FAILURE


def _named(things: Mapping[Path, list[Found]], names: list[str]) -> dict[Path, list[Found]]:
    found = {runtime: [thing for thing in some if thing.name in names] for runtime, some in things.items()}
    return {runtime: some for runtime, some in found.items() if some}


def as_json(things: Mapping[Path, list[Found]]) -> dict[str, Any]:
    """All that is known."""
    return {
        "version": __version__,
        "runtimes": [
            {
                "path": str(runtime),
                "daemons": [_member(thing) for thing in some if thing.kind == "daemon"],
                "instances": [_member(thing) for thing in some if thing.kind == "instance"],
            }
            for runtime, some in things.items()
        ],
    }


def as_lines(things: Mapping[Path, list[Found]], now: float, paint: Paint) -> list[str]:
    """A paragraph for each runtime directory."""
    lines: list[str] = []
    for runtime, some in things.items():
        lines += [*([""] if lines else []), paint("1", str(runtime))]
        lines += thing_lines(some, now, paint)
    return lines


def thing_lines(things: list[Found], now: float, paint: Paint, rates: Mapping[str, float] | None = None) -> list[str]:
    """One line a thing; `rates` are requests per second by instance name."""
    rows = [
        (
            thing.name,
            thing.state,
            f"pid {thing.pid}" if thing.pid and thing.alive else "",
            f"up {duration(now - thing.started)}" if thing.started and thing.alive else "",
            _about(thing, rates or {}),
        )
        for thing in things
    ]
    lines = columns(rows, indent="  ")
    return [paint.state(line, thing.state) for line, thing in zip(lines, things, strict=True)]


def _about(thing: Found, rates: Mapping[str, float]) -> str:
    if thing.state == "dead":
        return f"was killed; {thing.after_kill}"
    if thing.kind == "daemon" or not thing.figures:
        return thing.status
    figures = thing.figures
    parts = [f"{figures['accepting']}/{counted(figures['slots'], 'workers')}", counted(figures["requests"], "requests")]
    if thing.name in rates:
        parts.append(f"{rates[thing.name]:,.0f}/s")
    parts += [f"{figures['busy']}/{figures['cores']} busy", f"{figures['listen_queue']} queued"]
    if figures.get("events_waiting"):
        parts.append(f"{counted(figures['events_waiting'], 'events')} for the alarm-daemon")
    addresses = ", ".join(str(sock.get("name", "")) for sock in thing.labels.get("sockets", ()))
    return "  ".join([*parts, addresses])


def _member(thing: Found) -> dict[str, Any]:
    return {**thing._asdict(), "directory": str(thing.directory), "labels": dict(thing.labels)}
