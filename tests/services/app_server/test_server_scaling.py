"""Cheaper, idle and recycling of a running server: workers come and go by need, and no client notices."""

import os
import signal
from functools import partial

import pytest

from app_server import AppServer, alive
from load import Load
from running import Runner, wait_until

#: An app that raises what the path names.
RAISING = """
def more(environ):
    if environ["PATH_INFO"] == "/raise":
        raise ValueError("no good")
"""


def running(server: AppServer) -> int:
    return sum(pid > 0 for pid in server.pids())


def wait_running(server: AppServer, count: int) -> None:
    wait_until(lambda: running(server) == count, f"{count} workers: {server.running.output()}", 30)


def cheap(programs: Runner, *words: str, processes: int = 4, app: str = "", count: int = 1) -> AppServer:
    """A server that is ready with `count` workers."""
    server = AppServer(programs, *words, processes=processes, wait=False, app=app)
    wait_until(lambda: server.state() == "ready", f"ready: {server.running.output()}", 30)
    wait_running(server, count)
    return server


def test_cheaper_starts_workers_for_those_who_wait_and_stops_them(programs: Runner) -> None:
    server = cheap(programs, "--cheaper", "1", "--cheaper-overload", "1", "--cheaper-step", "2")
    assert [row["cheaped"] for row in server.read("slots")] == [0, 1, 1, 1]
    clients = [server.connect() for _ in range(3)]
    try:
        for number, client in enumerate(clients):
            client.send(f"GET /wait/it{number} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        for number in range(3):  # none of them shares a worker, so all must have been started
            wait_until((server.home / f"it{number}.in").exists, f"request {number} in the app", 30)
        assert running(server) >= 3
        for number, client in enumerate(clients):
            server.let(f"it{number}")
            assert client.response()[1] == b"ok"
    finally:
        for client in clients:
            client.socket.close()
    wait_running(server, 1)
    assert sum(row["cheaped"] for row in server.read("slots")) == 3
    assert "cheaped." in server.running.output()
    assert "DAMN" not in server.running.output()
    before = server.generation()
    server.running.send(signal.SIGHUP)
    wait_until(lambda: server.generation() > before, "the reload", 30)
    wait_running(server, 1)
    assert server.get() == b"ok"


def test_cheaper_initial_and_its_limits(programs: Runner) -> None:
    server = cheap(programs, "--cheaper", "2", "--cheaper-initial", "9", "--cheaper-algo", "nonsense", count=4)
    output = server.running.output()
    assert "invalid cheaper-initial value (9), must be lower or equal than worker count (4)" in output
    assert "unable to find requested cheaper algorithm, falling back to spare" in output
    refused = AppServer(programs, "--cheaper", "4", processes=4, name="other", wait=False)
    assert refused.running.wait(20) == 78
    assert "invalid cheaper value: must be lower than processes" in refused.running.output()


def test_idle_workers_end_and_the_next_client_brings_them_back(programs: Runner) -> None:
    server = cheap(programs, "--idle", "1", processes=2, count=2)
    assert server.get() == b"ok"
    server.running.wait_for("cheap mode enabled: waiting for socket connection...", 30)
    wait_running(server, 0)
    assert "workers have been inactive for more than 1 seconds" in server.running.output()
    server.running.send(signal.SIGHUP)
    wait_until(lambda: server.generation() == 2, "a reload without workers", 30)
    assert running(server) == 0
    assert server.get() == b"ok"
    wait_running(server, 2)
    assert server.running.stop(signal.SIGTERM) == 0


def test_cheap_starts_with_nobody(programs: Runner) -> None:
    server = cheap(programs, "--cheap", "--cheaper", "1", processes=2, count=0)
    assert server.running.output().count("cheap mode enabled: waiting for socket connection...") == 1
    assert server.get() == b"ok"
    wait_running(server, 1)


def test_who_comes_to_a_paused_instance_without_workers_waits(programs: Runner) -> None:
    server = cheap(programs, "--cheap", processes=1, count=0)
    server.running.send(signal.SIGTSTP)
    wait_until(lambda: server.state() == "paused", "a pause", 30)
    with server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until(lambda: server.read("sockets")[0]["queue"] == 1, "a client in the queue", 30)
        assert running(server) == 0
        server.running.send(signal.SIGTSTP)
        assert client.response()[1] == b"ok"


def test_die_on_idle(programs: Runner) -> None:
    server = AppServer(programs, "--idle", "1", "--die-on-idle")
    assert server.running.wait(30) == 0
    assert "workers have been inactive for more than 1 seconds" in server.running.output()


def test_max_requests_loses_no_request(programs: Runner) -> None:
    words = ("--max-requests", "50", "--max-requests-delta", "10", "--min-worker-lifetime", "0")
    server = AppServer(programs, *words, processes=2)
    first = server.pids()
    with Load(server, 3) as load:
        wait_until(lambda: sum(row["respawn_count"] for row in server.read("slots")) >= 8, "recycled workers", 30)
    assert load.failures == []
    assert load.answers > 6 * 40
    wait_until(lambda: server.requests() == load.answers, "all counted")
    output = server.running.output()
    assert f"...The work of process {first[0]} is done. Seeya!" in output
    assert f"worker 1 killed successfully (pid: {first[0]})" in output
    assert "Respawned uWSGI worker 1 (new pid: " in output
    assert "DAMN" not in output


def test_a_young_worker_is_not_recycled(programs: Runner) -> None:
    server = AppServer(programs, "--max-requests", "1")
    pid = server.pids()
    for _ in range(5):
        assert server.get() == b"ok"
    assert server.pids() == pid


@pytest.mark.parametrize("option", ["--reload-on-rss", "--reload-on-as"])
def test_a_large_worker_leaves(programs: Runner, option: str) -> None:
    server = AppServer(programs, option, "1", "--min-worker-lifetime", "0")
    (pid,) = server.pids()
    with server.connect() as client:
        assert int(client.get("/pid")[1]) == pid
    server.wait_other_worker(pid)
    server.wait_ready()
    assert "DAMN" not in server.running.output()


def test_an_evil_worker_is_killed(programs: Runner) -> None:
    server = AppServer(programs, "--evil-reload-on-rss", "1", "--mem-collector-freq", "1")
    (pid,) = server.pids()
    server.wait_other_worker(pid)
    server.running.wait_for(f" (pid: {pid}) ***")
    assert "*** EVIL RELOAD ON WORKER 1 RSS: " in server.running.output()
    server.running.wait_for(f"DAMN ! worker 1 (pid: {pid}) died, killed by signal 9")


def test_workers_of_age_are_replaced_one_by_one(programs: Runner) -> None:
    words = ("--max-worker-lifetime", "2", "--min-worker-lifetime", "1", "--max-worker-lifetime-delta", "1")
    server = AppServer(programs, *words, processes=2)
    first = server.pids()
    with Load(server) as load:
        for index, pid in enumerate(first):
            server.wait_other_worker(pid, index)
    assert load.failures == []
    assert "lifetime reached, it was running for" in server.running.output()


@pytest.mark.parametrize(
    "words",
    [
        ("--reload-on-exception",),
        ("--reload-on-exception-type", "ValueError"),
        ("--reload-on-exception-value", "no good"),
        ("--reload-on-exception-repr", "ValueError: no good"),
    ],
)
def test_a_monitored_exception(programs: Runner, words: tuple[str, ...]) -> None:
    server = AppServer(programs, *words, app=RAISING)
    (pid,) = server.pids()
    with server.connect() as client:
        assert client.get("/raise")[0].startswith(b"HTTP/1.1 500 ")
    server.wait_other_worker(pid)
    server.running.wait_for(f"... monitored exception detected, respawning worker 1 (pid: {pid})...")


def test_a_recycled_worker_finishes_with_its_other_threads(programs: Runner) -> None:
    server = AppServer(programs, "--max-requests", "1", "--min-worker-lifetime", "0", threads=2)
    (pid,) = server.pids()
    with server.connect() as long:
        long.send(b"GET /wait/it HTTP/1.1\r\nHost: h\r\n\r\n")
        server.entered("it")
        assert int(server.get("/pid")) == pid
        server.running.wait_for("Seeya!")
        server.let("it")
        assert long.response()[1] == b"ok"
    server.wait_other_worker(pid)
    wait_until(partial(lambda gone: not alive(gone), pid), "its end")


def test_a_recycled_worker_that_hangs_is_killed_after_the_mercy(programs: Runner) -> None:
    words = ("--max-requests", "1", "--min-worker-lifetime", "0", "--worker-reload-mercy", "1")
    server = AppServer(programs, *words, threads=2)
    (pid,) = server.pids()
    with server.connect() as stuck:
        stuck.send(b"GET /wait/never HTTP/1.1\r\nHost: h\r\n\r\n")
        server.entered("never")
        assert server.get() == b"ok"
        server.wait_other_worker(pid)
    assert f"worker 1 (pid: {pid}) is taking too much time to die...NO MERCY !!!" in server.running.output()


def test_memory_is_measured(programs: Runner) -> None:
    server = AppServer(programs, "--memory-report", "--mem-collector-freq", "1")

    def measured() -> bool:
        (row,) = server.read("slots")
        return row["vsz"] > row["rss"] > row["pss"] > row["uss"] > 0

    wait_until(measured, "figures of the worker", 30)
    os.kill(server.pids()[0], signal.SIGKILL)
    wait_until(measured, "figures of its successor", 30)
