"""Mules and farms of a running server: messages, programs, and what happens to them at reloads and deaths."""

import os
import signal

from api_app import CALLING_APP, call, events, wait_event
from app_server import AppServer, alive
from running import Runner, wait_until

APP = (
    CALLING_APP
    + """
def message(data):
    note(who(), data.decode())
    if data.startswith(b"wait "):
        waits_for(data[5:].decode())
        note(who(), "after", data.decode())
    if data == b"fail":
        raise ValueError("the hook failed")

uwsgi.mule_msg_hook = message
"""
)


def pids(server: AppServer) -> list[int]:
    return [row["pid"] for row in server.read("mules")]


def wait_mules(server: AppServer, *old: int) -> list[int]:
    wait_until(lambda: all(pids(server)) and not set(pids(server)) & set(old), "the mules", 30)
    return pids(server)


def test_messages(programs: Runner) -> None:
    server = AppServer(programs, "--mules", "2", "--farm", "f:1,2", "--farm", "g:2", app=APP)
    wait_mules(server)
    assert call(server, "uwsgi.mule_msg(b'one', 1)") is True
    wait_event(server, "mule1 one")
    assert call(server, "uwsgi.mule_msg('two', 2)") is True
    wait_event(server, "mule2 two")
    assert call(server, "uwsgi.mule_msg(b'for g', 'g')") is True
    assert call(server, "uwsgi.farm_msg('g', b'for g too')") is None
    wait_event(server, "mule2 for g")
    wait_event(server, "mule2 for g too")
    assert call(server, "uwsgi.mule_msg(b'anybody')") is True
    wait_until(lambda: {"mule1 anybody", "mule2 anybody"} & set(events(server)), "one of them")
    call(server, "uwsgi.mule_msg(b'fail', 1)")
    server.running.wait_for("ValueError: the hook failed")
    assert call(server, "uwsgi.mule_msg(b'x', 'unknown')") == "ValueError: unknown farm"
    assert call(server, "uwsgi.mule_msg(b'x', 3)") == "ValueError: invalid mule number"
    assert call(server, "uwsgi.mule_msg(b'x', 1.5)") == "ValueError: invalid mule"
    assert call(server, "uwsgi.mule_msg(5)").startswith("TypeError")
    assert call(server, "uwsgi.mule_get_msg()").startswith("ValueError: you can receive mule messages only in a mule")
    assert call(server, "(uwsgi.mule_id(), uwsgi.in_farm('f'))") == (0, None)
    assert sum(row["messages"] for row in server.read("mule_work")) == 6


def test_without_mules(programs: Runner) -> None:
    server = AppServer(programs, app=CALLING_APP)
    assert call(server, "uwsgi.mule_msg(b'x')") == "ValueError: no mule configured"


def test_a_full_queue_says_so_and_what_waits_survives_a_killed_mule(programs: Runner) -> None:
    server = AppServer(programs, "--mules", "1", app=APP)
    (old,) = wait_mules(server)
    call(server, "uwsgi.mule_msg(b'wait long', 1)")
    wait_until((server.home / "long.in").exists, "the hook")
    filled = call(server, "[uwsgi.mule_msg(b'm%d' % number, 1) for number in range(2000)]")
    assert filled[0] is True
    assert filled[-1] is False
    assert "*** MULE MSG QUEUE IS FULL: buffer size" in server.running.output()
    os.kill(old, signal.SIGKILL)
    wait_mules(server, old)
    wait_event(server, f"mule1 m{filled.count(True) - 1}")
    assert f"OOOPS mule 1 (pid: {old}) crippled...trying respawn..." in server.running.output()
    assert server.read("mules")[0]["respawn_count"] == 2


def test_a_reload_lets_a_mule_finish_and_no_two_share_its_place(programs: Runner) -> None:
    server = AppServer(programs, "--mules", "2", app=APP)
    busy, idle = wait_mules(server)
    call(server, "uwsgi.mule_msg(b'wait it', 1)")
    wait_until((server.home / "it.in").exists, "the hook")
    server.running.send(signal.SIGHUP)
    wait_until(lambda: server.generation() == 2, "the new generation")
    wait_until(lambda: pids(server)[1] not in {0, idle}, "another mule 2", 30)
    call(server, "uwsgi.mule_msg(b'next', 1)")
    assert alive(busy)
    assert "mule1 next" not in events(server)
    server.let("it")
    wait_event(server, "mule1 next")
    assert events(server).index("mule1 after wait it") < events(server).index("mule1 next")
    assert busy not in pids(server)


def test_a_stop_is_gentle_only_where_it_should_be(programs: Runner) -> None:
    server = AppServer(programs, "--mules", "1", app=APP)
    (pid,) = wait_mules(server)
    call(server, "uwsgi.mule_msg(b'wait it', 1)")
    wait_until((server.home / "it.in").exists, "the hook")
    server.running.send(signal.SIGTERM)
    server.running.wait_for("worker 1 buried")
    assert alive(pid)
    server.let("it")
    assert server.running.wait(30) == 0
    assert events(server)[-1] == "mule1 after wait it"
    assert not alive(pid)

    brutal = AppServer(programs, "--mules", "1", app=APP, name="brutal")
    (pid,) = wait_mules(brutal)
    call(brutal, "uwsgi.mule_msg(b'wait it', 1)")
    wait_until((brutal.home / "it.in").exists, "the hook")
    assert brutal.running.stop(signal.SIGINT, 30) == 0
    assert not alive(pid)


