"""The spooler of a running server, and the real uWSGI's on the same files."""

import os
import signal
import time
from pathlib import Path

import pytest

from api_app import CALLING_APP, call, events, wait_event
from app_server import AppServer, alive
from palatine_app_server.sharing.spool import Task, Writer
from running import Runner, wait_until

APP = (
    CALLING_APP
    + """
def spooler(task):
    name = task.get(b"name", b"").decode()
    note(name, who(), os.getcwd(), sorted(key for key in task if isinstance(key, bytes)), task.get("body"))
    if b"wait" in task:
        waits_for(task[b"wait"].decode())
    if name == "fails" and not os.path.exists(os.path.join(HERE, "repaired")):
        raise ValueError("the task failed")
    if name == "again" and len(open(os.path.join(HERE, "events")).read().split("again")) < 3:
        return uwsgi.SPOOL_RETRY
    return None if name == "None" else uwsgi.SPOOL_OK

uwsgi.spooler = spooler
"""
)


def spooled(server: AppServer, directory: str = "spool") -> list[str]:
    return sorted(path.name for path in (server.home / directory).rglob("uwsgi_spoolfile_on_*"))


def wait_spooled(server: AppServer, count: int, directory: str = "spool") -> None:
    wait_until(lambda: len(spooled(server, directory)) == count, f"{count} tasks left: {events(server)}", 30)


def spooler_pid(server: AppServer, row: int = 0) -> int:
    return server.read("spoolers")[row]["pid"]


def names(server: AppServer) -> list[str]:
    return [line.split()[0] for line in events(server)]


def test_tasks(programs: Runner) -> None:
    server = AppServer(programs, "--spooler", "spool", "--spooler-frequency", "1", app=APP)
    spool = server.home / "spool"
    path = call(server, "uwsgi.spool({b'name': b'one', b'x': b'1', b'body': b'the body'})")
    assert path.startswith(os.fsencode(spool / "uwsgi_spoolfile_on_"))
    wait_event(server, f"one spooler {spool} [b'name', b'x'] b'the body'")
    call(server, "uwsgi.send_to_spooler(name='text', x='y')")
    wait_event(server, f"text spooler {spool} [b'name', b'x'] None")
    call(server, "uwsgi.spool(name='again')")
    wait_until(lambda: names(server).count("again") == 2, "a second try", 30)
    wait_spooled(server, 0)
    for name in ("fails", "None"):
        call(server, f"uwsgi.spool(name='{name}')")
    wait_until(lambda: {"fails", "None"} <= set(names(server)), "both tried", 30)
    assert "ValueError: the task failed" in server.running.output()
    assert len(call(server, "uwsgi.spooler_jobs()")) == 2
    (server.home / "repaired").touch()
    wait_spooled(server, 1)

    soon = int(time.time()) + 2
    call(server, f"uwsgi.spool({{b'name': b'later', b'at': b'{soon}.5'}})")
    call(server, f"uwsgi.spool({{b'name': b'never', b'at': b'{soon + 3600}'}})")
    wait_until(lambda: "later" in names(server), "the time has come", 30)
    assert time.time() >= soon
    assert "never" not in names(server)

    refusals = ("{b'a': 5}", "5", "{b'spooler': b'/nowhere'}", "{b'x': b'y' * 70000}", "{b'priority': b'../..'}")
    for wrong in refusals:
        assert call(server, f"uwsgi.spool({wrong})").startswith("ValueError")
    row = server.read("spooler_tasks")[0]
    assert (row["tasks"], row["running"]) == (5, 0)
    assert row["failures"] >= 3
    assert call(server, "[uwsgi.spooler_pid()] == uwsgi.spooler_pids()") is True
    assert call(server, "uwsgi.spooler_pid()") == spooler_pid(server)
    assert call(server, "uwsgi.i_am_the_spooler()") is None
    task = call(server, "uwsgi.spooler_get_task(uwsgi.spooler_jobs()[0].decode())")
    assert task[b"name"] in {b"never", b"None"}
    assert call(server, "uwsgi.spooler_get_task('/nowhere')") is None
    assert call(server, "uwsgi.set_spooler_frequency(60)") is True
    wait_until(lambda: server.server()["spooler_frequency"] == 60, "the frequency")


def test_a_killed_spooler_loses_no_task(programs: Runner) -> None:
    server = AppServer(programs, "--spooler", "spool", app=APP)
    call(server, "uwsgi.spool(name='kept', wait='w')")
    wait_until((server.home / "w.in").exists, "the task")
    assert server.read("spooler_tasks")[0]["running"] == 1
    old = spooler_pid(server)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: names(server).count("kept") == 2, "the task again", 30)
    assert spooler_pid(server) != old
    server.let("w")
    wait_spooled(server, 0)
    assert "OOOPS the spooler is no more...trying respawn..." in server.running.output()
    assert server.read("spoolers")[0]["respawns"] == 1


def test_every_task_is_run_however_often_its_spooler_is_killed(programs: Runner) -> None:
    server = AppServer(programs, "--spooler", "spool", "--spooler-quiet", app=APP)
    for number in range(40):
        call(server, f"uwsgi.spool(name='t{number}')")
        if number % 8 == 3 and (pid := spooler_pid(server)):
            os.kill(pid, signal.SIGKILL)
    wait_spooled(server, 0)
    assert set(names(server)) == {f"t{number}" for number in range(40)}
    assert server.read("spoolers")[0]["respawns"] >= 1


