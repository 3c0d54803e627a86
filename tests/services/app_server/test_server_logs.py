"""The logs of a running instance: what is written where, and that nobody waits for it."""

import json
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

from app_server import AppServer
from running import Runner, wait_until

PRINTING = """
import os, sys
def more(environ):
    path = environ["PATH_INFO"]
    if path.startswith("/print/"):
        print(path[7:], file=sys.stderr)
    elif path == "/storm":
        for number in range(20000):
            sys.stderr.write("storm %d %s\\n" % (number, "x" * 100))
    elif path == "/large":
        print("L" * 3_000_000)
        sys.stdout.flush()
        os.write(2, b"D" * 1_000_000 + b"\\n")
    elif path == "/quiet":
        uwsgi.log("quietly")
    elif path == "/fail":
        raise ValueError
"""


class Logged(AppServer):
    """An instance whose address is known without its output."""

    def __init__(self, programs: Runner, *words: str, **extra: Any) -> None:
        super().__init__(programs, *words, app=PRINTING, listen=("--http-socket", "http.sock"), **extra)

    def address(self, number: int = 0) -> Any:
        del number
        return str(self.home / "http.sock")


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_loggers_routes_and_encoders(programs: Runner) -> None:
    home = programs.directory
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(home / "udp"))
        server.settimeout(30)
        app = Logged(
            programs,
            "--logger", f"file:{home}/all", "--logger", f"errors file:{home}/errors",
            "--log-route", "errors ERR", "--log-drain", "secret",
            "--log-encoder", 'json {"line":"${msg}"}', "--log-encoder", "nl",
            "--req-logger", f"socket:{home}/udp,req ",
            "--log-format", "%(method) %(uri) %(status) %(var.HTTP_X) %(wid)",
            "--log-date=%Y",
        )  # fmt: skip
        for path in ("/print/hello", "/print/ERR", "/print/secret"):
            app.get(path)
        requests = [server.recv(4096) for _ in range(3)]
    assert requests == [b"req GET /print/%s 200 - 1\n" % name for name in (b"hello", b"ERR", b"secret")]
    wait_until(lambda: text(home / "errors"), "the line of the named logger")
    assert [json.loads(line)["line"] for line in text(home / "errors").splitlines()] == ["ERR"]
    lines = [json.loads(line)["line"] for line in text(home / "all").splitlines()]
    assert "hello" in lines
    assert not {"ERR", "secret"} & set(lines)
    assert re.fullmatch(r"\d{4} - spawned uWSGI worker 1 .*", lines[lines.index("hello") - 1])
    assert not any("GET" in line for line in lines)


def test_only_what_a_filter_wants(programs: Runner) -> None:
    app = Logged(programs, "--disable-logging", "--log-5xx", "--logto", "mine.log")
    log = app.home / "mine.log"
    app.get("/")
    app.get("/fail")
    wait_until(lambda: "GET /fail => generated 21 bytes" in text(log), "the line of the 500")
    assert "GET / " not in text(log)
    assert text(log).startswith("*** Starting uWSGI 2.0.31")
    assert app.running.output() == ""


def test_rotation_by_touch_by_size_and_reopening_on_reload(programs: Runner) -> None:
    home = programs.directory
    touch = home / "rotate"
    touch.touch()
    os.utime(touch, (1, 1))
    app = Logged(
        programs, "--logto", "a.log", "--log-backupname", "a.old", "--touch-logrotate", str(touch), "--log-reopen",
        "--log-maxsize", "1000000",
    )  # fmt: skip
    log, old = app.home / "a.log", app.home / "a.old"
    wait_until(lambda: "spawned uWSGI worker 1" in text(log), "the first lines")
    touch.touch()
    wait_until(lambda: "triggering rotation to a.old..." in text(old), "the rotation")
    app.get("/print/after")
    wait_until(lambda: "after\n" in text(log), "a line in the new file")
    assert "Starting" not in text(log)
    log.rename(app.home / "moved")
    app.running.send(signal.SIGHUP)
    wait_until(lambda: "a.log reopened." in text(log), "the path opened anew")
    app.get("/storm")
    wait_until(lambda: text(old).endswith("triggering rotation to a.old...\n") and "storm" in text(old), "by size")


def test_without_log_master_a_reload_opens_the_path_for_new_workers(programs: Runner) -> None:
    app = Logged(programs, "--logto", "a.log", "--log-reopen")
    log = app.home / "a.log"
    wait_until(lambda: "spawned uWSGI worker 1" in text(log), "the first lines")
    log.rename(app.home / "moved")
    generation = app.generation()
    app.running.send(signal.SIGHUP)
    wait_until(lambda: app.generation() != generation, "the reload", 30)
    app.wait_ready()
    app.get("/print/after")
    wait_until(lambda: "after\n" in text(log), "a line in the new file")


def test_a_storm_of_one_worker_and_a_reader_that_does_not_read_keep_nobody(programs: Runner) -> None:
    reader, writer = os.pipe()
    try:
        app = Logged(programs, "--logger", f"fd:{writer}", "--disable-logging", processes=2, pass_fds=[writer])
        with app.connect() as storm:
            storm.send(b"GET /storm HTTP/1.1\r\nHost: h\r\n\r\n")
            for _ in range(50):
                assert app.get("/") == b"ok"
            assert storm.response()[1] == b"ok"
        wait_until(lambda: app.server()["log_dropped"] > 1000, "lines dropped")
        wait_until(lambda: app.server()["log_lines"] > 20000, "every line seen")
        assert app.get("/") == b"ok"
    finally:
        os.close(reader)
        os.close(writer)


def test_what_is_too_much_for_one_datagram_comes_in_several(programs: Runner) -> None:
    log = programs.directory / "large"
    app = Logged(programs, "--log-master", "--logto", str(log))
    assert app.get("/large") == b"ok"
    wait_until(lambda: "GET /large" in text(log), "the request's line")
    said = text(log)
    assert "L" * 3_000_000 + "\n" in said
    assert "D" * 1_000_000 + "\n" in said
    assert app.server()["log_dropped"] == 0
