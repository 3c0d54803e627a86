"""`palatine vassal list|touch|destroy`: what the emperor answers; must never touch its files."""

import argparse
import sys
from pathlib import Path
from typing import Any, Final

from palatine.cli.asking import ask, show_json, show_table
from palatine.errors import ConfigError
from palatine.exits import OK

_DAEMON: Final = "emperor"
_NAME: Final = "as `palatine vassal list` shows it"
_TOUCH: Final = (
    "Reload a vassal, or start it again after `destroy`; with --config start one from that, as messages to zmq:// do."
)
_DESTROY: Final = (
    "Stop a vassal. One that has a file stays paused until the file or the vassal is touched, one that came as a "
    "message or by `touch --config` is forgotten."
)
_COLUMNS: Final = ("name", "state", "pid", "uid", "respawns", "monitor")


def main(name: str, words: list[str]) -> int:
    """0; what the emperor refuses is an error."""
    parser = argparse.ArgumentParser(prog=f"palatine {name}", description="The vassals of the emperor that runs here.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--runtime-dir", metavar="DIR", help="look here only")
    common.add_argument("--json", action="store_true", help="the answer as it came")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    about = "vassals and how they do"
    actions.add_parser("list", parents=[common], help=about, description=f"The emperor's {about}.")
    about = "reload a vassal, or start one from a configuration"
    touching = actions.add_parser("touch", parents=[common], help=about, description=_TOUCH)
    touching.add_argument("vassal", metavar="VASSAL", help=_NAME)
    touching.add_argument("--config", metavar="FILE", help="its new configuration; - is standard input")
    about = "stop a vassal until it is touched"
    destroying = actions.add_parser("destroy", parents=[common], help=about, description=_DESTROY)
    destroying.add_argument("vassal", metavar="VASSAL", help=_NAME)
    args = parser.parse_args(words)
    body: dict[str, Any] = {} if args.action == "list" else {"name": args.vassal}
    if args.action == "touch" and args.config:
        body["config"] = _read(args.config)
    answer = ask(_DAEMON, f"vassal.{args.action}", body, args.runtime_dir)
    if args.json:
        show_json(answer)
    elif args.action == "list":
        _show_list(answer)
    else:
        sys.stdout.write(f"{args.vassal}: {args.action} is under way\n")
    return OK


def _read(path: str) -> str:
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", path) from error


def _show_list(answer: dict[str, Any]) -> None:
    vassals = answer["vassals"]
    shown = [name for name in _COLUMNS if any(name in vassal for vassal in vassals)]
    rows: list[tuple[str, ...]] = [(*(name.upper() for name in shown), "REASON")]
    rows += [(*(str(vassal.get(name, "")) for name in shown), str(vassal.get("reason") or "")) for vassal in vassals]
    show_table(rows, "no vassals")
