"""`palatine up` over the real five daemons: kills of each of them and of the parent, and what survives."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DAEMONS = ("stats-exporter", "snmp-agent", "alarm-daemon", "emperor")
DEADLINE = 30.0
APP = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hello']\n"


class House:
    """A demo of our own in a directory with a short name, and the umbrella command for it."""

    def __init__(self, top: Path) -> None:
        self.demo, self.run, self.state = top / "demo", top / "run", top / "state"
        (self.demo / "vassals").mkdir(parents=True)
        (self.demo / "app.py").write_text(APP)
        lines = f"[uwsgi]\nhttp-socket = 127.0.0.1:0\nwsgi-file = {self.demo}/app.py\nmaster = true\n"
        # nobody listens on the discard port: what is raised stays undelivered
        (self.demo / "app.ini").write_text(lines + "alarm = tell curl:http://127.0.0.1:9/\n")
        (self.demo / "vassals" / "v.ini").write_text(lines)
        self.parents: list[subprocess.Popen[str]] = []

    def up(self) -> "subprocess.Popen[str]":
        """Start it and wait until everything is up."""
        command = self._command("up", "--demo", str(self.demo), "--state-dir", str(self.state))
        log = (self.demo.parent / "log").open("a+")
        log.seek(0, os.SEEK_END)
        began = log.tell()
        self.parents.append(subprocess.Popen(command, stderr=log, stdout=log, text=True))

        def said() -> bool:
            log.seek(began)
            return "everything is up" in log.read()

        wait_for(said)
        log.close()
        return self.parents[-1]

    def ask(self, *words: str) -> str:
        return subprocess.run(self._command(*words), capture_output=True, text=True, check=True).stdout

    def things(self) -> dict[str, dict[str, Any]]:
        """What runs, by name."""
        done = subprocess.run(self._command("status", "--json"), capture_output=True, text=True, check=False)
        runtimes = json.loads(done.stdout)["runtimes"]
        return {one["name"]: one for runtime in runtimes for one in (*runtime["daemons"], *runtime["instances"])}

    def is_ready(self, *names: str) -> bool:
        things = self.things()
        return all(name in things and things[name]["state"] == "ready" for name in names)

    def _command(self, *words: str) -> list[str]:
        command, *rest = words
        where = ["--runtime-dir", str(self.run)]
        return [
            sys.executable,
            "-m",
            "palatine.cli",
            command,
            *(rest[:1] if command == "alarm" else []),
            *where,
            *(rest[1:] if command == "alarm" else rest),
        ]


def wait_for(state: Callable[[], bool]) -> None:
    """Until a state is reached, looked at a few times a second."""
    deadline = time.monotonic() + DEADLINE
    while not state():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.2)


@pytest.fixture
def house() -> Iterator[House]:
    with tempfile.TemporaryDirectory(prefix="palatine-up-") as name:
        house = House(Path(name))
        try:
            yield house
        finally:
            for parent in house.parents:
                if parent.poll() is None:
                    parent.terminate()
                    parent.wait(DEADLINE)


@pytest.mark.interop
def test_every_daemon_comes_back_and_an_alarm_survives_the_parent(house: House) -> None:
    parent = house.up()
    wait_for(lambda: house.is_ready(*DAEMONS, "app", "v.ini"))
    before = house.things()
    for name in DAEMONS:
        os.kill(before[name]["pid"], signal.SIGKILL)
    wait_for(lambda: house.is_ready(*DAEMONS, "app", "v.ini"))
    lines = (house.demo.parent / "log").read_text().splitlines()
    assert not [line for line in lines if line.startswith("{")], "text only"
    after = house.things()
    assert all(after[name]["pid"] != before[name]["pid"] for name in DAEMONS)
    assert all(after[name]["pid"] == before[name]["pid"] for name in ("app", "v.ini"))

    wait_for(lambda: " tell " in house.ask("alarm", "list"))
    assert house.ask("alarm", "raise", "app", "tell", "do not forget me").startswith("raised")
    watched = [os.pidfd_open(one["pid"]) for one in after.values()]
    parent.kill()
    for fd in watched:
        assert select.select([fd], [], [], DEADLINE)[0], "somebody outlives the parent"
        os.close(fd)
    parent.wait()

    parent = house.up()
    wait_for(lambda: house.is_ready("alarm-daemon"))
    assert "do not forget me" in house.ask("alarm", "pending")
    parent.send_signal(signal.SIGINT)
    assert parent.wait(DEADLINE) == 0
    assert not house.run.exists()
