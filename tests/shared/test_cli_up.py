"""`palatine up` as a real process, over stand-ins for the daemons."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from palatine.cli.found import Found
from palatine.cli.up_hints import hints, listens
from palatine.cli.up_plan import Places, plan
from palatine.errors import ConfigError

FAKES = Path(__file__).parent / "fake_daemons"
DEADLINE = 20.0
PLACES = Places("/r", "/s", "json")


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    path = tmp_path / "demo"
    (path / "vassals").mkdir(parents=True)
    for name in ("hello.ini", "other.yaml", "notes.txt", "alarm-daemon.yaml", "emperor.yaml"):
        (path / name).touch()
    (path / "try.txt").write_text("curl http://127.0.0.1:9/\n")
    return path


def test_the_plan_of_a_demo(demo: Path) -> None:
    parts = {part.name: part for part in plan(str(demo), [], PLACES)}
    assert list(parts) == ["stats-exporter", "snmp-agent", "alarm-daemon", "emperor", "hello", "other"]
    common = ("--runtime-dir", "/r", "--state-dir", "/s", "--log-format", "json")
    assert parts["snmp-agent"].words == common
    assert parts["alarm-daemon"].words == (*common, "--config", f"{demo}/alarm-daemon.yaml")
    assert parts["emperor"].words[-4:] == ("--config", f"{demo}/emperor.yaml", "--emperor", f"{demo}/vassals")
    assert dict(parts["emperor"].environ) == {"PALATINE_UMBRELLA": "1"}
    assert parts["hello"].words == ("--runtime-dir", "/r", "--state-dir", "/s", "--name", "hello", f"{demo}/hello.ini")


def test_the_plan_of_configurations(demo: Path) -> None:
    again = demo / "vassals" / "hello.ini"
    again.touch()
    parts = plan(None, [str(demo / "hello.ini"), str(again), str(demo / "vassals")], PLACES, ["snmp-agent"])
    assert [part.name for part in parts] == ["stats-exporter", "alarm-daemon", "emperor", "hello", "hello-5"]


@pytest.mark.parametrize(("folder", "configs"), [("none", []), (None, ["none.ini"])])
def test_what_is_not_there_is_refused(folder: str | None, configs: list[str]) -> None:
    with pytest.raises(ConfigError):
        plan(folder, configs, PLACES)


class Up:
    """A running `palatine up`."""

    def __init__(self, tmp_path: Path, *words: str, runtime: str = "run") -> None:
        self.runtime, self.state = tmp_path / runtime, tmp_path / "state"
        self.state.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "palatine.cli", "up", "--runtime-dir", str(self.runtime)]
        command += ["--state-dir", str(self.state), *words]
        environ = {**os.environ, "PYTHONPATH": str(FAKES)}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environ)
        self._data = b""
        self.seen: list[str] = []

    def until(self, *texts: str) -> None:
        """Read stderr until every text has been seen in some line."""
        missing = set(texts)
        while missing:
            line = self._line()
            assert line, f"no {missing} in {''.join(self.seen)}"
            missing -= {text for text in missing if text in line}

    def end(self) -> int:
        """Read stderr to its end; the exit code."""
        while self._line():
            pass
        assert self.process.stderr
        self.process.stderr.close()
        return self.process.wait(DEADLINE)

    def _line(self) -> str:
        """The next line, "" at the end."""
        assert self.process.stderr
        while b"\n" not in self._data:
            assert select.select([self.process.stderr], [], [], DEADLINE)[0], f"silent after {''.join(self.seen)}"
            data = os.read(self.process.stderr.fileno(), 65536)
            if not data:
                break
            self._data += data
        line, newline, self._data = self._data.partition(b"\n")
        self.seen.append((line + newline).decode())
        return self.seen[-1]

    def told(self) -> dict[str, list[int]]:
        """The pids each daemon has had."""
        pids: dict[str, list[int]] = {}
        for line in (self.state / "told").read_text().splitlines():
            name, pid, *_ = json.loads(line)
            pids.setdefault(name, []).append(pid)
        return pids


@pytest.fixture
def up(tmp_path: Path, demo: Path) -> Iterator[Up]:
    running = Up(tmp_path, "--demo", str(demo))
    yield running
    if running.process.poll() is None:
        running.process.terminate()
        try:
            running.end()
        finally:
            running.process.kill()


def test_everything_comes_up_and_goes_in_order(up: Up) -> None:
    up.until("everything is up", "curl http://127.0.0.1:9/", "hello listens on 127.0.0.1:9 (http)")
    assert set(up.told()) == {"stats-exporter", "snmp-agent", "alarm-daemon", "emperor", "app-server"}
    up.process.send_signal(signal.SIGHUP)
    up.until("emperor rereads", "alarm-daemon rereads", "app-server rereads")
    up.process.send_signal(signal.SIGINT)
    assert up.end() == 0
    ended = [line.split()[0] for line in up.seen if line.endswith(" ends\n")]
    assert len(ended) == 6
    assert sorted(ended[:3]) == ["app-server", "app-server", "emperor"]
    assert not up.runtime.exists()
    assert (up.state / "told").exists()


def test_a_killed_daemon_comes_back(up: Up) -> None:
    up.until("everything is up")
    (first,) = up.told()["alarm-daemon"]
    os.kill(first, signal.SIGKILL)
    up.until("alarm-daemon was killed by signal 9", "alarm-daemon begins")
    up.until("alarm-daemon is ready")
    assert len(up.told()["alarm-daemon"]) == 2


def test_a_killed_parent_leaves_nobody_and_the_next_one_clears_up(up: Up, tmp_path: Path, demo: Path) -> None:
    up.until("everything is up")
    watched = [os.pidfd_open(pid) for pids in up.told().values() for pid in pids]
    up.process.kill()
    for fd in watched:
        assert select.select([fd], [], [], DEADLINE)[0], "a child lives on"
        os.close(fd)
    up.end()
    assert up.runtime.exists()
    (up.runtime / "i" / "stale").mkdir()
    following = Up(tmp_path, "--demo", str(demo))
    following.until("everything is up")
    assert not (up.runtime / "i" / "stale").exists()
    following.process.terminate()
    assert following.end() == 0


@pytest.mark.parametrize("runtime", ["run", "elsewhere"])
def test_a_second_one_is_refused(up: Up, tmp_path: Path, demo: Path, runtime: str) -> None:
    up.until("everything is up")
    second = Up(tmp_path, "--demo", str(demo), runtime=runtime)
    assert second.end() == 75
    assert f"runs here already (pid {up.process.pid}" in "".join(second.seen)


def test_a_daemon_that_gives_up_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    for name in ("stats-exporter", "snmp-agent", "alarm-daemon"):
        (tmp_path / "state" / f"behave-{name}").write_text("78")
    up = Up(tmp_path)
    assert up.end() == 1
    assert "snmp-agent gave up with exit code 78: its configuration is wrong" in "".join(up.seen)


def test_a_second_interrupt_kills(up: Up) -> None:
    up.until("everything is up")
    for pids in up.told().values():
        os.kill(pids[0], signal.SIGSTOP)
    up.process.send_signal(signal.SIGINT)
    up.until("stopping everything; again to kill it")
    up.process.send_signal(signal.SIGINT)
    assert up.end() == 0
    assert not up.runtime.exists()


def read_until(reader: int, wanted: set[bytes]) -> None:
    seen = b""
    while any(text not in seen for text in wanted):
        assert select.select([reader], [], [], DEADLINE)[0], seen
        seen += os.read(reader, 65536)


def test_a_terminal_gets_a_live_screen(tmp_path: Path, demo: Path) -> None:
    reader, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, 120))
    (tmp_path / "state").mkdir()
    where = ["--runtime-dir", f"{tmp_path}/run", "--state-dir", f"{tmp_path}/state"]
    command = [sys.executable, "-m", "palatine.cli", "up", *where, "--demo", str(demo)]
    environ = {**os.environ, "PYTHONPATH": str(FAKES), "TERM": "xterm"}
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environ) as process:
        os.close(terminal)
        try:
            read_until(reader, {b"palatine 0", b"hello", b"listens on", b"curl http://", b"alarm-daemon begins"})
            process.send_signal(signal.SIGINT)
            read_until(reader, {b"stopped; state is kept"})
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()
            os.close(reader)
    assert "emperor begins" in (tmp_path / "state" / "up.log").read_text()


def test_hints_are_the_demos_or_made_from_what_listens() -> None:
    sockets = [{"name": "0.0.0.0:80", "proto": "http"}, {"name": "/run/x.sock", "proto": "uwsgi"}]
    labels = {"sockets": sockets, "offers": [{"name": "127.0.0.1:9191", "kind": "stats"}]}
    app = Found("instance", "app", Path("/r/i/app"), "ready", labels=labels)
    assert listens([app]) == [
        "app listens on 0.0.0.0:80 (http)",
        "app listens on /run/x.sock (uwsgi)",
        "app listens on 127.0.0.1:9191 (stats)",
    ]
    assert hints([app], []) == ["curl http://127.0.0.1:80/", "uwsgitop 127.0.0.1:9191", "palatine status"]
    assert hints([app], ["try this"]) == ["try this"]
