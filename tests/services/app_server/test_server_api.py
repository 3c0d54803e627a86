"""The `uwsgi` module in a running server, beside the real one where both offer a function."""

import json
import os
import re
import signal
from functools import partial
from typing import Any

import pytest

from api_app import PROBE
from app_server import AppServer, alive
from palatine_app_server.uwsgi_module.api import VERSION
from running import Runner, free_port, get, wait_until

#: Calls whose result, or kind of exception, must be the real one's. LATER: those a call before has changed.
CALLS = """
uwsgi.numproc
uwsgi.cores
uwsgi.buffer_size
type(uwsgi.magic_table)
uwsgi.applications
uwsgi.hostname
uwsgi.opt["locks"]
uwsgi.opt["master"]
uwsgi.opt["env"]
type(uwsgi.started_on)
type(uwsgi.worker_id())
uwsgi.mule_id()
type(uwsgi.masterpid())
uwsgi.total_requests()
uwsgi.lock()
uwsgi.is_locked()
uwsgi.is_locked(0)
uwsgi.is_locked(1)
uwsgi.unlock()
uwsgi.is_locked()
uwsgi.unlock()
uwsgi.lock(2)
uwsgi.unlock(2)
uwsgi.lock(3)
uwsgi.lock(99)
uwsgi.lock(-1)
uwsgi.unlock(99)
uwsgi.is_locked(99)
uwsgi.lock("x")
uwsgi.unlock("x")
uwsgi.lock(1.5)
uwsgi.log("a line")
uwsgi.log("a line with its end\\n")
uwsgi.log(b"bytes")
uwsgi.log(5)
uwsgi.log()
uwsgi.alarm("unknown", "message")
uwsgi.alarm("unknown", b"message")
uwsgi.alarm(5, "message")
uwsgi.alarm("unknown")
uwsgi.register_signal(30, "", print)
uwsgi.register_signal(31, "worker1", print)
uwsgi.register_signal(32, "nonsense", print)
uwsgi.register_signal(33, 5, print)
uwsgi.register_signal(34)
uwsgi.signal_registered(30)
uwsgi.signal_registered(200)
uwsgi.signal_registered("x")
uwsgi.signal(200)
uwsgi.signal("x")
uwsgi.signal()
uwsgi.signal_received()
uwsgi.worker_id(1, "a")
type(uwsgi.total_requests(None))
type(uwsgi.workers(1))
uwsgi.mule_id(1)
type(uwsgi.cl(1))
uwsgi.worker_id(x=1)
uwsgi.accepting("x")
uwsgi.accepting(2**40)
uwsgi.in_farm(1)
uwsgi.in_farm(None)
uwsgi.lock(2**40)
uwsgi.listen_queue(2**40)
uwsgi.set_user_harakiri("x")
uwsgi.set_user_harakiri(1.5)
uwsgi.set_user_harakiri(2**40)
uwsgi.add_timer(1, "x")
uwsgi.add_timer(1, 2**40)
uwsgi.add_rb_timer(1, 1, 2**40)
uwsgi.add_cron(1, 2**40, 0, 0, 0, 0)
uwsgi.alarm("unknown", 5)
uwsgi.metric_set("m", 2**63)
uwsgi.metric_inc("m", "x")
uwsgi.connect("/nobody")
uwsgi.async_connect("/nobody")
uwsgi.is_connected(-1)
uwsgi.is_connected(1)
uwsgi.sendfile("/nowhere")
uwsgi.snmp_incr_gauge(256)
uwsgi.snmp_decr_counter64(-1)
uwsgi.snmp_set_community("foo")
uwsgi.snmp_set_community(b"foo")
uwsgi.snmp_set_community("f" * 100)
uwsgi.snmp_set_community(5)
"""
SNMP = [f"{verb}_{kind}" for verb in ("set", "incr", "decr") for kind in ("counter32", "counter64", "gauge")]
ARGUMENTS = """
(1, 5)  (100, 5)  (0, 5)  (101, 5)  (255, 5)  (256, 5)  (-1, 5)  (1, -1)  (1, 2**32)  (1, 2**64)  (1, True)  (True, 1)
('x', 1)  (1, 'x')  (0, 'x')  (1, 1.5)  (1.5, 1)  ()  (1, 2, 3)  (1,)
"""


