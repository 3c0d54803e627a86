"""`palatine config show|check|options`: a configuration as an app-server would read it; must never act on any of it."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence

from palatine.cli.text import Paint, counted
from palatine.config import Config, inspect
from palatine.config.effects import IMPLEMENTED, NO_EFFECT, NOT_YET, REFUSED
from palatine.config.show import Line, inspect_file, resolved, show
from palatine.exits import BAD_CONFIG, OK

_ABOUT = """\
A configuration as an app-server would read it. WORDS are those you would give to palatine: a file (with :section if
you like), or options, after -- if the first begins with a dash."""

_EXITS = """\
exit status: 0, and 78 where an app-server would refuse the configuration, as it would itself. What is unknown, not yet
done or without effect is no error, unless the configuration says strict."""

_COLOURS = {IMPLEMENTED: "32", NO_EFFECT: "2", "placeholder": "2", NOT_YET: "33", "unknown": "33", REFUSED: "31"}


def main(name: str, words: list[str]) -> int:
    """0, or 78 if the configuration is refused."""
    parser = argparse.ArgumentParser(
        prog=f"palatine {name}", description=_ABOUT, epilog=_EXITS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    about = "every option as it ends up, and where it was written"
    showing = actions.add_parser("show", help=about, description=f"Print {about}.")
    showing.add_argument("--ini", action="store_true", help="as uWSGI's --show-config prints it")
    about = "what each option does here, line by line: file:line:column, verdict, why"
    checking = actions.add_parser("check", help=about, description=f"Print {about}.", epilog=_EXITS)
    checking.add_argument("-q", "--quiet", action="store_true", help="only what is not as in uWSGI")
    for one in (showing, checking):
        one.add_argument("words", nargs="+", metavar="WORDS", help="a file; or options, after --")
    about = "the reference page of all options, as Markdown"
    actions.add_parser("options", help=about, description=f"Print {about}.")
    args = parser.parse_args(words)
    if args.action == "options":
        from palatine.config.reference import page

        sys.stdout.write(page())
        return OK
    config = inspected(args.words)
    if args.action == "show" and args.ini:
        sys.stdout.write(show(config))
        return OK
    lines = resolved(config)
    if args.action == "show":
        _show(lines, Paint.for_stdout())
    else:
        _check(config, lines, Paint.for_stdout(), quiet=args.quiet)
    return BAD_CONFIG if any(line.verdict == REFUSED for line in lines) else OK


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
        if line.verdict not in {IMPLEMENTED, NO_EFFECT, "placeholder"}:
            sys.stdout.write(paint("31", f";   {line.verdict}: {line.reason}") + "\n")


def _check(config: Config, lines: Sequence[Line], paint: Paint, *, quiet: bool) -> None:
    reasons = {f"{line.origin}: {line.reason}" for line in lines}
    for warning in config.warnings:
        if warning not in reasons:  # an unknown option has its line below
            sys.stdout.write(f"{paint('33', 'warning')}: {warning}\n")
    for line in lines:
        if not quiet or line.verdict not in {IMPLEMENTED, "placeholder"}:
            verdict = paint(_COLOURS[line.verdict], line.verdict)
            sys.stdout.write(f"{line.origin}: {verdict}: {line.name}: {line.reason}\n")
    counts = Counter(line.verdict for line in lines)
    of_them = ", ".join(f"{counts[verdict]} {verdict}" for verdict in _COLOURS if counts[verdict])
    sys.stdout.write(f"{counted(len(lines), 'options')}: {of_them}\n")
