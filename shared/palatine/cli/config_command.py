"""`palatine config show|check`: a configuration as an app-server would read it; must never act on any of it."""

import argparse
import os
import sys
from collections.abc import Sequence

from palatine.cli.text import Paint, counted
from palatine.config import Config, inspect
from palatine.config.honoured import HONOURED, REFUSED
from palatine.config.show import Line, inspect_file, resolved, show
from palatine.exits import BAD_CONFIG, OK

_ABOUT = """\
A configuration as an app-server would read it. WORDS are those you would give to palatine: a file (with :section if
you like), or options, after -- if the first begins with a dash."""


def main(name: str, words: list[str]) -> int:
    """0, or 78 if the configuration is refused."""
    parser = argparse.ArgumentParser(prog=f"palatine {name}", description=_ABOUT)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    showing = actions.add_parser("show", help="every option as it ends up, and where it was written")
    showing.add_argument("--ini", action="store_true", help="as uWSGI's --show-config prints it")
    checking = actions.add_parser("check", help="what is wrong or unknown in it, or has no effect here")
    for one in (showing, checking):
        one.add_argument("words", nargs="+", metavar="WORDS")
    args = parser.parse_args(words)
    config = inspected(args.words)
    if args.action == "show" and args.ini:
        sys.stdout.write(show(config))
        return OK
    lines = resolved(config, HONOURED)
    if args.action == "show":
        _show(lines, Paint.for_stdout())
    else:
        _check(config, lines)
    return BAD_CONFIG if any(line.status == "refused" or line.name in REFUSED for line in lines) else OK


def inspected(words: Sequence[str]) -> Config:
    """What the words of a command line come to; one word alone is a file."""
    if words[0] == "--":
        words = words[1:]
    if len(words) == 1 and not words[0].startswith("-"):
        return inspect_file(words[0], os.environ, cwd=os.getcwd())
    return inspect(words, os.environ, cwd=os.getcwd())


def _show(lines: Sequence[Line], paint: Paint) -> None:
    for line in lines:
        sys.stdout.write(f"{line.name} = {line.value}  {paint('2', f'; {line.origin}')}\n")
        if line.status != "ok":
            sys.stdout.write(paint("31", f";   {line.status}: {line.reason}") + "\n")


def _check(config: Config, lines: Sequence[Line]) -> None:
    for warning in config.warnings:
        sys.stdout.write(f"warning: {warning}\n")
    ignored = 0
    for line in lines:
        if line.status == "refused":
            sys.stdout.write(f"error: {line.origin}: {line.reason}\n")
        elif line.name in REFUSED:
            sys.stdout.write(f"error: {line.origin}: {line.name}: {REFUSED[line.name]}\n")
        elif line.status == "ignored":
            ignored += 1
            sys.stdout.write(f"no effect: {line.origin}: {line.name} is not supported yet\n")
    warned = counted(len(config.warnings), "warnings")
    sys.stdout.write(f"{counted(len(lines), 'options')}, {warned}, {ignored} without effect\n")