@pytest.mark.interop
def test_it_returns_and_raises_what_the_real_one_does(programs: Runner) -> None:
    calls = CALLS.strip().splitlines()
    calls += [f"uwsgi.snmp_{name}{arguments}" for name in SNMP for arguments in re.findall(r"\(.*?\)", ARGUMENTS)]
    (programs.directory / "app").mkdir()
    (programs.directory / "app" / "app.py").write_text(PROBE % calls)
    words = ("--snmp", "--snmp-community", "foo", "--locks", "2", "--env", "A=b", "--env", "C=d")
    ours = AppServer(programs, *words)
    port = free_port()
    theirs = programs.start(
        "uwsgi-core", "--plugin", "python3", "--master", "--http-socket", f"127.0.0.1:{port}",
        "--wsgi-file", str(ours.home / "app.py"), *words,
    )  # fmt: skip
    real: dict[str, Any] = json.loads(wait_until(lambda: get(f"http://127.0.0.1:{port}/"), "the real uwsgi"))
    mine: dict[str, Any] = json.loads(ours.get())
    assert mine == real
    for line in ("a line", "a line with its end"):
        for log in (ours.running, theirs):
            assert log.output().count(f"\n{line}\n") == 1
    registered = r"^\[uwsgi-signal\] signum 30 registered \(wid: 1 modifier1: 0 target: default, any worker\)$"
    assert re.search(registered, theirs.output(), re.MULTILINE)
    assert re.search(registered, ours.running.output(), re.MULTILINE)


#: Handlers write who handled what; /signal/N and the like ask for the rest.
API_APP = """
def handled(number):
    with open(os.path.join(HERE, "signals"), "a") as file:
        file.write(f"{number} {uwsgi.worker_id()}\\n")

for number, target in ((1, "workers"), (2, "worker2"), (3, ""), (4, "worker"), (5, "active-workers"), (6, "worker0")):
    uwsgi.register_signal(number, target, handled)

def failing(number):
    raise ValueError("the handler failed")

uwsgi.register_signal(7, "worker1", failing)

def slow(number):
    open(os.path.join(HERE, "slow.in"), "w").close()
    while not os.path.exists(os.path.join(HERE, "slow.go")):
        time.sleep(0.01)

uwsgi.register_signal(8, "worker1", slow)
uwsgi.atexit = lambda: open(os.path.join(HERE, f"atexit-{uwsgi.worker_id()}"), "w").close()

def more(environ):
    _, what, *rest = environ["PATH_INFO"].split("/")
    if what == "signal":
        return repr(uwsgi.signal(int(rest[0]))).encode()
    if what == "reload":
        return repr(uwsgi.reload()).encode()
    if what == "stop":
        return repr(uwsgi.stop()).encode()
    if what == "facts":
        return repr((uwsgi.masterpid(), uwsgi.worker_id(), uwsgi.total_requests())).encode()
    if what == "critical":
        uwsgi.lock()
        path = os.path.join(HERE, "inside")
        inside = os.path.exists(path)
        open(path, "w").close()
        time.sleep(0.002)
        os.unlink(path)
        uwsgi.unlock()
        return b"BOTH" if inside else b"one"
    if what == "hold":
        uwsgi.lock(1)
        open(os.path.join(HERE, "held.in"), "w").close()
        time.sleep(60)
    if what == "take":
        uwsgi.lock(1)
        uwsgi.unlock(1)
        return b"taken"
"""


def handled(server: AppServer) -> list[str]:
    path = server.home / "signals"
    return sorted(path.read_text().splitlines()) if path.exists() else []


def test_signals_reach_their_targets(programs: Runner) -> None:
    server = AppServer(programs, app=API_APP, processes=3)

    def of(number: int) -> list[str]:
        return [line for line in handled(server) if line.startswith(f"{number} ")]

    for number, expected in ((1, ["1 1", "1 2", "1 3"]), (2, ["2 2"]), (5, ["5 1", "5 2", "5 3"])):
        assert server.get(f"/signal/{number}") == b"None"
        wait_until(partial(lambda number, count: len(of(number)) == count, number, len(expected)), f"signal {number}")
        assert of(number) == expected
    for number in (3, 4, 6):
        server.get(f"/signal/{number}")
        wait_until(partial(of, number), f"one worker for signal {number}")
    wait_until(lambda: sum(row["signals"] for row in server.read("workers")) == 10, "ten signals counted")
    assert len([line for line in handled(server) if line[0] in "346"]) == 3
    server.get("/signal/7")
    server.running.wait_for("ValueError: the handler failed")
    server.get("/signal/99")
    server.running.wait_for("unable to route signal 99")
    assert server.server()["unrouted_signals"] == 1
    assert server.server()["routed_signals"] == 7
    assert server.get() == b"ok"


