import os
import re
import select
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from palatine import companions
from palatine.companions import Companions, Status, missing
from palatine.companions_policy import ENDED, FIRST_DELAY, RUNNING, WAITING

ROOT = Path(__file__).parents[2]
SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]
DEADLINE = 10.0


class Loop:
    """A parent's loop as the master has it: reap, do what is due, wait for children only."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.family = Companions(self.said.append)

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE
        while True:
            now = time.monotonic()
            while self.family.running():
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                self.family.reaped(pid, status, now)
            at = self.family.due(now)
            if done():
                return
            assert now < deadline, self.said
            pids = [status.pid for status in self.family.status().values() if status.pid]
            wait_for_one(pids, min(at if at is not None else deadline, deadline) - now)


def wait_for_one(pids: list[int], seconds: float) -> None:
    """Return when one of the processes has ended, or after `seconds`."""
    watched = [os.pidfd_open(pid) for pid in pids]
    try:
        select.select(watched, [], [], max(0.0, seconds))
    finally:
        for fd in watched:
            os.close(fd)


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.family.stop(time.monotonic(), 1.0)
    loop.until(lambda: not loop.family.running())


def test_a_killed_companion_comes_back(loop: Loop) -> None:
    loop.family.add_command("sleeper", SLEEPER)
    loop.until(lambda: loop.family.status()["sleeper"].phase == RUNNING)
    first = loop.family.status()["sleeper"].pid
    os.kill(first, signal.SIGKILL)
    loop.until(lambda: loop.family.status()["sleeper"].pid not in {0, first})
    assert loop.said == [f"sleeper was killed by signal 9; started again in {FIRST_DELAY} s"]
    assert loop.family.status()["sleeper"].failures == 1


@pytest.mark.parametrize(("code", "phase"), [(0, ENDED), (1, WAITING), (69, ENDED), (78, ENDED)])
def test_the_exit_code_decides(loop: Loop, code: int, phase: str) -> None:
    loop.family.add_command("brief", [sys.executable, "-c", f"raise SystemExit({code})"])
    loop.until(lambda: loop.family.status()["brief"].phase == phase)
    assert loop.family.status()["brief"].pid == 0


def test_stopping_one_leaves_the_others(loop: Loop) -> None:
    for name in ("one", "other"):
        loop.family.add_command(name, SLEEPER)
    loop.family.spawn(time.monotonic())
    loop.family.stop(time.monotonic(), name="one")
    loop.until(lambda: loop.family.status()["one"].phase == ENDED)
    assert loop.family.status()["other"].phase == RUNNING


def test_who_ignores_term_is_killed(loop: Loop, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    deaf = f"import signal; signal.signal(15, signal.SIG_IGN); open({str(ready)!r}, 'w').close(); signal.pause()"
    loop.family.add_command("deaf", [sys.executable, "-c", deaf])
    loop.family.spawn(time.monotonic())
    ready.read_bytes()
    loop.family.stop(time.monotonic(), 0.05)
    loop.until(lambda: not loop.family.running())
    assert loop.said == ["deaf did not stop in time: killed"]


def test_strange_children_are_not_taken(loop: Loop) -> None:
    assert not loop.family.reaped(4_000_000, 0, 0.0)


def test_a_companion_has_a_session_and_environment_of_its_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    program = "import os, signal, sys; print(os.getsid(0) == os.getpid(), signal.getsignal(15) == signal.SIG_DFL, "
    program += "os.environ.get('NOTIFY_SOCKET'), os.environ['PALATINE_PARENT'], os.getppid(), "
    program += "file=open(sys.argv[1], 'w'))"
    said: list[str] = []
    family = Companions(said.append, {**os.environ, "NOTIFY_SOCKET": "/nowhere"})
    family.add_command("asker", [sys.executable, "-c", program, str(out)])
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        family.spawn(time.monotonic())
    finally:
        signal.signal(signal.SIGTERM, before)
    pid, status = os.waitpid(family.status()["asker"].pid, 0)
    assert family.reaped(pid, status, time.monotonic())
    assert out.read_text().split() == ["True", "True", "None", str(os.getpid()), str(os.getpid())]


def test_companions_do_not_outlive_a_killed_parent() -> None:
    program = (
        "import os, signal, sys, time; from palatine.companions import Companions\n"
        "family = Companions(print)\n"
        f"for name in 'ab': family.add_command(name, {SLEEPER!r})\n"
        "family.spawn(time.monotonic())\n"
        "print(*(status.pid for status in family.status().values()), flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        watched = [os.pidfd_open(int(pid)) for pid in parent.stdout.readline().split()]
        parent.kill()
    for fd in watched:
        assert select.select([fd], [], [], DEADLINE)[0], "a companion lives on"
        os.close(fd)


def test_a_missing_extra_is_named(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companions, "EXTRAS", {"snmp-agent": ("no_such_package", "os")})
    assert missing("snmp-agent") == "palatine-snmp-agent needs no_such_package: pip install 'palatine[snmp-agent]'"
    assert not loop.family.add("snmp-agent")
    assert loop.said == [missing("snmp-agent")]
    assert loop.family.status() == {}


def test_a_daemon_is_started_without_the_working_directory() -> None:
    assert companions.command("stats-exporter", "--runtime-dir", "/r")[1:4] == ["-P", "-m", "palatine_stats_exporter"]


def test_extras_are_those_of_the_project() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    distributions = packages_distributions()
    for daemon, names in companions.EXTRAS.items():
        wanted = {re.split(r"[\[>=<~! ;]", requirement)[0].lower() for requirement in extras[daemon]}
        brought = {re.sub(r"[-_.]+", "-", one).lower() for name in names for one in distributions[name]}
        assert brought == wanted, daemon


def test_plain_modules_load_only_plain_modules() -> None:
    program = "import sys, palatine.companions; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in loaded if name.startswith("palatine")}
    assert ours <= {f"palatine{name}" for name in ("", ".companions", ".companions_policy", ".exits", ".errors")}
    assert not {"ctypes", "trio", "attrs", "structlog", "zmq", "subprocess"} & set(loaded)


def test_status_is_a_value() -> None:
    assert Status(0, ENDED, 0) == (0, "ended", 0)
