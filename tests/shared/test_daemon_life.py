"""A real daemon process: signals, readiness, ctl, exit codes."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from palatine.bus import request
from palatine.counters import SegmentView
from palatine.errors import PeerError

TINY = Path(__file__).parent / "daemon_programs" / "tiny.py"


class Daemon:
    """A tiny daemon with its directories, read by the events of its log."""

    def __init__(self, tmp_path: Path, *args: str, environ: dict[str, str] | None = None) -> None:
        self.runtime = tmp_path / "run"
        where = ("--runtime-dir", str(self.runtime), "--state-dir", str(tmp_path / "state"))
        command = [sys.executable, str(TINY), *where, *args]
        environ = {**os.environ, **(environ or {})}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ)
        self.seen: list[dict[str, Any]] = []

    def until(self, event: str) -> dict[str, Any]:
        """Read the log up to an event."""
        assert self.process.stderr
        for line in self.process.stderr:
            self.seen.append(json.loads(line))
            if self.seen[-1]["event"] == event:
                return self.seen[-1]
        raise AssertionError(f"no {event} in {self.seen}")

    def send(self, signum: int) -> None:
        self.process.send_signal(signum)

    def end(self) -> int:
        assert self.process.stderr
        self.seen += [json.loads(line) for line in self.process.stderr]
        self.process.stderr.close()
        return self.process.wait()

    def ask(self, kind: str, body: Any = None) -> Any:
        return trio.run(request, self.runtime / "tiny" / "ctl", kind, body)

    def own(self) -> dict[str, int]:
        return SegmentView.open(self.runtime / "tiny" / "seg").row("daemon")


Start = Callable[..., Daemon]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    begun: list[Daemon] = []

    def begin(*args: str, **more: Any) -> Daemon:
        begun.append(Daemon(tmp_path, *args, **more))
        return begun[-1]

    yield begin
    for daemon in begun:
        if daemon.process.poll() is None:
            daemon.process.kill()
        if daemon.process.stderr:
            daemon.process.stderr.close()
        daemon.process.wait()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text("greeting: hello\n")
    return path


def test_term_drains_and_nothing_is_left(start: Start, tmp_path: Path) -> None:
    daemon = start()
    ready = daemon.until("daemon.ready")
    assert ready["pid"] == daemon.process.pid
    assert daemon.own()["ready"] == 1
    assert daemon.own()["pid"] == daemon.process.pid
    assert SegmentView.open(daemon.runtime / "tiny" / "seg").text("daemon") == b"hello"
    daemon.send(signal.SIGTERM)
    assert daemon.end() == 0
    assert [line["event"] for line in daemon.seen] == [
        "daemon.starting", "daemon.ready", "daemon.draining", "daemon.stopped",
    ]  # fmt: skip
    assert list((tmp_path / "run" / "tiny").iterdir()) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_stop(start: Start, signum: int) -> None:
    daemon = start("--behave", "linger")
    daemon.until("daemon.ready")
    daemon.send(signum)
    assert daemon.end() == 0
    assert "daemon.stopping" in [line["event"] for line in daemon.seen]


def test_a_drain_that_lingers_is_forced_at_its_deadline(start: Start) -> None:
    daemon = start("--behave", "linger")
    daemon.until("daemon.ready")
    daemon.send(signal.SIGTERM)
    assert daemon.until("daemon.drain_deadline")["seconds"] == 0.2
    assert daemon.end() == 0


def test_a_second_term_does_not_wait(start: Start) -> None:
    daemon = start("--behave", "linger")
    daemon.until("daemon.ready")
    daemon.send(signal.SIGTERM)
    daemon.until("daemon.draining")
    daemon.send(signal.SIGTERM)
    assert daemon.end() == 0
    assert "daemon.drain_deadline" not in [line["event"] for line in daemon.seen]


def test_every_other_signal_is_survived(start: Start) -> None:
    daemon = start("--log-level", "debug")
    daemon.until("daemon.ready")
    for signum in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGALRM, signal.SIGURG, signal.SIGWINCH):
        daemon.send(signum)
        assert daemon.until("signal.ignored")["signal"] == signum.name
    daemon.send(signal.SIGUSR1)
    dumped = daemon.until("daemon.statistics")
    assert (dumped["answer"], dumped["state"], dumped["log_dropped"]) == (42, "ready", 0)
    daemon.send(signal.SIGTERM)
    assert daemon.end() == 0


def test_hup_takes_a_good_config_and_refuses_a_bad_one(start: Start, config: Path) -> None:
    daemon = start("--config", str(config))
    daemon.until("daemon.ready")
    config.write_text("greeting: good day\n")
    daemon.send(signal.SIGHUP)
    assert daemon.until("tiny.greeting")["greeting"] == "good day"
    config.write_text("size: 3\ngreting: oops\n")
    daemon.send(signal.SIGHUP)
    refused = daemon.until("config.refused")
    assert refused["reason"] == f"{config}:2:1: unknown key 'greting'; did you mean 'greeting'?"
    config.write_text("greeting: refuse me\n")
    daemon.send(signal.SIGHUP)
    assert daemon.until("config.refused")["reason"] == "the greeting is refused"
    assert daemon.until("tiny.greeting")["greeting"] == "good day"
    assert (daemon.own()["reloads"], daemon.own()["reload_failures"], daemon.own()["ready"]) == (1, 2, 1)


def test_usr2_reopens_the_log_after_a_rotation(tmp_path: Path) -> None:
    log, moved = tmp_path / "log", tmp_path / "log.1"
    where = ("--runtime-dir", str(tmp_path / "run"), "--state-dir", str(tmp_path / "state"))
    command = [sys.executable, str(TINY), *where]
    notify, address = listen(tmp_path)
    with log.open("w") as stderr, subprocess.Popen(command, stderr=stderr, env={**os.environ, **address}) as process:
        assert b"READY=1" in notify.recv(4096)
        log.rename(moved)
        process.send_signal(signal.SIGUSR2)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    notify.close()
    assert "daemon.ready" in moved.read_text()
    assert json.loads(log.read_text().partition("\n")[0])["event"] == "log.reopened"


def listen(tmp_path: Path, *, abstract: bool = False) -> tuple[socket.socket, dict[str, str]]:
    """A service manager's notification socket, and the environment that names it."""
    name = f"@palatine-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.settimeout(10)
    sock.bind(name.replace("@", "\0", 1))
    return sock, {"NOTIFY_SOCKET": name}


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_everything(start: Start, config: Path, tmp_path: Path, abstract: bool) -> None:  # noqa: FBT001
    sock, address = listen(tmp_path, abstract=abstract)
    daemon = start("--config", str(config), environ={**address, "WATCHDOG_USEC": "200000"})
    messages = iter(lambda: sock.recv(4096).decode().split("\n"), [])
    heard = [next(messages)]
    while ["READY=1", "STATUS=hello"] not in heard or ["WATCHDOG=1"] not in heard:
        heard.append(next(messages))
    daemon.send(signal.SIGHUP)
    assert next(one for one in messages if one != ["WATCHDOG=1"])[0] == "RELOADING=1"
    assert next(one for one in messages if one != ["WATCHDOG=1"])[0] == "READY=1"
    daemon.send(signal.SIGTERM)
    assert next(one for one in messages if one != ["WATCHDOG=1"])[0] == "STOPPING=1"
    assert daemon.end() == 0
    sock.close()


