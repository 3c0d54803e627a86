"""Stand-ins for the daemons of `palatine up`: they publish a segment, write what they were told, and end when told."""

import json
import os
import signal
import sys
from pathlib import Path

from palatine.counters import Segment
from palatine.schema import DAEMON, INSTANCE


def option(name: str) -> str:
    """The value of `--name` on the command line."""
    return sys.argv[sys.argv.index(name) + 1]


def publish(name: str) -> Segment:
    runtime = Path(option("--runtime-dir"))
    directory = runtime / ("i" if name == "app-server" else ".") / (option("--name") if name == "app-server" else name)
    directory.mkdir(parents=True, exist_ok=True)
    table, tables = ("server", INSTANCE) if name == "app-server" else ("daemon", DAEMON)
    labels = {"sockets": [{"name": "127.0.0.1:9", "proto": "http"}]}
    rows = {"sockets": 1} if name == "app-server" else {}
    segment = Segment.create(directory / "seg", tables, rows, labels)
    cells = segment.cells(table)
    for field, value in (("pid", os.getpid()), ("state", 1)):
        cells[segment.word(table, field)] = value
    segment.publish()
    return segment


def main(name: str) -> None:
    """Behave as the file `<state>/behave-<name>` says, if there is one: an exit code."""
    state = Path(option("--state-dir"))
    with (state / "told").open("a") as told:
        told.write(json.dumps([name, os.getpid(), *sys.argv[1:]]) + "\n")
    behave = state / f"behave-{name}"
    if behave.exists():
        sys.exit(int(behave.read_text()))
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGHUP))
    segment = publish(name)
    sys.stderr.write(f"{name} begins\n")
    while signal.sigwait((signal.SIGTERM, signal.SIGHUP)) == signal.SIGHUP:
        sys.stderr.write(f"{name} rereads\n")
    sys.stderr.write(f"{name} ends\n")
    segment.close(unlink=True)
