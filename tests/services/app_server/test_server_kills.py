"""Constant load while workers are recycled, scaled, reloaded and killed; and what raises alarms or starts anew."""

import os
import signal

import pytest

from app_server import AppServer, for_everybody
from load import Load
from running import Runner, wait_until


def test_nobody_notices_reloads_recycling_and_scaling_at_once(programs: Runner) -> None:
    fifo = programs.directory / "fifo"
    words = ["--max-requests", "100", "--min-worker-lifetime", "0", "--cheaper", "1", "--cheaper-initial", "2"]
    words += ["--cheaper-algo", "manual"]
    server = AppServer(programs, *words, "--master-fifo", str(fifo), processes=3, threads=2, wait=False)
    wait_until(lambda: server.state() == "ready", "ready", 30)
    with Load(server, 3) as load:
        for number in range(2, 12):
            if number % 3:
                server.running.send(signal.SIGHUP)
            else:
                fifo.write_text("c")
            wait_until(lambda wanted=number: server.generation() >= wanted, f"generation {number}", 60)  # type: ignore[misc]
            wait_until(lambda: server.state() == "ready", "ready", 30)
            fifo.write_text("+-"[number % 2])
        wait_until(lambda: fifo.write_text("-") and "cheaped." in server.running.output(), "one worker less")
        fifo.write_text("+-")
        wait_until(lambda: "cheaped." in server.running.output(), "a worker less", 30)
    assert load.failures == []
    assert load.answers > 500
    output = server.running.output()
    assert "DAMN" not in output
    assert "NO MERCY" not in output
    assert "Seeya!" in output
    assert server.server()["reload_failures"] == 0


LIAR = """
import json, os, socket

def tell(victim):
    "Every socket that is the master's other end hears of a worker, and of a mule, that is somebody else."
    for name in os.listdir("/proc/self/fd"):
        try:
            end = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        with end:
            if end.family == socket.AF_UNIX and end.type == socket.SOCK_SEQPACKET:
                for birth in ({"op": "spawned", "worker": 1}, {"op": "aide", "role": "mule", "number": 1}):
                    end.send(json.dumps({**birth, "pid": victim}).encode())

tell(int(open(os.path.join(HERE, "victim")).read()))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only a root master could signal anybody")
def test_a_root_master_signals_nobody_an_app_calls_its_own(programs: Runner) -> None:
    victim = programs.start("sleep", "1000")
    (programs.directory / "app").mkdir()
    (programs.directory / "app" / "victim").write_text(str(victim.pid))
    words = ["--master-as-root", "--uid", "nobody", "--gid", "nogroup"]
    server = AppServer(programs, *words, app=LIAR, **for_everybody(programs))
    said = f"*** a process of generation 1 says it is {victim.pid}, which is no child of ours: passed over ***"
    assert server.running.output().count(said) == 2
    assert server.get() == b"ok"
    assert server.pids()[0] != victim.pid
    assert victim.process.poll() is None


def test_nobody_notices_a_killed_zygote(programs: Runner) -> None:
    server = AppServer(programs, "--max-requests", "50", "--min-worker-lifetime", "0", processes=2)
    with Load(server, 2) as load:
        for _ in range(3):
            zygote = server.zygote()
            os.kill(zygote, signal.SIGKILL)
            server.wait_other_zygote(zygote)
    assert load.failures == []


def test_a_readable_descriptor_raises_an_alarm(programs: Runner) -> None:
    reader, writer = os.pipe()
    try:
        words = ["--alarm", "tell log:fd", "--alarm-fd", f"tell {reader}:8 somebody wrote"]
        server = AppServer(programs, *words, "--alarm-fd", "tell 999 nobody", pass_fds=(reader,))
        assert "alarm-fd: descriptor 999: Bad file descriptor" in server.running.output()
        os.write(writer, b"12345678")
        wait_until(lambda: server.server()["alarms_raised"] == 1, "the alarm", 30)
    finally:
        os.close(reader)
        os.close(writer)


STILLBORN = """
import os, pathlib
from palatine_app_server.system import linux

born = pathlib.Path(HERE, "born")
die_with_parent = linux.die_with_parent

def die_once(*words):
    if not born.exists():
        born.touch()
        os._exit(1)
    die_with_parent(*words)

linux.die_with_parent = die_once
"""


def test_a_worker_that_dies_without_a_word_is_started_again(programs: Runner) -> None:
    server = AppServer(programs, app=STILLBORN)
    assert (server.home / "born").exists()
    assert server.get() == b"ok"
    assert "worker 1 (pid: " in server.running.wait_for("died, exit status 1")


def test_a_readable_descriptor_reloads(programs: Runner) -> None:
    gentle, brutal = os.pipe(), os.pipe()
    ends = (*gentle, *brutal)
    try:
        words = ["--reload-on-fd", f"fd://{gentle[0]}:4", "--brutal-reload-on-fd", str(brutal[0])]
        server = AppServer(programs, *words, pass_fds=ends)
        os.write(gentle[1], b"1234")
        wait_until(lambda: server.generation() == 2, "a reload", 30)
        wait_until(lambda: server.state() == "ready", "ready", 30)
        with server.connect() as client:
            client.send(b"GET /wait/it HTTP/1.1\r\nHost: h\r\n\r\n")
            server.entered("it")
            os.write(brutal[1], b"1")
            assert client.rest() == b""
        wait_until(lambda: server.generation() == 3, "another", 30)
        assert server.read("slots")[0]["respawn_count"] == 1  # a reload is no respawn
    finally:
        for end in ends:
            os.close(end)
