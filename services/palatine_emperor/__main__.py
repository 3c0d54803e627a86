"""palatine-emperor - run hundreds of apps from files, and whatever else says who should live.

SYNOPSIS
    palatine-emperor [--emperor URL]... [uWSGI options] [--config FILE] [--runtime-dir DIR] [--state-dir DIR]

DESCRIPTION
    Watches imperial monitors for vassals: configs of app-servers. Each new config is started, each changed one is
    reloaded, each removed one stopped; one that dies is started again, one that keeps failing is held back as uWSGI
    does, and one whose config is bad is not tried again before it changes. A broken vassal never stops its neighbours.

    Vassals are forked by a keeper, a small process that outlives the emperor. An emperor that is killed or restarted
    takes them over as they run. TERM leaves them running; under `palatine --emperor` and `palatine up` it stops them.

    A vassal that asks for help (`vassal-sos`, `vassal-sos-backlog`) gets a zerg where `emperor-broodlord` allows one:
    an instance of the section [zerg] of its config, which serves the same sockets. `emperor-use-clone` and
    `emperor-cap` give vassals namespaces of their own and take capabilities from them.

    Monitors: `dir://PATH` (or a bare directory), `glob://PATTERN` (or any other bare path), `zmq://ENDPOINT`. Options
    are uWSGI's, on the command line, in a file it names, or by the same names in the daemon's YAML file, where the
    monitors are a list called `emperors`.

FILES
    /etc/palatine/emperor.yaml             emperors: [...], and uWSGI's emperor options by their names
    <runtime dir>/emperor/seg              counters, a row for each vassal
    <runtime dir>/emperor/ctl              requests: vassal.list, vassal.touch, vassal.destroy, and every daemon's
    <runtime dir>/emperor/handoff          the emperor-stats socket, for the stats-exporter
    <runtime dir>/emperor/keeper.sock      the keeper, for this emperor and its successors
    <state dir>/emperor/deploy.db          vassals that came as messages or requests

SIGNALS
    TERM leaves, INT and QUIT stop all vassals and leave, HUP reads the settings again and reloads every vassal, USR1
    writes them to the log, WINCH looks at all monitors now, URG forgets all failures.

SECURITY
    Under `emperor-tyrant` a vassal runs as the owner of its file, or as the ids its message names; ids below `min-uid`
    are refused. Whoever reaches a zmq:// endpoint can run code with the emperor's rights: bind it to loopback. Requests
    on ctl that change something need the role deployer.

DIAGNOSTICS
    Lines are uWSGI's own where it has any; `--log-format json` makes them events. `palatine vassal list` shows each
    vassal's state and why it does not run.

EXIT STATUS
    0 left or stopped as asked; 2 usage; 69 no keeper can be had; 75 another emperor governs this runtime directory;
    78 the configuration is wrong.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from palatine.daemon import Context, Spec, run
from palatine.daemon.privileges import PARENT_VARIABLE
from palatine.errors import PalatineError
from palatine.schema import EMPEROR
from palatine_emperor.second_place import find_place, leave_place
from palatine_emperor.settings import Settings, Words, read_words

_UMBRELLA: Final = "PALATINE_UMBRELLA"
#: The government has its own mercy; this only ends one that hangs. Seconds.
_DRAIN_SECONDS: Final = 600.0
_ABOUT: Final = frozenset({"--help", "-h", "--version", "--manual"})


def main(argv: Sequence[str] | None = None) -> int:
    """The command; `argv` without the program's name."""
    words = list(sys.argv[1:] if argv is None else argv)
    cwd = os.getcwd()
    umbrella = os.environ.pop(_UMBRELLA, "") == "1"
    alone = umbrella and PARENT_VARIABLE not in os.environ  # `palatine up` runs the other daemons itself

    async def govern(ctx: Context) -> None:
        from palatine_emperor.government import Government  # with zmq and more, not needed for --help or a bad config

        government = Government(ctx, lambda: read_words(words, cwd).over(ctx.settings), umbrella=umbrella, alone=alone)
        await government.run()

    spec = Spec(
        "emperor",
        __doc__ or "",
        govern,
        EMPEROR,
        add_arguments=_add_arguments,
        config=Settings,
        drain_seconds=_DRAIN_SECONDS,
    )
    if _ABOUT & set(words):
        return run(spec, words)
    try:
        read = read_words(words, cwd)
        daemon = _daemon_words(read, umbrella=umbrella)
    except PalatineError as error:
        sys.stderr.write(f"palatine-emperor: {error}\n")
        return error.exit_status
    for warning in read.config.warnings:
        sys.stderr.write(f"{warning}\n")
    try:
        return run(spec, daemon)
    finally:
        leave_place(Path(daemon[-1]))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """For the help only: `read_words` takes these before the daemon's own are read."""
    parser.add_argument(
        "--emperor",
        metavar="URL",
        action="append",
        help="where vassals are: a directory, a glob or zmq://ENDPOINT; uWSGI's other options go here, too",
    )


def _daemon_words(read: Words, *, umbrella: bool) -> list[str]:
    """What the daemon is told: uWSGI's lines want a console beside them, and a second emperor wants its own place."""
    words = list(read.daemon)
    if "--log-format" not in words:
        words += ["--log-format", "console"]
    if umbrella and "--runtime-dir" not in words:
        place = find_place()
        words += ["--runtime-dir", str(place)] if place else []
    return words


if __name__ == "__main__":
    sys.exit(main())