def test_a_handler_is_shown_while_it_runs(programs: Runner) -> None:
    server = AppServer(programs, app=API_APP, processes=2)
    server.get("/signal/8")
    wait_until((server.home / "slow.in").exists, "the handler")
    assert server.read("workers")[0]["running_signal"] == 9
    assert server.get() == b"ok"
    (server.home / "slow.go").touch()
    wait_until(lambda: server.read("workers")[0]["running_signal"] == 0, "its end")


def test_signals_after_a_respawn_and_a_reload(programs: Runner) -> None:
    server = AppServer(programs, app=API_APP, processes=2)
    victim = server.pids()[1]
    os.kill(victim, signal.SIGKILL)
    server.wait_other_worker(victim, 1)
    server.wait_ready()
    server.get("/signal/2")
    wait_until(lambda: handled(server) == ["2 2"], "the respawned worker's handler")
    server.running.send(signal.SIGHUP)
    wait_until(lambda: server.generation() == 2, "the new generation")
    server.wait_ready()
    server.wait_processes(4)
    server.get("/signal/2")
    wait_until(lambda: handled(server) == ["2 2", "2 2"], "the new generation's handler")


def test_reload_stop_and_facts(programs: Runner) -> None:
    server = AppServer(programs, app=API_APP, processes=2)
    master, worker, total = eval(server.get("/facts"))
    assert master == server.pid
    assert worker in {1, 2}
    assert total == 0
    assert server.get("/reload") == b"True"
    wait_until(lambda: server.generation() == 2, "the new generation")
    server.wait_ready()
    assert server.get() == b"ok"
    with server.connect() as client:
        client.send(b"GET /stop HTTP/1.1\r\nHost: h\r\n\r\n")
        client.rest()  # the answer may be cut: it asked for no less
    assert server.running.wait() == 0
    assert (server.home / "atexit-1").exists()
    assert (server.home / "atexit-2").exists()


def test_a_handler_may_be_one_of_ours_and_odd_wishes_cost_nothing(programs: Runner) -> None:
    app = """
uwsgi.register_signal(9, "", uwsgi.reload)
uwsgi.register_signal(1, "", lambda number: uwsgi.log("the timer of 0 seconds"))
uwsgi.add_timer(1, 0)
uwsgi.add_timer(1, -5)
uwsgi.alarm("x" * 200_000, "message")

def more(environ):
    if environ["PATH_INFO"] == "/reload":
        uwsgi.signal(9)
"""
    server = AppServer(programs, app=app)
    server.get("/reload")
    wait_until(lambda: server.server()["generation"] == 2, "the reload a signal's handler asked for")
    assert alive(server.pid)
    assert "the timer" not in server.running.output()


def test_a_lock_keeps_workers_and_threads_apart(programs: Runner) -> None:
    server = AppServer(programs, app=API_APP, processes=2, threads=2)
    clients = [server.connect() for _ in range(8)]
    for _ in range(5):
        for client in clients:
            client.send(b"GET /critical HTTP/1.1\r\nHost: h\r\n\r\n")
        for client in list(clients):
            head, body = client.response()
            assert body == b"one"
            if b"Connection: close" in head:
                client.socket.close()
                clients[clients.index(client)] = server.connect()
    for client in clients:
        client.socket.close()


def test_a_killed_holders_lock_is_free(programs: Runner) -> None:
    server = AppServer(programs, "--locks", "1", app=API_APP, processes=2)
    with server.connect() as holder, server.connect() as waiting:
        holder.send(b"GET /hold HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until((server.home / "held.in").exists, "the lock taken")
        owner = wait_until(lambda: server.read("locks")[1]["owner_pid"], "the owner shown")
        assert owner in server.pids()
        waiting.send(b"GET /take HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until(lambda: sum(row["in_request"] for row in server.read("cores")) == 2, "both in the app")
        os.kill(owner, signal.SIGKILL)
        assert waiting.response()[1] == b"taken"
        wait_until(lambda: not alive(owner), "its end")
    wait_until(lambda: server.read("locks")[1]["owner_pid"] == 0, "no owner")


def test_versions(programs: Runner) -> None:
    """Apps and tools compare them: the version is uWSGI's."""
    assert VERSION == "2.0.31"
    server = AppServer(
        programs, app="open(os.path.join(HERE, 'v'), 'w').write(f'{uwsgi.version} {uwsgi.palatine_version}')"
    )
    assert re.fullmatch(r"b'2\.0\.31' \d+\.\d+\.\d+.*", (server.home / "v").read_text())
