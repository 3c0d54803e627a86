"""What the command line asks for besides serving, beside the real uwsgi where that has an answer of its own."""

import signal
import subprocess
from pathlib import Path

import pytest

from app_server import AppServer
from palatine.exits import FAILURE
from running import Runner, run, wait_until

#: Words both understand alike; %(a) and the files are the same for both.
SAME = [
    ("--get", "processes", "-p", "3", "-p", "4"),
    ("--get", "nope", "--get", "chdir", "--chdir", "/"),
    ("--ini", "print.ini"),
    ("--extract", "print.ini"),
    ("--extract", "exec://echo one"),
    ("--ping", "127.0.0.1:1"),
    ("--signal", "127.0.0.1:1,3"),
    ("--fallback-config", "other.ini", "--ini", "exit.ini"),
    ("--ini", "falls.ini"),
]


def said(program: str, words: tuple[str, ...], directory: Path) -> tuple[int, str]:
    done = run(program, *words, check=False, cwd=directory, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout


@pytest.mark.interop
@pytest.mark.parametrize("words", SAME, ids=" ".join)
def test_answers_are_uwsgis(words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "print.ini").write_text(
        "[uwsgi]\nset-ph = a=1\nprint = late %(a)\niprint = early %(a)\nget = processes\nprocesses = %(a)2\n"
    )
    (tmp_path / "exit.ini").write_text("[uwsgi]\nexit = 1\n")
    (tmp_path / "falls.ini").write_text("[uwsgi]\nfallback-config = other.ini\nexit = 1\n")
    (tmp_path / "other.ini").write_text("[uwsgi]\nprint = another\nno-server = 1\n")
    ours = said("palatine-app-server", words, tmp_path)
    assert ours == said("uwsgi", words, tmp_path)


@pytest.mark.parametrize(
    ("option", "names"),
    [
        ("--cheaper-algo-list", "spare backlog busyness manual"),
        ("--alarm-list", "cmd signal mule log curl"),
        ("--logger-list", "file syslog rsyslog socket fd stdio"),
        ("--router-list", "redirect goto static addheader"),
        ("--clock-list", "unix"),
        ("--loop-list", "simple"),
        ("--plugins-list", "python3 http router_static"),
        ("--imperial-monitor-list", "dir glob"),
    ],
)
def test_lists(option: str, names: str) -> None:
    done = run("palatine-app-server", option, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == FAILURE  # and then it misses a socket, as uWSGI does
    assert set(names.split()) <= set(done.stderr.split())


def test_what_there_is() -> None:
    assert "static-map" in run("palatine-app-server", "--dump-options").stdout.split()
    assert "(uWSGI 2.0.31)" in run("palatine-app-server", "-M", "--version").stdout
    assert run("palatine-app-server", "--python-version").stdout.startswith("3.")


def test_another_instance_is_paused_and_pinged(programs: Runner) -> None:
    server = AppServer(programs, "--pidfile", "my.pid", listen=("--socket", "127.0.0.1:0"))
    host, port = server.address()
    assert run("palatine-app-server", "--ping", f"{host}:{port}").returncode == 0
    assert run("palatine-app-server", "--nagios", "--socket", f"{host}:{port}").stdout == "UWSGI OK: armed and ready\n"
    pidfile = str(server.home / "my.pid")
    run("palatine-app-server", "--pause", pidfile)
    wait_until(lambda: server.state() == "paused", "the pause")
    run("palatine-app-server", "--resume", pidfile)
    wait_until(lambda: server.state() == "ready", "its end")
    assert server.running.stop(signal.SIGINT) == 0


def test_what_nagios_reads(tmp_path: Path) -> None:
    assert said("palatine-app-server", ("--nagios",), tmp_path)[0] == 3
    code, text = said("palatine-app-server", ("--nagios", "--socket", "127.0.0.1:1"), tmp_path)
    assert code == 2
    assert text.startswith("UWSGI CRITICAL: could not connect() to workers")
