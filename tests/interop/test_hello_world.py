"""Seed 001: the hello-world app of the tutorial, byte for byte, under wrk, uwsgitop and signals."""

import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from running import Runner, Running, get, program, run, wait_until

pytestmark = [pytest.mark.interop, pytest.mark.alone("seed-001")]

EXAMPLE = Path(__file__).parents[2] / "deploy" / "examples" / "hello-world"
CONFIG = "uwsgi-hello-world-configs.ini"
APP = "http://127.0.0.1:9090/"
STATS = "http://127.0.0.1:9191/"
REQUEST_LINE = re.compile(
    r"^\[pid: \d+\|app: 0\|req: \d+/\d+\] 127\.0\.0\.1 \(\) \{\d+ vars in \d+ bytes\} "
    r"\[\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\] GET / => generated 11 bytes in 2[5-9]\d msecs "
    r"\(HTTP/1\.1 200\) 1 headers in 44 bytes \(1 switches on core [01]\)$",
    re.MULTILINE,
)


def stats() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(get(STATS))
    return document


def serve(programs: Runner, *words: str) -> Running:
    shutil.copytree(EXAMPLE, programs.directory / "app")
    server = programs.start("palatine", *words, cwd=programs.directory / "app")
    wait_until(lambda: all(worker["accepting"] for worker in stats()["workers"]), "four workers accepting")
    return server


@pytest.mark.parametrize("words", [("--ini", CONFIG), (CONFIG,)], ids=["option", "bare"])
def test_it_serves_and_shows_its_stats(programs: Runner, words: tuple[str, ...]) -> None:
    server = serve(programs, *words)
    assert get(APP) == "Hello World"
    document = stats()
    assert document["version"] == "2.0.31"
    assert document["pid"] == server.pid
    assert [worker["id"] for worker in document["workers"]] == [1, 2, 3, 4]
    assert all(len(worker["cores"]) == 2 for worker in document["workers"])
    assert sum(worker["requests"] for worker in document["workers"]) == 1
    assert [socket["name"] for socket in document["sockets"]] == ["127.0.0.1:9090"]
    wait_until(lambda: REQUEST_LINE.search(server.output()), "the request line")
    assert server.stop(signal.SIGINT) == 0
    assert not list((programs.runtime / "i").glob("*"))
    assert not list(programs.runtime.glob("private-*"))


def test_it_is_saturated_and_loses_nothing_under_wrk(programs: Runner) -> None:
    serve(programs, CONFIG)
    load = programs.start("wrk", "-t2", "-c16", "-d8s", APP)

    def saturated() -> bool:
        workers = stats()["workers"]
        busy = sum(worker["status"] == "busy" for worker in workers)
        return busy == 4 and sum(core["in_request"] for worker in workers for core in worker["cores"]) == 8

    wait_until(saturated, "eight cores in request and four workers busy")
    assert load.wait(20) == 0
    found = re.search(r"(\d+) requests in", load.output())
    assert found, load.output()
    assert "Socket errors" not in load.output()
    wait_until(lambda: all(worker["status"] == "idle" for worker in stats()["workers"]), "idle workers")
    workers = stats()["workers"]
    assert abs(sum(worker["requests"] for worker in workers) - int(found[1])) <= 16
    for worker in workers:
        assert worker["requests"] >= 20
        assert 245_000 <= worker["avg_rt"] <= 265_000


def test_uwsgitop_shows_it_live(programs: Runner) -> None:
    serve(programs, CONFIG)
    for _ in range(3):
        get(APP)
    screen = programs.directory / "screen"
    command = f"stty cols 160 rows 50; timeout --foreground 3 {program('uwsgitop')} {STATS}"
    programs.start("script", "-qec", command, str(screen), environ={"TERM": "xterm"}).wait(10)
    text = re.sub(r"\x1b[\[(][0-9;?]*[A-Za-z]", " ", screen.read_text(errors="replace"))
    assert "uwsgi-2.0.31" in text
    assert "Running workers: 4" in text or re.search(r"req: 3\b", text), text[:2000]


