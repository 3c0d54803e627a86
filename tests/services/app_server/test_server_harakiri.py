"""Requests that take too long: the client hears of it, the worker goes, the others are not harmed."""

import re
import signal
import time

import pytest

from app_server import AppServer, alive
from running import Runner, wait_until


def test_an_overdue_request_is_answered_and_its_worker_replaced(programs: Runner) -> None:
    server = AppServer(programs, "--harakiri", "1")
    old = server.pids()[0]
    with server.connect() as client:
        client.send(b"GET /wait/never?x=1 HTTP/1.1\r\nHost: h\r\n\r\n")
        head, body = client.response()
        assert head.startswith(b"HTTP/1.1 504 Gateway Timeout\r\nContent-Type: text/plain\r\n")
        assert b"Connection: close\r\n" in head
        assert body == b"The request took too long.\n"
        assert client.rest() == b""
    server.wait_other_worker(old)
    server.wait_ready()
    assert server.get() == b"ok"
    row = server.read("slots")[0]
    assert row["harakiri_count"] == 1
    assert row["respawn_count"] == 2
    output = server.running.output()
    dated = r"\w{3} \w{3} [ \d]\d [\d:]{8} \d{4} - "
    for line in (
        rf"{dated}\*\*\* HARAKIRI ON WORKER 1 \(pid: {old}, try: 1, graceful: yes\) \*\*\*",
        rf"{dated}HARAKIRI !!! worker 1 status !!!",
        rf"{dated}HARAKIRI \[core 0\] 127\.0\.0\.1 - GET /wait/never\?x=1 since \d+",
        rf"{dated}HARAKIRI !!! end of worker 1 status !!!",
        rf"{dated}HARAKIRI triggered by worker 1 core 0 !!!",
        rf"DAMN ! worker 1 \(pid: {old}\) died, .* :\( trying respawn \.\.\.",
        r"Respawned uWSGI worker 1 \(new pid: \d+\)",
    ):
        assert re.search(f"^{line}$", output, re.MULTILINE), line
    assert 'app.py", line' in output  # where it hangs