def test_a_second_instance_exits_75_and_harms_nobody(start: Start) -> None:
    first = start()
    first.until("daemon.ready")
    second = start()
    assert second.end() == 75
    assert f"pid {first.process.pid}" in second.seen[-1]["reason"]
    assert first.own()["ready"] == 1


@pytest.mark.parametrize(
    ("behaviour", "status", "event"),
    [
        ("crash", 70, "daemon.crashed"),
        ("task", 70, "daemon.crashed"),
        ("refuse", 69, "daemon.failed"),
        ("forbidden", 77, "daemon.failed"),
    ],
)
def test_errors_become_exit_codes(start: Start, behaviour: str, status: int, event: str) -> None:
    daemon = start("--behave", behaviour)
    assert daemon.end() == status
    assert daemon.seen[-1]["event"] == event
    assert ("exception" in daemon.seen[-1]) == (status == 70)


def test_a_bad_config_exits_78_with_its_place(start: Start, config: Path) -> None:
    config.write_text("greeting: hello\nmode: clam\n")
    daemon = start("--config", str(config))
    assert daemon.end() == 78
    reason = "'mode' must be one of calm, wild, not 'clam'; did you mean 'calm'?"
    assert daemon.seen[-1]["reason"] == f"{config}:2:7: {reason}"


def test_a_usage_error_exits_2(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, TINY, "--bogus"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "unrecognized arguments: --bogus" in done.stderr


def test_asyncio_libraries_are_at_hand(start: Start) -> None:
    daemon = start("--behave", "asyncio")
    assert daemon.until("tiny.asyncio")["value"] == 42
    daemon.send(signal.SIGTERM)
    assert daemon.end() == 0


def test_a_daemon_whose_parent_has_gone_does_not_start(start: Start) -> None:
    daemon = start(environ={"PALATINE_PARENT": "1"})
    assert daemon.end() == 1
    assert daemon.seen[-1]["reason"] == "the parent (pid 1) is gone"


def test_ctl_answers_what_every_daemon_answers(start: Start, config: Path) -> None:
    daemon = start("--config", str(config))
    daemon.until("daemon.ready")
    ping = daemon.ask("ping")
    assert (ping["daemon"], ping["pid"]) == ("tiny", daemon.process.pid)
    status = daemon.ask("status")
    assert (status["state"], status["status"], status["answer"], status["log_level"]) == ("ready", "hello", 42, "info")
    assert daemon.ask("log-level", {"level": "debug"}) == {"level": "debug", "before": "info"}
    with pytest.raises(PeerError, match="did you mean 'warning'"):
        daemon.ask("log-level", {"level": "warnin"})
    config.write_text("greeting: later\n")
    assert daemon.ask("reload") == {"reloaded": True, "reloads": 1}
    config.write_text("size: 0\n")
    with pytest.raises(PeerError, match=r"tiny\.yaml:1:7") as caught:
        daemon.ask("reload")
    assert caught.value.code == "config"
    assert daemon.own()["requests"] == 6
    assert daemon.ask("stop", {"drain": True}) == {"stopping": True, "drain": True}
    assert daemon.end() == 0


def test_a_stop_without_drain_is_answered_and_obeyed(start: Start) -> None:
    daemon = start("--behave", "linger")
    daemon.until("daemon.ready")
    assert daemon.ask("stop", {"drain": False}) == {"stopping": True, "drain": False}
    assert daemon.end() == 0
    assert "daemon.drain_deadline" not in [line["event"] for line in daemon.seen]
