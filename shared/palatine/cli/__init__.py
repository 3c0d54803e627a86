"""The umbrella command `palatine`: becomes the app-server, or operates daemons by name; must never import one."""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from palatine import __version__
from palatine.cli import words
from palatine.errors import PalatineError
from palatine.exits import FAILURE, OK, USAGE

#: Which module has a command's `main(words) -> exit code`; several small ones share one.
_MODULES: Final = {"reload": "operate", "stop": "operate", "log-level": "operate", "emperor": "operate"}


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; returns the exit code unless this process becomes another program."""
    program, *given = sys.argv if argv is None else argv
    match words.choose(os.path.basename(program), given, os.path.exists):
        case words.Become(rest):
            from palatine.cli.become import become_app_server

            become_app_server(rest)
        case words.Command(name, rest):
            return _command(name, rest)
        case words.Wrong(message):
            sys.stderr.write(f"palatine: {message}\nTry 'palatine --help'.\n")
            return USAGE
        case words.Page(asked):
            from palatine.cli.page import page

            out = sys.stdout if asked else sys.stderr
            out.write(page(colour=out.isatty() and not os.environ.get("NO_COLOR")))
            return OK if asked else USAGE
        case words.Version(of_uwsgi):
            from palatine.config.magic import UWSGI_VERSION

            sys.stdout.write(f"{UWSGI_VERSION}\n" if of_uwsgi else f"palatine {__version__}\n")
    return OK


def _command(name: str, rest: list[str]) -> int:
    module = importlib.import_module(f"palatine.cli.{_MODULES.get(name, name)}_command")
    try:
        code: int = module.main(name, rest)
    except PalatineError as error:
        sys.stderr.write(f"palatine {name}: {error}\n")
        return error.exit_status
    except BrokenPipeError:  # `palatine status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILURE
    except KeyboardInterrupt:
        return 128 + 2
    return code
