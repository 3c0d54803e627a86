"""The options every daemon has, and its `__main__` docstring as help and manual; must never run anything."""

import argparse
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, Final

from palatine import __version__
from palatine.daemon.spec import Spec

LOG_FORMATS: Final = ("auto", "console", "json")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")

_HEADING = re.compile(r"^([A-Z][A-Z ]+)$", re.MULTILINE)


def sections(doc: str) -> dict[str, str]:
    """A man page's sections by heading, dedented; text before the first heading is under the empty heading."""
    first, _, rest = doc.strip().partition("\n")
    parts = _HEADING.split(f"{first}\n{textwrap.dedent(rest)}")
    bodies = {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))
    return {name: textwrap.dedent(body).strip("\n") for name, body in bodies.items() if body.strip()}


class _ManualAction(argparse.Action):
    """Print the whole manual and leave."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        del namespace, values, option_string
        sys.stdout.write(f"{self.metavar}\n" if isinstance(self.metavar, str) else "\n")
        parser.exit()


def _manual(doc: str) -> str:
    """The docstring from its section NAME on: what stands before it is for who reads the code."""
    head, name, rest = doc.strip().partition("\n\nNAME\n")
    return f"NAME\n{rest}" if name else head


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=26, width=80)


def build_parser(spec: Spec) -> argparse.ArgumentParser:
    """The daemon's command line: its own options first, the common ones after them."""
    text = sections(spec.doc)
    summary = text.get("NAME", text.get("", "")).strip().partition("\n")[0]
    about = text.get("DESCRIPTION", "").partition("\n\n")[0]
    parser = argparse.ArgumentParser(
        prog=spec.command,
        description="\n\n".join(filter(None, (summary, about))),
        epilog=f"The whole manual: {spec.command} --manual",
        formatter_class=_formatter,
        allow_abbrev=False,
    )
    if spec.add_arguments:
        spec.add_arguments(parser)
    _add_places(parser, spec)
    _add_logging(parser)
    parser.add_argument("--version", action="version", version=f"{spec.command} {__version__}")
    parser.add_argument(
        "--manual", action=_ManualAction, nargs=0, metavar=_manual(spec.doc), help="show the whole manual"
    )
    return parser


def _add_places(parser: argparse.ArgumentParser, spec: Spec) -> None:
    group = parser.add_argument_group("places and rights")
    group.add_argument("--config", metavar="FILE", help=f"default: /etc/palatine/{spec.name}.yaml, if it is there")
    group.add_argument("--check", action="store_true", help="check the file and leave")
    group.add_argument("--runtime-dir", metavar="DIR", help="sockets and counters (default: /run/palatine)")
    group.add_argument("--state-dir", metavar="DIR", help="what must survive (default: /var/lib/palatine)")
    group.add_argument("--user", metavar="NAME", help="run as this user, given as name or number")
    group.add_argument("--group", metavar="NAME", help="run as this group, given as name or number")


def _add_logging(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("logging")
    group.add_argument(
        "--log-format",
        choices=LOG_FORMATS,
        default="auto",
        metavar="FORMAT",
        help="console, json or auto: console on a terminal, JSON elsewhere",
    )
    group.add_argument(
        "--log-level", choices=LOG_LEVELS, metavar="LEVEL", help=f"{', '.join(LOG_LEVELS)} (default: info)"
    )
