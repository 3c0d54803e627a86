import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from palatine.bus import Request, Role, serve_requests
from palatine.cli import main, operate_command
from palatine.cli.found import Found, look, pick, runtimes
from palatine.cli.text import Paint, columns, counted, duration
from palatine.counters import Segment
from palatine.errors import PeerError
from palatine.schema import DAEMON, INSTANCE

Publish = Callable[..., Segment]


@pytest.fixture
def publish(tmp_path: Path) -> Iterator[Publish]:
    """Segments of daemons and instances that live as long as the test."""
    made: list[Segment] = []

    def daemon(name: str, *, ready: bool = True) -> Segment:
        directory = tmp_path / name
        directory.mkdir()
        segment = Segment.create(directory / "seg", DAEMON, {}, {"name": name, "version": "0"})
        row = segment.cells("daemon")
        row[segment.word("daemon", "pid")] = os.getpid()
        row[segment.word("daemon", "state")] = int(ready)
        row[segment.word("daemon", "started")] = int(time.time()) - 3700
        segment.text("daemon").write(b"serving 2 sockets")
        segment.publish()
        made.append(segment)
        return segment

    def instance(name: str) -> Segment:
        directory = tmp_path / "i" / name
        directory.mkdir(parents=True)
        rows = {"sockets": 1, "slots": 2, "workers": 2, "cores": 4, "activity": 4, "apps": 4}
        labels = {"name": name, "sockets": [{"name": "127.0.0.1:9090", "proto": "http"}]}
        segment = Segment.create(directory / "seg", INSTANCE, rows, labels)
        segment.cells("server")[segment.word("server", "state")] = 1
        segment.cells("slots", 0)[segment.word("slots", "pid")] = 4711
        segment.cells("workers", 0)[segment.word("workers", "accepting")] = 1
        for core in range(4):
            segment.cells("cores", core)[segment.word("cores", "requests")] = 1000
        segment.publish()
        made.append(segment)
        return segment

    def begin(kind: str, name: str, **more: bool) -> Segment:
        return daemon(name, **more) if kind == "daemon" else instance(name)

    yield begin
    for segment in made:
        segment.close(unlink=True)


def palatine(*words: str) -> int:
    return main(["palatine", *words])


