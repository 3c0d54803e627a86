"""NAME
    palatine-tiny - a daemon that does nothing

SYNOPSIS
    palatine-tiny [options]

DESCRIPTION
    Waits until it is told to stop.
    Exists for tests.

    It has a second paragraph.

FILES
    none
"""

import argparse
import encodings.ascii  # noqa: F401 - the user of the --user test may not be able to read this interpreter's library
import sys
from typing import Literal

import attrs
import trio

from palatine.daemon import Context, Secret, Spec, run
from palatine.errors import ConfigError, PeerError


@attrs.frozen
class Settings:
    greeting: str = "hello"
    size: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    mode: Literal["calm", "wild"] = "calm"
    password: Secret | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--behave", default="well", help="how to behave")


async def serve(ctx: Context) -> None:
    match ctx.args.behave:
        case "crash":
            raise LookupError("no luck")
        case "refuse":
            raise PeerError("nobody is there")
        case "forbidden":
            raise PermissionError(13, "Permission denied", "/nowhere")
        case "task":
            ctx.nursery.start_soon(fail)

    async def reloaded() -> None:
        if ctx.settings.greeting == "refuse me":
            raise ConfigError("the greeting is refused")
        ctx.log.info("tiny.greeting", greeting=ctx.settings.greeting)

    ctx.on_reload(reloaded)
    ctx.on_statistics(lambda: {"answer": 42})
    ctx.ready(ctx.settings.greeting)
    if ctx.args.behave == "asyncio":
        ctx.log.info("tiny.asyncio", value=await ctx.to_asyncio(add, 40, 2))
    await ctx.draining.wait()
    if ctx.args.behave == "linger":
        await trio.sleep_forever()


async def add(one: int, other: int) -> int:
    return one + other


async def fail() -> None:
    raise LookupError("a task failed")


SPEC = Spec("tiny", __doc__, serve, add_arguments=add_arguments, config=Settings, drain_seconds=0.2)

if __name__ == "__main__":
    words = sys.argv[1:]
    if words[:1] == ["--called"]:  # be one of the five, for those who look for them by name
        SPEC = attrs.evolve(SPEC, name=words[1])
        words = words[2:]
    sys.exit(run(SPEC, words))