def test_priorities_and_order_and_several_spoolers(programs: Runner) -> None:
    words = ("--spooler", "one", "--spooler", "two", "--spooler-external", "others", "--spooler-chdir", "/")
    server = AppServer(programs, *words, "--spooler-ordered", "--spooler-quiet", app=APP)
    call(server, "uwsgi.spool(name='first', wait='w')")
    wait_until((server.home / "w.in").exists, "the task")
    for number in range(3):
        call(server, f"uwsgi.spool(name='task{number}')")
    call(server, "uwsgi.spool(name='urgent', priority='5')")
    call(server, f"uwsgi.spool(name='other', spooler={str(server.home / 'two')!r})")
    wait_until(lambda: "other" in names(server), "the other spooler", 30)
    call(server, f"uwsgi.spool(name='foreign', spooler={str(server.home / 'others')!r})")
    server.let("w")
    wait_spooled(server, 0, "one")
    assert [name for name in names(server) if name != "other"] == ["first", "urgent", "task0", "task1", "task2"]
    assert len(spooled(server, "others")) == 1
    assert "urgent spooler / [b'name', b'priority'] None" in events(server)
    assert "managing request" not in server.running.output()
    assert len(server.read("spoolers")) == 2


def test_recycling_reload_and_harakiri(programs: Runner) -> None:
    words = ("--spooler", "spool", "--spooler-max-tasks", "2", "--spooler-harakiri", "1", "--spooler-processes", "2")
    server = AppServer(programs, *words, app=APP)
    wait_until(lambda: spooler_pid(server) and spooler_pid(server, 1), "both")
    for number in range(8):
        call(server, f"uwsgi.spool(name='t{number}')")
    wait_spooled(server, 0)
    assert sorted(names(server)) == [f"t{number}" for number in range(8)]  # each once, whoever ran it
    server.running.wait_for("maximum number of tasks reached (2) recycling ...")

    def both() -> set[int]:
        pids = {spooler_pid(server), spooler_pid(server, 1)}
        return set() if 0 in pids else pids

    before = wait_until(both, "both again", 30)
    server.running.send(signal.SIGHUP)
    wait_until(lambda: server.generation() == 2, "the new generation")
    wait_until(lambda: (now := both()) and not before & now, "others", 30)
    wait_until(lambda: not any(alive(pid) for pid in before), "the end of those before", 30)
    call(server, "uwsgi.spool(name='hangs', wait='ever')")
    server.running.wait_for("*** HARAKIRI ON THE SPOOLER (pid: ", 30)
    server.let("ever")
    wait_spooled(server, 0)


IMPORTED = """
import uwsgi

def spooler(task):
    open("/proc/self/comm").close()
    print("imported spooler ran", flush=True)
    return uwsgi.SPOOL_OK

uwsgi.spooler = spooler
"""


def test_a_spooler_that_imports_its_own_module(programs: Runner) -> None:
    home = programs.directory / "app"
    home.mkdir()
    (home / "tasks.py").write_text(IMPORTED)
    words = ("--lazy-apps", "--spooler", "spool", "--spooler-import", "tasks")
    server = AppServer(programs, *words, app=CALLING_APP)
    call(server, "uwsgi.spool(name='x')")
    server.running.wait_for("imported spooler ran")
    wait_spooled(server, 0)


REAL_APP = """
import os, uwsgi
HERE = os.path.dirname(os.path.abspath(__file__))

def spooler(task):
    with open(os.path.join(HERE, "real"), "ab") as file:
        items = [(str(key), value) for key, value in task.items() if key != "spooler_task_name"]
        file.write(repr(sorted(items)).encode())
    return uwsgi.SPOOL_OK

uwsgi.spooler = spooler

def application(environ, start_response):
    start_response("200 OK", [])
    return [uwsgi.spool({b"name": b"theirs", b"body": b"b" * 3, b"at": b"1"})]
"""


@pytest.mark.interop
def test_the_real_spooler_runs_our_tasks_and_ours_its(programs: Runner) -> None:
    home = programs.directory / "real"
    home.mkdir()
    (home / "app.py").write_text(REAL_APP)
    spool = programs.directory / "spool"
    spool.mkdir()
    Writer().write(str(spool), Task({b"name": b"ours", b"empty": b""}, b"\0body"))
    real = ("uwsgi-core", "--plugin", "python3", "--master", "--wsgi-file", str(home / "app.py"), "--socket", "u.sock")
    first = programs.start(*real, "--spooler", str(spool), "--spooler-frequency", "1", cwd=home)
    wait_until((home / "real").exists, f"the real one: {first.output()}", 30)
    wait_until(lambda: not list(spool.iterdir()), "the task done", 30)
    first.end()  # it does not always end by itself
    assert eval((home / "real").read_bytes()) == [("b'empty'", b""), ("b'name'", b"ours"), ("body", b"\0body")]

    port = programs.directory / "http.sock"
    external = (*real[:-2], "--http-socket", str(port), "--spooler-external", str(spool))
    writer = programs.start(*external, "--spooler-external", str(spool), cwd=home)
    wait_until(port.exists, f"the real one: {writer.output()}", 30)
    # the real one still holds its lock when we hear of the file: the next look finds it free
    server = AppServer(programs, "--spooler", str(spool), "--spooler-frequency", "1", app=APP)
    assert Path(os.fsdecode(_ask(port))).parent == spool
    wait_event(server, f"theirs spooler {spool} [b'at', b'name'] b'bbb'")
    wait_until(lambda: not list(spool.iterdir()), "the task done", 30)


def _ask(path: Path) -> bytes:
    from worker_inside import Client

    with Client(str(path)) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        return client.rest().partition(b"\r\n\r\n")[2]