def test_status_shows_daemons_and_instances(
    publish: Publish, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish("daemon", "stats-exporter")
    publish("daemon", "alarm-daemon", ready=False)
    publish("instance", "hello")
    assert palatine("status", "--runtime-dir", str(tmp_path)) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == str(tmp_path)
    assert [line.split()[:2] for line in lines] == [
        ["stats-exporter", "ready"],
        ["alarm-daemon", "starting"],
        ["hello", "ready"],
    ]
    assert "up 1 h 1 min" in lines[0]
    assert lines[0].endswith("serving 2 sockets")
    assert lines[2].endswith("1/2 workers  4,000 requests  0/4 busy  0 queued  127.0.0.1:9090")


def test_status_for_programs(publish: Publish, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish("daemon", "stats-exporter")
    publish("instance", "hello")
    assert palatine("status", "--json", "--runtime-dir", str(tmp_path)) == 0
    (runtime,) = json.loads(capsys.readouterr().out)["runtimes"]
    assert runtime["path"] == str(tmp_path)
    assert runtime["daemons"][0]["state"] == "ready"
    assert runtime["instances"][0]["figures"]["requests"] == 4000


def test_the_dead_and_the_broken_are_told_apart(publish: Publish, tmp_path: Path) -> None:
    publish("daemon", "snmp-agent").close(unlink=False)
    publish("instance", "hello").close(unlink=False)
    (tmp_path / "i" / "garbage").mkdir()
    (tmp_path / "i" / "garbage" / "seg").write_bytes(b"no segment")
    (tmp_path / "i" / "empty").mkdir()
    states = {thing.name: thing.state for thing in look(tmp_path)}
    assert states == {"snmp-agent": "dead", "hello": "dead", "garbage": "unreadable", "empty": "unreadable"}
    assert palatine("status", "--runtime-dir", str(tmp_path)) == 1
    advice = {thing.name: thing.after_kill for thing in look(tmp_path)}
    assert f"remove {tmp_path}/i/hello" in advice["hello"]
    publish("daemon", "emperor").close(unlink=False)
    assert "adopts" in next(thing.after_kill for thing in look(tmp_path) if thing.name == "emperor")


def test_nothing_is_69_and_makes_no_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert palatine("status", "--runtime-dir", str(tmp_path / "none")) == 69
    assert "nothing runs here" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_top_looks_as_often_as_told(publish: Publish, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish("instance", "hello")
    assert palatine("top", "--runtime-dir", str(tmp_path), "--count", "2", "--every", "0.01") == 0
    out = capsys.readouterr().out
    assert out.count("hello") == 2
    assert "0/s" in out
    assert "\033" not in out


def test_nested_runtime_directories_are_found(tmp_path: Path) -> None:
    for name in ("private-1", "up", "i", "other"):
        (tmp_path / name).mkdir()
    assert runtimes(str(tmp_path)) == [tmp_path, tmp_path / "private-1", tmp_path / "up"]


def test_picking_by_name(publish: Publish, tmp_path: Path) -> None:
    publish("instance", "hello")
    things = {tmp_path: look(tmp_path)}
    assert [thing.name for thing in pick(["hello"], things)] == ["hello"]
    with pytest.raises(PeerError, match="no 'helo' runs here; what does: hello"):
        pick(["helo"], things)
    with pytest.raises(PeerError, match="runs 2 times"):
        pick(["hello"], {**things, tmp_path / "x": things[tmp_path]})


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.9, "59 s"), (3600, "1 h"), (3661, "1 h 1 min"), (90061, "1 d 1 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_words_for_people() -> None:
    assert (counted(1, "workers"), counted(12345, "requests")) == ("1 worker", "12,345 requests")
    assert columns([("a", "bb", "c"), ("aaa", "b", "")]) == ["a    bb  c", "aaa  b"]
    assert columns([]) == []
    assert Paint(on=True).state("x ready y", "ready") == "x \033[32mready\033[0m y"


def test_operating_a_daemon(tmp_path: Path) -> None:
    tiny = Path(__file__).parent / "daemon_programs" / "tiny.py"
    environ = {**os.environ, "PALATINE_RUNTIME_DIR": str(tmp_path / "run"), "PALATINE_STATE_DIR": str(tmp_path / "s")}
    umbrella = [sys.executable, "-m", "palatine.cli"]

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*umbrella, *words], capture_output=True, text=True, check=False, env=environ)

    command = [sys.executable, str(tiny), "--called", "snmp-agent"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stderr
        for line in process.stderr:
            if "daemon.ready" in line:
                break
        try:
            nobody = run("reload")
            assert (nobody.returncode, nobody.stderr) == (
                2,
                "palatine reload: name some of these, or --all: snmp-agent\n",
            )
            assert run("reload", "snmp-agent").stdout == "snmp-agent: reloaded, reloads 1\n"
            assert run("log-level", "debug", "--all").stdout == "snmp-agent: level debug, before info\n"
            assert run("log-level", "snmp-agent", "info").stdout == "snmp-agent: level info, before debug\n"
            unknown = run("vassal", "list")
            assert (unknown.returncode, unknown.stderr[:40]) == (69, "palatine vassal: no 'emperor' runs here;")
            refused = run("alarm", "list")
            assert refused.returncode == 69
            assert run("stop", "snmp-agent").stdout == "snmp-agent: stopping, drain\n"
            process.stderr.read()
            assert process.wait() == 0
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize(("kind", "code", "told"), [("stop", 0, "app: stopped\n"), ("reload", 75, "")])
def test_who_is_gone_before_it_answers_has_stopped(
    kind: str, code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(operate_command._SECONDS, "reload", 1.0)

    async def leave(_request: Request) -> None:
        (tmp_path / "ctl").unlink()
        await trio.sleep_forever()

    async def ask() -> int:
        async with trio.open_nursery() as nursery:
            handlers = {kind: (Role.VIEWER, leave)}
            serve = functools.partial(serve_requests, tmp_path / "ctl", handlers, role_of=lambda *_: Role.VIEWER)
            await nursery.start(serve)
            answered = await operate_command.ask_all(kind, {}, [Found("instance", "app", tmp_path, "ready")])
            nursery.cancel_scope.cancel()
        return answered

    assert (trio.run(ask), capsys.readouterr().out) == (code, told)
