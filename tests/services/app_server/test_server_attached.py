"""Attached daemons, and an instance that leaves its terminal: who starts with whom, and who ends with whom."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from app_server import AppServer, alive, for_everybody
from palatine_app_server.supervision.attached_policy import Wait, after_end, shell_line
from running import Runner, free_port, get, run, wait_until


@pytest.mark.parametrize(
    ("lived", "throttle", "wait"),
    [
        (60.0, 9, Wait(0, 0.0)),
        (0.0, 0, Wait(1, 1.0)),
        (2.9, 1, Wait(3, 3.0)),
        (1.0, 8, Wait(8, 8.0)),  # no longer than `max_throttle`
    ],
)
def test_throttle(lived: float, throttle: int, wait: Wait) -> None:
    assert after_end(lived, throttle, 8) == wait


def pid_in(path: Path) -> int:
    """The process a file names, once it does."""
    return wait_until(lambda: path.read_text().endswith("\n") and int(path.read_text()), f"a pid in {path}", 30)


def ended(pid: int) -> None:
    wait_until(lambda: not alive(pid), f"the end of {pid}", 30)


def test_a_daemon_lives_and_ends_with_its_instance(programs: Runner) -> None:
    mark = programs.directory / "daemon"
    command = f"echo $$ >{mark}; while :; do sleep 60; done"
    server = AppServer(programs, "--attach-daemon", command)
    first = pid_in(mark)
    assert server.read("daemons") == [{"pid": first, "respawns": 0, "last_spawn": 0}]
    assert f'[uwsgi-daemons] spawning "{command}" (uid: {os.getuid()} gid: {os.getgid()})' in server.running.output()
    generation = server.generation()
    server.running.send(signal.SIGHUP)
    wait_until(lambda: server.generation() > generation, "a reload", 30)
    assert alive(first)
    os.kill(first, signal.SIGKILL)
    server.running.wait_for(f'[uwsgi-daemons] throttling "{command}"')
    wait_until(lambda: pid_in(mark) != first, "another", 30)
    second = pid_in(mark)
    wait_until(lambda: server.read("daemons")[0] == {"pid": second, "respawns": 1, "last_spawn": 0}, "its row", 30)
    assert server.running.stop(signal.SIGTERM) == 0
    assert not alive(second)
    assert f"[uwsgi-daemons] stopping daemon (pid: {second}): {command}" in server.running.output()


def test_a_daemon_that_will_not_end_is_killed(programs: Runner) -> None:
    mark = programs.directory / "daemon"
    command = f"trap '' TERM; echo $$ >{mark}; while :; do sleep 60; done"
    server = AppServer(programs, "--reload-mercy", "1", "--attach-daemon", command)
    pid = pid_in(mark)
    assert server.running.stop() == 0
    assert not alive(pid)
    assert f"[uwsgi-daemons] daemon did not die in time, killing (pid: {pid})" in server.running.output()


def test_a_daemon_does_not_outlive_a_killed_master(programs: Runner) -> None:
    mark = programs.directory / "daemon"
    server = AppServer(programs, "--attach-daemon", f"echo $$ >{mark}; exec sleep 600")
    pid = pid_in(mark)
    server.running.send(signal.SIGKILL)
    ended(pid)


def test_the_instance_ends_with_a_control_daemon(programs: Runner) -> None:
    mark = programs.directory / "daemon"
    server = AppServer(programs, "--attach-control-daemon", f"echo $$ >{mark}; exec sleep 600")
    os.kill(pid_in(mark), signal.SIGKILL)
    assert server.running.wait(30) == 0


def test_key_values(programs: Runner) -> None:
    mark, touched, signals = (programs.directory / name for name in ("daemon", "touched", "signals"))
    work = programs.directory / "work"
    work.mkdir()
    script = work / "daemon.sh"
    script.write_text(
        f"trap 'echo USR1 >>{signals}' USR1; trap 'echo USR2 >>{signals}; exit' USR2; pwd >{signals}; echo $$ >{mark}\n"
        "while :; do sleep 0.1; done\n"
    )
    touched.touch()
    words = f"cmd=sh daemon.sh,chdir={work},stopsignal=12,reloadsignal=10,touch={touched},max_throttle=1"
    server = AppServer(programs, "--attach-daemon2", words)
    first = pid_in(mark)
    server.running.send(signal.SIGHUP)
    wait_until(lambda: signals.read_text().split() == [str(work), "USR1"], "the signal of a reload", 30)
    assert pid_in(mark) == first
    stamp = touched.stat().st_mtime + 5
    os.utime(touched, (stamp, stamp))
    wait_until(lambda: signals.read_text().split()[:2] == [str(work), "USR2"] or pid_in(mark) != first, "a touch", 30)
    wait_until(lambda: pid_in(mark) != first and alive(pid_in(mark)), "its successor", 30)
    assert server.running.stop() == 0
    assert signals.read_text().split() == [str(work), "USR2"]


def test_what_a_daemon_leaves_behind_ends_before_its_successor_comes(programs: Runner) -> None:
    mark = programs.directory / "left"
    script = programs.directory / "leaving.sh"
    script.write_text(f"sleep 600 & echo $! >>{mark}; sleep 0.2\n")
    AppServer(programs, "--attach-daemon", f"sh {script}")
    wait_until(lambda: len(mark.read_text().split()) > 1, "a second start")
    first = int(mark.read_text().split()[0])
    wait_until(lambda: not alive(first), "the end of what the first left")


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("memcached -p 11311 -u nobody", "exec memcached -p 11311 -u nobody"),
        ("/usr/bin/celery worker --broker=redis://x:1/0", "exec /usr/bin/celery worker --broker=redis://x:1/0"),
        ("A=1 memcached", "A=1 memcached"),
        ("sleep 1; date", "sleep 1; date"),
        ("echo $HOME", "echo $HOME"),
        ("a 'b c'", "a 'b c'"),
        ("a > /tmp/b", "a > /tmp/b"),
        ("", ""),
    ],
)
def test_a_plain_program_has_no_shell_beside_it(command: str, line: str) -> None:
    assert shell_line(command) == line


@pytest.mark.parametrize("option", ["--smart-attach-daemon", "--smart-attach-daemon2"])
def test_a_smart_daemon_outlives_its_instance(programs: Runner, option: str) -> None:
    pidfile = programs.directory / "smart.pid"
    script = programs.directory / "smart.sh"
    itself = f"setsid sh -c 'echo $$ >{pidfile}; exec sleep 600' >/dev/null 2>&1 &\n"
    script.write_text(itself if option.endswith("daemon") else "exec sleep 600\n")  # the other one's is ours to write
    words = [option, f"{pidfile} sh {script}"]
    server = AppServer(programs, *words)
    pid = pid_in(pidfile)
    try:
        assert server.running.stop() == 0
        assert alive(pid)
        again = AppServer(programs, *words)
        text = f'[uwsgi-daemons] found valid/active pidfile for "sh {script}" (pid: {pid})'
        again.running.wait_for(text)
        assert pid_in(pidfile) == pid
    finally:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--attach-daemon2", "pidfile=/x"], "attach-daemon2 needs a command"),
        (["--attach-daemon2", "cmd=x,nonsense=1"], "unknown key 'nonsense'"),
        (["--attach-daemon2", "cmd=x,stopsignal=99"], "there is no signal 99"),
        (["--smart-attach-daemon", "/only/a/pidfile"], "invalid smart-attach-daemon syntax: /only/a/pidfile"),
        (["--umask", "9"], "umask takes an octal mode, not '9'"),
    ],
)
def test_wrong_words(programs: Runner, words: list[str], text: str) -> None:
    server = AppServer(programs, *words, wait=False)
    assert server.running.wait(30) == 78
    assert text in server.running.output()


# ---------------------------------------------------------------------- daemonize


def background(programs: Runner, option: str, app: str) -> tuple[subprocess.CompletedProcess[str], Path, int]:
    """Start an instance that leaves the terminal; how that ended, its log, its port."""
    (programs.directory / "app.py").write_text(app)
    log, port = programs.directory / "back.log", free_port()
    words = ["--http-socket", f"127.0.0.1:{port}", "--wsgi-file", "app.py", "--need-app", option, str(log)]
    words += ["--pidfile", str(programs.directory / "pid"), "--umask", "027"]
    environ = {**os.environ, **programs.environ()}
    done = run("palatine-app-server", *words, cwd=programs.directory, env=environ, check=False)
    return done, log, port


APP = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'here']\n"


@pytest.mark.parametrize("option", ["--daemonize", "--daemonize2"])
def test_an_instance_leaves_the_terminal(programs: Runner, option: str) -> None:
    done, log, port = background(programs, option, APP)
    assert done.returncode == 0, done
    if option == "--daemonize2":
        assert get(f"http://127.0.0.1:{port}/") == "here"  # no waiting: it serves
    pid = pid_in(programs.directory / "pid")
    try:
        wait_until(lambda: get(f"http://127.0.0.1:{port}/") == "here", "an answer", 30)
        assert os.getsid(pid) not in {pid, os.getsid(0)}
        wait_until(lambda: "spawned uWSGI worker 1" in log.read_text(), "the master's line about its worker")
        assert (programs.directory / "pid").stat().st_mode & 0o777 == 0o640
        assert os.readlink(f"/proc/{pid}/fd/1") == str(log)
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: log.read_text().count("spawned uWSGI worker 1") == 2, "a reload", 30)
    finally:
        os.kill(pid, signal.SIGINT)
        ended(pid)


def test_daemonize2_knows_of_a_failure(programs: Runner) -> None:
    done, log, _port = background(programs, "--daemonize2", "raise ValueError('broken')")
    assert done.returncode == 1
    assert "ValueError: broken" in log.read_text()


# ---------------------------------------------------------------------- rights

TELLING = """
import json, os
def application(environ, start_response):
    start_response('200 OK', [])
    return [json.dumps([os.getuid(), os.getgid(), sorted(os.getgroups())]).encode()]
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("words", "worker", "master"),
    [
        (["--uid", "nobody", "--gid", "nogroup", "--no-initgroups", "--memory-report"], [65534, 65534, []], 65534),
        (
            ["--uid", "nobody", "--gid", "65534", "--add-gid", "audio", "--add-gid", "44"],
            [65534, 65534, [29, 44]],
            65534,
        ),
        (["--uid", "65534", "--gid", "65534", "--master-as-root"], [65534, 65534, []], 0),
        (["--immediate-uid", "nobody", "--immediate-gid", "nogroup"], [65534, 65534, []], 65534),
    ],
)
def test_rights(programs: Runner, words: list[str], worker: list[object], master: int) -> None:
    home = programs.directory / "app"
    home.mkdir()
    (home / "app.py").write_text(TELLING)
    sockets = () if "--immediate-uid" in words else ("--socket", "app.sock", "--chmod-socket=660")
    server = AppServer(programs, *words, *sockets, **for_everybody(programs))
    with server.connect() as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert json.loads(client.rest().rpartition(b"\r\n")[2]) == worker
    if sockets:  # a front end of the same user may connect: uWSGI binds after it has dropped its privileges
        file = (server.home / "app.sock").stat()
        assert (file.st_uid, file.st_gid, file.st_mode & 0o777) == (master, master, 0o660)
    status = Path(f"/proc/{server.pid}/status").read_text()
    assert f"Uid:\t{master}\t" in status
    if "--memory-report" in words:  # who has changed its user may not be looked into, unless it says so
        wait_until(lambda: server.read("slots")[0]["pss"] > 0, "the worker's share of memory", 30)