PROGRAM = """
import os, uwsgi
from uwsgi import mule_get_msg
HERE = os.path.dirname(os.path.abspath(__file__))

def note(text):
    with open(os.path.join(HERE, "events"), "a") as file:
        file.write(text + "\\n")

uwsgi.register_signal(1, "mule1", lambda number: note("signal"))
note(f"{__name__} {uwsgi.mule_id()} {uwsgi.in_farm('f')} {uwsgi.in_farm('no')} {uwsgi.worker_id()}")
while True:
    message = mule_get_msg(timeout=3600)
    note(repr(message))
    if message == b"leave":
        break
    if message == b"quick":
        note(repr(mule_get_msg(timeout=0)))
    if message == b"no farms":
        note(repr(mule_get_msg(farms=False, signals=False)))
    if message == b"farm":
        note(repr(uwsgi.farm_get_msg()))
"""


def test_a_mule_with_a_program(programs: Runner) -> None:
    home = programs.directory / "app"
    home.mkdir()
    (home / "mule.py").write_text(PROGRAM)
    server = AppServer(programs, "--mule=mule.py", "--farm", "f:1", app=CALLING_APP)
    wait_event(server, "__main__ 1 True None 0")
    (first,) = wait_mules(server)
    call(server, "uwsgi.signal(1)")
    wait_event(server, "None")  # instead of a message
    assert "signal" in events(server)
    call(server, "uwsgi.mule_msg(b'quick')")
    wait_event(server, "b''")  # nothing came in time
    call(server, "uwsgi.mule_msg(b'no farms')")
    wait_event(server, "b'no farms'")  # its own queue comes before everybody's
    call(server, "uwsgi.farm_msg('f', b'later')")
    call(server, "uwsgi.mule_msg(b'sooner', 1)")
    wait_event(server, "b'later'")
    assert events(server).index("b'sooner'") < events(server).index("b'later'")
    call(server, "uwsgi.mule_msg(b'farm')")
    call(server, "uwsgi.farm_msg('f', b'of the farm')")
    wait_event(server, "b'of the farm'")
    call(server, "uwsgi.mule_msg(b'leave')")
    wait_event(server, "__main__ 1 True None 0", 2)  # it ended, so it is started again
    wait_mules(server, first)


def test_harakiri(programs: Runner) -> None:
    server = AppServer(programs, "--mules", "1", "--mule-harakiri", "1", app=APP)
    (old,) = wait_mules(server)
    call(server, "uwsgi.mule_msg(b'wait ever', 1)")
    wait_mules(server, old)
    output = server.running.output()
    assert f"*** HARAKIRI ON MULE 1 HANDLING A MESSAGE (pid: {old}) ***" in output
    assert "in waits_for" in output  # where it hung
    call(server, "uwsgi.mule_msg(b'alive', 1)")
    wait_event(server, "mule1 alive")


def test_an_alarm_reaches_its_mule(programs: Runner) -> None:
    programs.start("palatine-alarm-daemon")
    server = AppServer(programs, "--mules", "2", "--alarm", "m mule:2", app=APP)
    wait_mules(server)
    call(server, "uwsgi.alarm('m', 'it happened')")
    wait_event(server, "mule2 it happened")


def test_touched_files_replace_mules_and_spoolers_and_the_configs_timers_run(programs: Runner) -> None:
    words = ("--mules", "1", "--touch-mules-reload", "touch.m", "--touch-spoolers-reload", "touch.s", "--timer", "9 1")
    app = APP + "uwsgi.register_signal(9, 'worker1', lambda number: note('timer', number))"
    server = AppServer(programs, *words, "--spooler", "spool", app=app)
    (old,) = wait_mules(server)
    spooler = wait_until(lambda: server.read("spoolers")[0]["pid"], "the spooler")
    server.running.wait_for("unable to stat() touch.m")
    (server.home / "touch.m").touch()
    wait_mules(server, old)
    assert server.read("spoolers")[0]["pid"] == spooler
    (server.home / "touch.s").touch()
    wait_until(lambda: server.read("spoolers")[0]["pid"] not in {0, spooler}, "another spooler", 30)
    assert server.generation() == 1
    wait_event(server, "timer 9")


def test_nobody_outlives_a_killed_master(programs: Runner) -> None:
    server = AppServer(programs, "--mules", "1", "--spooler", "spool", app=APP)
    (mule,) = wait_mules(server)
    spooler = wait_until(lambda: server.read("spoolers")[0]["pid"], "the spooler")
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: not alive(mule) and not alive(spooler), "their end")
