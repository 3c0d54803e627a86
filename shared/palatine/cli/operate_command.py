"""`palatine reload`, `stop`, `log-level`, `emperor stop`: a request to each thing named; must never signal a pid."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Final

import trio

from palatine.bus import request
from palatine.cli.found import Found, look_everywhere, pick
from palatine.errors import PalatineError
from palatine.exits import OK, USAGE

_ABOUT: Final = {
    "reload": "Reload apps without losing a request; have daemons reread their configuration.",
    "stop": "Finish what was begun, then stop.",
    "log-level": "Change how much is logged, until the next restart.",
}
_LEVELS: Final = ("debug", "info", "warning", "error")
#: A reload answers when the new generation serves or has failed.
_SECONDS: Final = {"reload": 120.0}
_LOOK_SECONDS: Final = 0.1
#: Its answer may be on the way when its place is gone.
_LAST_WORDS_SECONDS: Final = 0.5


def main(name: str, words: list[str]) -> int:
    """0 if all did as asked, else the exit code of the first that did not."""
    if name == "emperor":
        return _stop_emperor(words)
    parser = argparse.ArgumentParser(prog=f"palatine {name}", description=_ABOUT[name])
    if name == "log-level":
        parser.add_argument("level", choices=_LEVELS)
        words = sorted(words, key=lambda word: word not in _LEVELS)  # before the names or behind them
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="daemons and instances, as `palatine status` shows them"
    )
    parser.add_argument("--all", action="store_true", help="everything that runs here")
    parser.add_argument("--runtime-dir", metavar="DIR", help="look here only")
    if name == "stop":
        parser.add_argument("--now", action="store_true", help="do not wait for what was begun")
    args = parser.parse_args(words)
    things = look_everywhere(args.runtime_dir)
    if not args.names and not args.all:
        running = ", ".join(thing.name for some in things.values() for thing in some if thing.alive)
        sys.stderr.write(f"palatine {name}: name some of these, or --all: {running or 'nothing runs here'}\n")
        return USAGE
    return trio.run(ask_all, name, _body(args), pick(args.names, things))


def _stop_emperor(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="palatine emperor", description="Stop the emperor; its vassals go on.")
    parser.add_argument("order", choices=["stop"])
    parser.add_argument("--vassals", action="store_true", help="stop its vassals first")
    parser.add_argument("--runtime-dir", metavar="DIR", help="look here only")
    args = parser.parse_args(words)
    emperor = pick(["emperor"], look_everywhere(args.runtime_dir))
    return trio.run(ask_all, "stop", {"vassals": args.vassals}, emperor)


def _body(args: argparse.Namespace) -> dict[str, Any]:
    if "level" in args:
        return {"level": args.level}
    return {"drain": not args.now} if "now" in args else {}


async def ask_all(kind: str, body: Any, things: Sequence[Found]) -> int:
    """Ask everybody at once, and print each answer as it comes."""
    codes: list[int] = []

    async def ask(thing: Found) -> None:
        answer = await _answer(thing, kind, body)
        if isinstance(answer, PalatineError):
            sys.stderr.write(f"{thing.name}: {answer}\n")
            codes.append(answer.exit_status)
        else:
            sys.stdout.write(f"{thing.name}: {_told(answer)}\n")

    async with trio.open_nursery() as nursery:
        for thing in things:
            nursery.start_soon(ask, thing)
    return codes[0] if codes else OK


async def _answer(thing: Found, kind: str, body: Any) -> Any:
    """What it answers, or why it does not. Who stops may be gone before it could say so, which says it as well."""
    answers: list[Any] = []

    async def ask() -> None:
        try:
            answers.append(await request(thing.ctl, kind, body, timeout=_SECONDS.get(kind, 10.0)))
        except PalatineError as error:
            answers.append(error)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        if kind == "stop":
            await _gone(thing)
            nursery.cancel_scope.cancel()
    return answers[0] if answers else {"stopped": True}


async def _gone(thing: Found) -> None:
    """Wait until its place is no more, as at an end that was asked for; what was killed leaves it."""
    await trio.sleep(_LOOK_SECONDS)
    while thing.ctl.exists():  # noqa: ASYNC110 - another process's file sets no event of ours
        await trio.sleep(_LOOK_SECONDS)
    await trio.sleep(_LAST_WORDS_SECONDS)


def _told(answer: Any) -> str:
    if not isinstance(answer, dict):
        return str(answer)
    return ", ".join(key if value is True else f"{key} {value}" for key, value in answer.items() if value is not False)