def test_a_c_call_that_holds_the_gil_is_killed_in_time(programs: Runner) -> None:
    """No handler of ours ever runs: the connection just closes, and the traceback is written all the same."""
    server = AppServer(programs, "--harakiri", "1")
    old = server.pids()[0]
    with server.connect() as client:
        client.send(b"GET /gil HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.rest() == b""
    server.wait_other_worker(old)
    server.wait_ready()
    assert server.get() == b"ok"
    assert "in application" in server.running.output()
    assert "died, killed by signal 9" in server.running.output()
    line = re.search(r"since (\d+)", server.running.output())
    assert line
    assert server.read("slots")[0]["last_spawn"] - int(line[1]) <= 3  # a deadline of one second, and two


def test_a_regular_expression_without_end(programs: Runner) -> None:
    """The `re` module looks for signals now and then, but only in the main thread."""
    server = AppServer(programs, "--harakiri", "1", threads=2)
    old = server.pids()[0]
    with server.connect() as one, server.connect() as other:
        one.send(b"GET /regex HTTP/1.1\r\nHost: h\r\n\r\n")
        other.send(b"GET /regex HTTP/1.1\r\nHost: h\r\n\r\n")
        answers = {one.rest()[:12], other.rest()[:12]}
    assert answers <= {b"", b"HTTP/1.1 504"}
    server.wait_other_worker(old)
    server.wait_ready()
    assert server.get() == b"ok"


def test_a_sibling_in_time_is_served_and_then_the_worker_goes(programs: Runner) -> None:
    server = AppServer(programs, "--harakiri", "2", threads=2)
    old = server.pids()[0]
    with server.connect() as overdue, server.connect() as sibling:
        overdue.send(b"GET /wait/never HTTP/1.1\r\nHost: h\r\n\r\n")
        server.entered("never")
        wait_until(lambda: sum(row["in_request"] for row in server.read("cores")) == 1, "one request")
        # a second later, so that the sibling still has a second when the other is overdue
        started = min(row["request_start_us"] for row in server.read("cores") if row["in_request"])
        wait_until(lambda: server.get("/pid") and now_us() - started > 1_000_000, "a second")
        sibling.send(b"GET /wait/it HTTP/1.1\r\nHost: h\r\n\r\n")
        server.entered("it")
        assert overdue.response()[0].startswith(b"HTTP/1.1 504 ")
        assert alive(old)
        server.let("it")
        assert sibling.response()[1] == b"ok"
        assert sibling.rest() == b""
    server.wait_other_worker(old)
    server.wait_ready()
    assert server.read("slots")[0]["harakiri_count"] == 1
    assert server.get() == b"ok"


def test_both_overdue_are_one_harakiri(programs: Runner) -> None:
    server = AppServer(programs, "--harakiri", "1", threads=2)
    with server.connect() as one, server.connect() as other:
        for client in (one, other):
            client.send(b"GET /wait/never HTTP/1.1\r\nHost: h\r\n\r\n")
        statuses = [client.response()[0][:12] for client in (one, other)]
    assert statuses == [b"HTTP/1.1 504"] * 2
    wait_until(lambda: server.read("slots")[0]["respawn_count"] == 2, "the respawn")
    server.wait_ready()
    assert server.read("slots")[0]["harakiri_count"] == 1
    assert server.running.output().count("HARAKIRI ON WORKER") == 1


def test_a_leaving_workers_overdue_request_does_not_bring_it_back(programs: Runner) -> None:
    server = AppServer(programs, "--harakiri", "2")
    old = server.pids()[0]
    with server.connect() as client:
        client.send(b"GET /wait/never HTTP/1.1\r\nHost: h\r\n\r\n")
        server.entered("never")
        server.running.send(signal.SIGHUP)
        wait_until(lambda: server.generation() == 2, "the new generation")
        assert client.response()[0].startswith(b"HTTP/1.1 504 ")
    wait_until(lambda: not alive(old), "its end")
    server.wait_ready()
    server.wait_processes(3)
    assert server.read("slots")[0]["respawn_count"] == 1  # of a reload, which is no respawn
    assert server.get() == b"ok"
    server.running.send(signal.SIGHUP)  # and the way is free for the next reload
    wait_until(lambda: server.generation() == 3, "the third generation")


def test_a_body_that_has_begun_is_just_cut(programs: Runner) -> None:
    app = """
    def application(environ, start_response):
        start_response("200 OK", [])
        yield b"begun"
        time.sleep(60)
    """
    server = AppServer(programs, "--harakiri", "1", app=app)
    with server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.rest().endswith(b"5\r\nbegun\r\n")


def now_us() -> int:
    return time.time_ns() // 1000


@pytest.mark.parametrize(
    ("code", "threads"), [("while True: pass", 1), ("while True: pass", 2), ("time.sleep(600)", 1)]
)
def test_a_python_loop_and_a_sleep_are_answered(programs: Runner, code: str, threads: int) -> None:
    app = f"def more(environ):\n    if environ['PATH_INFO'] == '/loop':\n        {code}"
    server = AppServer(programs, "--harakiri", "1", "--harakiri-verbose", app=app, threads=threads)
    old = server.pids()[0]
    with server.connect() as client:
        client.send(b"GET /loop HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.response()[0].startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
    server.wait_other_worker(old)
    server.wait_ready()
    assert server.get() == b"ok"
    verbose = (
        r"try: 1, graceful: yes\) \*\*\*\nHARAKIRI: -- syscall> .*\nHARAKIRI: -- wchan> .*\n.* HARAKIRI !!! worker 1"
    )
    assert re.search(verbose, server.running.output())


def test_a_harakiri_waits_for_a_queue(programs: Runner) -> None:
    server = AppServer(programs, "--harakiri", "1", "--harakiri-queue-threshold", "1")
    with server.connect() as client:
        client.send(b"GET /wait/it HTTP/1.1\r\nHost: h\r\n\r\n")
        text = "HARAKIRI: Skipping harakiri on worker 1. Listen queue is smaller than the threshold (0 < 1)"
        server.running.wait_for(text, 30)
        with server.connect() as waiting:
            waiting.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert client.response()[0].startswith(b"HTTP/1.1 504 ")
            assert waiting.response()[1] == b"ok"
    assert server.running.output().count("Skipping harakiri") == 1


def test_a_graceful_signal_comes_first(programs: Runner) -> None:
    app = """
    import signal
    def more(environ):
        if environ["PATH_INFO"] == "/long":
            signal.signal(signal.SIGALRM, lambda number, frame: print("a last word", flush=True))
            time.sleep(600)
    """
    words = ["--harakiri", "1", "--harakiri-graceful-timeout", "1", "--harakiri-graceful-signal", "14"]
    server = AppServer(programs, *words, app=app)
    old = server.pids()[0]
    with server.connect() as client:
        client.send(b"GET /long HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.response()[0].startswith(b"HTTP/1.1 504 ")
    server.wait_other_worker(old)
    output = server.running.output()
    assert re.search(
        r" - HARAKIRI: graceful termination attempt on worker 1 with signal 14. Next harakiri: [0-9]{10}\n", output
    )
    assert f"*** HARAKIRI ON WORKER 1 (pid: {old}, try: 1, graceful: yes) ***" in output
    assert f"*** HARAKIRI ON WORKER 1 (pid: {old}, try: 2, graceful: no) ***" in output
    assert server.read("slots")[0]["harakiri_count"] == 1
    assert "a last word" in output
