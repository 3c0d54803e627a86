"""One request to one daemon, and its answer on stdout; must never know what the answer means."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import trio

from palatine.bus import request
from palatine.cli.found import look_everywhere, pick
from palatine.cli.text import columns


def ask(daemon: str, kind: str, body: Mapping[str, Any], runtime_dir: str | None) -> Any:
    """The answer of the one daemon of this name; PeerError if it does not run or refuses."""
    (thing,) = pick([daemon], look_everywhere(runtime_dir))
    return trio.run(request, thing.ctl, kind, body)


def show_json(answer: Any) -> None:
    """The answer for programs."""
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")


def show_table(rows: list[tuple[str, ...]], nothing: str) -> None:
    """The answer for people; the first row is a heading."""
    sys.stdout.write("\n".join(columns(rows) if len(rows) > 1 else [nothing]) + "\n")
