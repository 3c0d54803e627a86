"""Signals to mules, farms and spoolers; timers, crons and file monitors of a running server."""

import os
import re
import select
import signal
from urllib.parse import quote

from api_app import CALLING_APP, call, events, wait_event
from app_server import AppServer
from running import Runner, wait_until

APP = (
    CALLING_APP
    + """
def handled(number):
    note(number, who())

for number, target in enumerate(("mule1", "mules", "mule", "farm_f", "farm1", "spooler", "worker1", "mule9"), 1):
    uwsgi.register_signal(number, target, handled)
"""
)


def test_targets_beside_the_workers(programs: Runner) -> None:
    server = AppServer(programs, "--mules", "2", "--farm", "f:2", "--spooler", "spool", app=APP)
    wait_until(lambda: all(row["pid"] for row in server.read("mules")), "the mules")
    for number, expected in ((1, "mule1"), (4, "mule2"), (5, "mule2"), (6, "spooler"), (7, "worker1")):
        call(server, f"uwsgi.signal({number})")
        wait_event(server, f"{number} {expected}")
    call(server, "uwsgi.signal(2)")
    wait_event(server, "2 mule1")
    wait_event(server, "2 mule2")
    call(server, "uwsgi.signal(3)")
    wait_until(lambda: {"3 mule1", "3 mule2"} & set(events(server)), "one of the mules")
    call(server, "uwsgi.signal(8)")
    server.running.wait_for("unable to route signal 8")
    wait_until(lambda: sum(row["signals"] for row in server.read("mule_work")) == 6, "six signals counted")
    assert server.read("mule_work")[0]["running_signal"] == 0


def test_signals_wait_for_a_busy_worker(programs: Runner) -> None:
    server = AppServer(programs, app=APP)
    with server.connect() as client:
        expression = quote("[uwsgi.signal(7) for _ in range(3)], waits_for('it')")
        client.send(f"GET /call?{expression} HTTP/1.0\r\n\r\n".encode())
        wait_until(lambda: server.read("slots")[0]["signal_queue"] == 3, "three in the queue")
        (server.home / "it.go").touch()
        wait_until(lambda: server.read("slots")[0]["signal_queue"] == 0, "none")
    wait_event(server, "7 worker1", 3)


TIMERS = """
uwsgi.register_signal(1, "worker1", lambda number: note("timer"))
uwsgi.add_ms_timer(1, 50)
uwsgi.register_signal(2, "worker1", lambda number: note("once"))
uwsgi.add_rb_timer(2, 1, 1)
uwsgi.register_signal(3, "worker1", lambda number: note("cron"))
uwsgi.add_cron(3, -1, -1, -1, -1, -1)
uwsgi.register_signal(4, "worker1", lambda number: note("file"))
uwsgi.add_file_monitor(4, os.path.join(HERE, "watched"))
"""


def test_timers_crons_and_file_monitors(programs: Runner) -> None:
    server = AppServer(programs, app=CALLING_APP + TIMERS)
    watched = server.home / "watched"
    wait_event(server, "cron")
    wait_event(server, "timer", 3)
    watched.write_text("it has come")
    wait_event(server, "file")
    seen = events(server).count("file")
    replacement = server.home / "replacement"
    replacement.write_text("another file of that name")
    replacement.rename(watched)
    wait_event(server, "file", seen + 1)
    wait_event(server, "once")

    server.running.send(signal.SIGHUP)  # the new generation registers all of it again
    wait_until(lambda: server.generation() == 2, "the new generation")
    server.wait_processes(3)
    (server.home / "events").unlink()
    wait_event(server, "once")
    seen = events(server).count("timer")
    wait_event(server, "timer", seen + 3)
    assert events(server).count("once") == 1  # once registered, not once a generation
    assert call(server, "uwsgi.add_timer(1)").startswith("TypeError")
    assert call(server, "uwsgi.add_timer(300, 1)").startswith("ValueError")


def test_a_generation_that_fails_changes_nothing(programs: Runner) -> None:
    server = AppServer(programs, app=CALLING_APP + "uwsgi.register_signal(1, 'worker1', lambda number: note('old'))")
    server.write(CALLING_APP + "uwsgi.register_signal(1, 'nobody', note)\nraise ValueError('broken')")
    server.running.send(signal.SIGHUP)
    server.running.wait_for("the old one goes on serving")
    call(server, "uwsgi.signal(1)")
    wait_event(server, "old")


WAITING = """
uwsgi.register_signal(1, "worker", note)
uwsgi.register_signal(2, "worker", note)

def waited(*arguments):
    open(os.path.join(HERE, "waiting"), "a").close()
    return uwsgi.signal_wait(*arguments), uwsgi.signal_received()
"""


def test_waiting_for_a_signal(programs: Runner) -> None:
    server = AppServer(programs, app=CALLING_APP + WAITING, processes=2)
    with server.connect() as client:
        client.send(b"GET /call?waited(2) HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        wait_until((server.home / "waiting").exists, "the wait")
        while not select.select([client.socket], [], [], 0)[0]:
            call(server, "uwsgi.signal(1)")
            call(server, "uwsgi.signal(2)")
        assert client.response()[1] == b"(b'', 2)"
    assert "2" in events(server)


def test_a_cron_command_of_the_config(programs: Runner) -> None:
    words = ("--cron", "-1 -1 -1 -1 -1 echo ran as $$; exit 3", "--cron2", "minute=-1,unique=1,harakiri=1 sleep 100")
    server = AppServer(programs, *words, "--unique-cron", "59 23 31 12 5 true")
    server.running.wait_for('echo ran as $$; exit 3" running with pid')
    wait_until(lambda: server.read("crons")[0]["last_exit_status"] == 3 << 8, "its end", 30)
    wait_until(lambda: server.read("crons")[1]["last_exit_status"] == signal.SIGKILL, "its harakiri", 30)
    assert ' - *** HARAKIRI ON CRON "sleep 100" (pid: ' in server.running.output()
    row, harakiri, never = server.read("crons")
    assert (row["runs"], row["pid"]) == (1, -1)
    assert row["started_at"]
    assert harakiri["runs"] == 1
    assert (never["runs"], never["pid"]) == (0, -1)
    (pid,) = map(int, re.findall(r"^ran as (\d+)$", server.running.output(), re.MULTILINE))
    assert f'running "echo ran as $$; exit 3" (pid {pid})' in server.running.output()
    assert '[uwsgi-cron] command "sleep 100" registered as cron task\n' in server.running.output()
    assert not os.path.exists(f"/proc/{pid}")