def test_a_killed_worker_comes_back_with_its_counters(programs: Runner) -> None:
    server = serve(programs, CONFIG)
    for _ in range(4):
        get(APP)
    before = {worker["id"]: worker for worker in stats()["workers"]}
    victim = max(before.values(), key=lambda worker: worker["requests"])
    os.kill(victim["pid"], signal.SIGKILL)

    def respawned() -> dict[str, Any] | None:
        worker: dict[str, Any] = stats()["workers"][victim["id"] - 1]
        return worker if worker["accepting"] and worker["pid"] not in {0, victim["pid"]} else None

    worker = wait_until(respawned, "the respawn")
    assert worker is not None
    assert worker["requests"] == victim["requests"]
    assert worker["running_time"] == victim["running_time"]
    assert worker["delta_requests"] == 0
    assert worker["respawn_count"] == victim["respawn_count"] + 1
    server.wait_for(f"Respawned uWSGI worker {victim['id']} (new pid: {worker['pid']})")
    assert f"worker {victim['id']} (pid: {victim['pid']}) died, killed by signal 9" in server.output()


def test_term_drains_what_is_being_served(programs: Runner) -> None:
    server = serve(programs, CONFIG)
    client = programs.start("curl", "-sS", "-i", APP)
    wait_until(
        lambda: any(core["in_request"] for worker in stats()["workers"] for core in worker["cores"]), "a request"
    )
    server.send(signal.SIGTERM)
    assert client.wait() == 0
    assert client.output().endswith("Hello World")
    assert server.wait() == 0


def test_hup_reloads_without_losing_a_request(programs: Runner) -> None:
    server = serve(programs, CONFIG)
    load = programs.start("wrk", "-t1", "-c4", "-d5s", APP)
    for generation in (2, 3, 4):
        pids = {worker["pid"] for worker in stats()["workers"]}
        server.send(signal.SIGHUP)
        wait_until(
            lambda pids=pids: not pids & {worker["pid"] for worker in stats()["workers"]}, f"generation {generation}"
        )
    assert load.wait(20) == 0
    assert "Socket errors" not in load.output(), load.output()
    found = re.search(r"(\d+) requests in", load.output())
    assert found
    wait_until(
        lambda: sum(worker["requests"] for worker in stats()["workers"]) >= int(found[1]), "counters that survived"
    )
    assert server.pid == stats()["pid"]


def test_the_request_line_is_uwsgis_own(programs: Runner, tmp_path: Path) -> None:
    """The same three requests to both: every figure of the line but pid, time and duration is equal."""
    app = tmp_path / "app.py"
    app.write_text(
        "def application(environ, start_response):\n"
        "    start_response('404 Not Found' if environ['PATH_INFO'] == '/no' else '200 OK',\n"
        "                   [('Content-Type', 'text/plain'), ('X-One', '1')])\n"
        "    return [b'x' * 100]\n"
    )
    lines = []
    for name, extra in (("uwsgi-core", ["--plugin", "python3"]), ("palatine-app-server", [])):
        port = 9090
        server = programs.start(
            name, *extra, "--http-socket", f"127.0.0.1:{port}", "--wsgi-file", str(app), "--master", cwd=tmp_path
        )
        wait_until(lambda: get(APP), f"{name} to serve")
        for path in ("a?b=c", "no"):
            run("curl", "-sS", "-A", "agent", f"{APP}{path}")
        run("curl", "-sS", "-A", "agent", "-d", "posted", APP)
        wait_until(lambda server=server: server.output().count("] 127.0.0.1 ()") >= 4, "the request lines")
        found = [line for line in server.output().splitlines() if "] 127.0.0.1 ()" in line and "agent" not in line]
        lines.append([normalised(line) for line in found[-3:]])
        assert server.stop(signal.SIGINT) == 0
    assert lines[0] == lines[1]


def normalised(line: str) -> str:
    line = re.sub(r"pid: \d+", "pid: P", line)
    line = re.sub(r"req: \d+/\d+", "req: R/T", line)
    line = re.sub(r"\[\w{3} \w{3} .*?\d{4}\]", "[TIME]", line)
    return re.sub(r"in \d+ msecs", "in M msecs", line)
