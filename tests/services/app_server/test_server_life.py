"""The app-server as a program: what starts, what ends, who comes back, and what nobody notices."""

import os
import signal
import socket
from functools import partial

import pytest

from app_server import AppServer, alive, cpu_seconds, knock
from running import Runner, wait_until


@pytest.mark.parametrize(("processes", "threads"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_it_serves_and_leaves_nothing(programs: Runner, processes: int, threads: int) -> None:
    server = AppServer(programs, processes=processes, threads=threads)
    assert server.get() == b"ok"
    with server.connect() as client:
        for _ in range(5):
            assert client.get("/pid")[1].decode() in {str(pid) for pid in server.pids()}
    wait_until(lambda: server.requests() == 6, "six requests counted")
    everybody = server.processes()
    assert {server.zygote(), server.link(), *server.pids()} == set(everybody)
    assert len(everybody) == processes + 2
    address = server.address()
    assert server.running.stop(signal.SIGINT) == 0
    assert not [pid for pid in everybody if alive(pid)]
    assert not server.directory.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    assert server.running.output().endswith("goodbye to uWSGI.\n")


def test_a_killed_worker_comes_back(programs: Runner) -> None:
    server = AppServer(programs, processes=2)
    for _ in range(4):
        server.get()
    wait_until(lambda: server.requests() == 4, "four requests counted")
    first, second = server.pids()
    os.kill(first, signal.SIGKILL)
    server.wait_other_worker(first)
    server.wait_ready()
    assert server.pids()[1] == second
    assert server.requests() == 4
    server.running.wait_for(f"DAMN ! worker 1 (pid: {first}) died, killed by signal 9 :( trying respawn ...")
    assert f"Respawned uWSGI worker 1 (new pid: {server.pids()[0]})" in server.running.output()
    assert server.read("slots")[0]["respawn_count"] == 2


def test_a_killed_zygote_is_noticed_by_nobody(programs: Runner) -> None:
    server = AppServer(programs, processes=2)
    for round_ in range(2):
        zygote, workers = server.zygote(), server.pids()
        os.kill(zygote, signal.SIGKILL)
        assert server.get() == b"ok"
        server.wait_other_zygote(zygote)
        assert server.pids() == workers
        os.kill(workers[round_], signal.SIGKILL)  # the new one forks
        server.wait_other_worker(workers[round_], round_)
        server.wait_ready()
    generation, workers = server.generation(), server.pids()
    server.running.send(signal.SIGHUP)
    wait_until(lambda: server.generation() > generation, "a new generation")
    server.wait_ready()
    assert not set(workers) & set(server.pids())
    assert server.get() == b"ok"
    server.wait_processes(4)


def test_zygote_and_worker_killed_at_once(programs: Runner) -> None:
    """The worker is asked of a zygote that still imports: once, not twice."""
    server = AppServer(programs, app="import time; time.sleep(0.3)", processes=2)
    zygote, workers = server.zygote(), server.pids()
    for pid in (zygote, *workers):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(server.pids()) and not set(workers) & set(server.pids()), "other workers")
    server.wait_ready()
    assert server.get() == b"ok"
    assert sorted(server.processes()) == sorted({server.zygote(), server.link(), *server.pids()})


def test_an_app_that_breaks_on_disk_is_retried_with_patience(programs: Runner) -> None:
    """The zygote is gone and the app does not load any more: the workers that live go on."""
    server = AppServer(programs, processes=2)
    (server.home / "app.py").write_text("raise ImportError('gone bad')")
    os.kill(server.zygote(), signal.SIGKILL)
    server.running.wait_for("starting another in 0.5 seconds")
    server.running.wait_for("starting another in 1 seconds")
    assert server.get() == b"ok"
    server.write("")
    victim = server.pids()[0]
    os.kill(victim, signal.SIGKILL)
    server.wait_other_worker(victim)
    server.wait_ready()


def test_a_killed_link_is_noticed_by_nobody(programs: Runner) -> None:
    server = AppServer(programs)
    wait_until((server.directory / "ctl").exists, "the link's endpoints")
    link, workers, zygote = server.link(), server.pids(), server.zygote()
    os.kill(link, signal.SIGKILL)
    for _ in range(5):
        assert server.get() == b"ok"
    wait_until(lambda: server.link() not in {0, link} and alive(server.link()), "another link", 20)
    assert (server.pids(), server.zygote()) == (workers, zygote)


def test_term_ends_a_stuck_request_after_the_mercy(programs: Runner) -> None:
    server = AppServer(programs, "--worker-reload-mercy", "1", processes=2)
    with server.connect() as stuck, server.connect() as finishing:
        stuck.send(b"GET /wait/never HTTP/1.1\r\nHost: h\r\n\r\n")
        finishing.send(b"GET /wait/soon HTTP/1.1\r\nHost: h\r\n\r\n")
        server.entered("never")
        server.entered("soon")
        server.running.send(signal.SIGTERM)
        server.running.wait_for("SIGTERM received...draining workers...")
        wait_until(lambda: server.state() == "draining", "the state")
        server.let("soon")
        head, body = finishing.response()
        assert body == b"ok"
        assert b"Connection: close" in head
        assert stuck.rest() == b""
    assert server.running.wait() == 0
    assert "is taking too much time to die...NO MERCY !!!" in server.running.output()


def test_a_second_term_is_no_reprieve(programs: Runner) -> None:
    server = AppServer(programs, "--worker-reload-mercy", "2")
    with server.connect() as stuck:
        stuck.send(b"GET /wait/never HTTP/1.1\r\nHost: h\r\n\r\n")
        server.entered("never")
        server.running.send(signal.SIGTERM)
        server.running.wait_for("draining workers...")
        for count in range(2, 5):
            server.running.send(signal.SIGTERM)
            server.wait_log("draining workers", count)
        assert server.running.wait(6) == 0


@pytest.mark.parametrize("path", ["/wait/never", "/regex", "/gil"])
def test_int_drops_what_is_served(programs: Runner, path: str) -> None:
    """A request that holds the GIL cannot hear it: killed three seconds later, or at once by a second INT."""
    server = AppServer(programs)
    with server.connect() as stuck:
        stuck.send(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        wait_until(lambda: list(server.home.glob("*.in")), "the request")
        server.running.send(signal.SIGINT)
        if path == "/gil":
            server.running.wait_for("killing workers...")
            assert server.running.process.poll() is None
            server.running.send(signal.SIGINT)
        assert server.running.wait(3) == 0
        assert stuck.rest() == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("moment", ["import", "fork", "hook"])
def test_it_ends_at_once_while_it_starts(programs: Runner, number: int, moment: str) -> None:
    """Nobody is in the middle of a request: nothing to wait for."""
    app = {
        "import": "open(os.path.join(HERE, 'here.in'), 'w').close(); time.sleep(60)",
        "fork": "open(os.path.join(HERE, 'here.in'), 'w').close()",
        "hook": "uwsgi.post_fork_hook = lambda: (open(os.path.join(HERE, 'here.in'), 'w').close(), time.sleep(60))",
    }[moment]
    server = AppServer(programs, app=app, processes=2, wait=False)
    wait_until((server.home / "here.in").exists, "its start")
    server.running.send(number)
    assert server.running.wait(8) == 0
    assert not server.directory.exists()


def test_pause_and_resume(programs: Runner) -> None:
    server = AppServer(programs, processes=2)
    with server.connect() as kept:
        holder = int(kept.get("/pid")[1])
        server.running.send(signal.SIGTSTP)
        wait_until(lambda: not any(row["accepting"] for row in server.read("workers")), "paused workers")
        assert all(row["suspended"] for row in server.read("workers"))
        wait_until(lambda: server.state() == "paused", "the state")
        before = server.requests()
        kept.send(b"GET /pid HTTP/1.1\r\nHost: h\r\n\r\n")
        waiting = [server.connect() for _ in range(3)]
        for client in waiting:
            client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until(lambda: server.read("sockets")[0]["queue"] == 3, "three clients in the queue")
        assert server.requests() == before
        (victim,) = set(server.pids()) - {holder}
        index = server.pids().index(victim)
        os.kill(victim, signal.SIGKILL)  # its successor is paused too
        server.wait_other_worker(victim, index)
        wait_until(lambda: server.read("workers")[index]["suspended"], "a suspended worker")
        server.running.send(signal.SIGHUP)  # and the next generation
        wait_until(
            lambda: server.generation() == 2 and all(row["suspended"] for row in server.read("workers")), "reload"
        )
        assert int(kept.response()[1]) == holder  # an old worker finishes with those it has accepted, and leaves
        wait_until(lambda: not alive(holder), "the end of the old worker")
        assert server.requests() == before + 1
        server.running.send(signal.SIGTSTP)
        for client in waiting:
            assert client.response()[1] == b"ok"
            client.socket.close()
        wait_until(lambda: not any(row["suspended"] for row in server.read("workers")), "resumed workers")
    wait_until(lambda: server.state() == "ready", "the state")
    output = server.running.output()
    assert "*** PAUSE (press start to resume, if you do not have a joypad send SIGTSTP) ***" in output
    assert "*** (SIGTSTP received) resuming workers ***" in output
    server.running.send(signal.SIGTSTP)
    wait_until(lambda: not any(row["accepting"] for row in server.read("workers")), "paused workers")
    assert all(row["suspended"] for row in server.read("workers"))
    assert server.running.stop(signal.SIGTERM) == 0


IGNORED = (
    signal.SIGUSR2, signal.SIGALRM, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH, signal.SIGURG,
    signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGPWR,
)  # fmt: skip


def test_signals_that_are_no_orders_do_nothing(programs: Runner) -> None:
    server = AppServer(programs)
    workers = server.pids()
    for number in (*IGNORED, signal.SIGPIPE, signal.SIGCHLD):
        server.running.send(number)
    server.running.send(signal.SIGUSR1)
    server.running.wait_for("total requests: 0")
    assert f"worker 1 pid {workers[0]} generation 1 serving" in server.running.output()
    assert server.get() == b"ok"
    assert server.pids() == workers


def test_a_broken_reload_leaves_the_old_generation_and_says_why(programs: Runner) -> None:
    server = AppServer(programs, processes=2)
    workers = server.pids()

    def failed(count: int) -> bool:
        return server.server()["reload_failures"] == count

    for source, why in (
        ("raise ValueError('the new version is broken')", "ValueError: the new version is broken"),
        ("def application(:", "SyntaxError"),
        ("application = 5", '"application" in uwsgi_file_'),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import os; os._exit(7)", "the old one goes on serving"),
        ("import uwsgi\ndef bad(): raise SystemExit\nuwsgi.post_fork_hook = bad\ndef application(): pass", ""),
    ):
        (server.home / "app.py").write_text(source)
        failures = server.server()["reload_failures"]
        server.running.send(signal.SIGHUP)
        wait_until(partial(failed, failures + 1), f"{source} fails")
        server.running.wait_for(why)
        wait_until(lambda: server.state() == "ready", "ready again")
        assert server.get() == b"ok"
        assert server.pids() == workers
    assert "the new generation could not be started (ValueError: the new version is broken)" in server.running.output()
    server.write("def more(environ): return b'fixed'")
    server.running.send(signal.SIGHUP)
    wait_until(lambda: server.get() == b"fixed", "the fixed version")
    server.wait_ready()
    server.wait_processes(4)
    assert server.server()["reloads"] == 1


@pytest.mark.parametrize("lazy", [False, True])
def test_a_reload_lets_a_long_request_finish(programs: Runner, *, lazy: bool) -> None:
    server = AppServer(programs, *(["--lazy-apps"] if lazy else []))
    with server.connect() as client:
        client.send(b"GET /wait/it HTTP/1.1\r\nHost: h\r\n\r\n")
        server.entered("it")
        old = server.pids()[0]
        for _ in range(2):  # the third generation waits for the first to be gone
            server.running.send(signal.SIGHUP)
            wait_until(lambda: server.generation() >= 2, "a new generation")
            assert int(server.get("/pid")) not in {0, old}
        server.let("it")
        assert client.response()[1] == b"ok"
    wait_until(lambda: server.generation() == 3, "the third generation")
    server.wait_ready()
    wait_until(lambda: not alive(old), "the end of the first worker")
    server.wait_processes(3)


def test_need_app(programs: Runner) -> None:
    for number, words in enumerate((["--need-app"], ["--need-app", "--lazy-apps"])):
        server = AppServer(programs, *words, app="raise ValueError('no app here')", name=f"app{number}", wait=False)
        assert server.running.wait(10) == 22
        assert "ValueError: no app here" in server.running.output()
        assert "\n*** no app loaded. GAME OVER ***\n" in server.running.output()
        assert not server.directory.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--mount", "/a=nothing.py"), "unable to load app file nothing.py"),
        (("--mount", "/a=nothing.py", "--lazy-apps"), "unable to load app file nothing.py"),
        (("--home", "nothing"), "virtualenv nothing has no python"),
    ],
)
def test_without_a_mount_or_the_virtualenv_there_is_no_start(
    programs: Runner, words: tuple[str, ...], said: str
) -> None:
    server = AppServer(programs, *words, wait=False)
    assert server.running.wait(30) == 22
    assert said in server.running.output()
    assert "Traceback" not in server.running.output()


def test_an_import_that_fails_is_reported(programs: Runner) -> None:
    server = AppServer(programs, "--import", "nothing_of_that_name")
    assert server.get() == b"ok"
    assert "ModuleNotFoundError: No module named 'nothing_of_that_name'" in server.running.output()


@pytest.mark.parametrize("lazy", [False, True])
def test_without_an_app_every_request_is_a_500(programs: Runner, *, lazy: bool) -> None:
    server = AppServer(programs, *(["--lazy-apps"] if lazy else []), app="raise ValueError('no app here')")
    with server.connect() as client:
        head, body = client.get()
        assert head.startswith(b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\n")
        assert body == b"Internal Server Error"
    server.running.wait_for("--- no python application found, check your startup logs for errors ---")
    assert "unable to load app 0 (mountpoint='') (ValueError: no app here)" in server.running.output()
    server.write("")
    server.running.send(signal.SIGHUP)
    wait_until(lambda: server.get() == b"ok", "the app")


def test_a_broken_lazy_reload_leaves_the_old_generation(programs: Runner) -> None:
    server = AppServer(programs, "--lazy-apps", processes=2)
    workers = server.pids()
    (server.home / "app.py").write_text("raise ValueError('the new version is broken')")
    server.running.send(signal.SIGHUP)
    wait_until(lambda: server.server()["reload_failures"] == 1, "the failure")
    wait_until(lambda: server.state() == "ready", "ready again")
    assert server.get() == b"ok"
    assert server.pids() == workers
    server.wait_processes(4)


def test_a_worker_that_cannot_start_is_tried_again_ever_more_slowly(programs: Runner) -> None:
    server = AppServer(programs, app="def bad(): os._exit(3)\nuwsgi.post_fork_hook = bad", wait=False)
    server.running.wait_for("worker respawning too fast !!! i have to sleep a bit (1 seconds)...", 20)
    assert "died, exit status 3" in server.running.output()
    assert server.running.stop(signal.SIGTERM) == 0


def test_a_post_fork_hook_that_raises_is_printed(programs: Runner) -> None:
    server = AppServer(programs, app="def bad(): raise ValueError('hooked')\nuwsgi.post_fork_hook = bad")
    assert server.get() == b"ok"
    assert "ValueError: hooked" in server.running.output()


def test_two_instances_of_one_name(programs: Runner) -> None:
    first = AppServer(programs)
    second = AppServer(programs, wait=False)
    second.running.wait_for("spawned uWSGI worker 1")
    names = sorted(entry.name for entry in (programs.runtime / "i").iterdir())
    assert names[0] == "app"
    assert len(names) == 2
    assert len(names[1]) == len("app-") + 6
    third = AppServer(programs, wait=False)
    assert third.running.wait(10) == 75
    assert "an instance of this name and config runs already" in third.running.output()
    second.name = names[1]
    second.wait_ready()
    assert first.get() == second.get() == b"ok"
    assert second.running.stop() == 0
    assert first.get() == b"ok"
    assert [entry.name for entry in (programs.runtime / "i").iterdir()] == ["app"]


def test_orphans_of_the_app_are_reaped_and_forgotten(programs: Runner) -> None:
    """The master is their parent now; their pids mean nothing to it."""
    app = """
    import subprocess
    def more(environ):
        subprocess.run(["/bin/sh", "-c", "for i in 1 2 3 4 5; do (true) & done; (sleep 0.05; true) &"])
    """
    server = AppServer(programs, app=app)
    for _ in range(10):
        assert server.get("/fork") == b"ok"
    server.wait_processes(3)
    server.running.send(signal.SIGUSR1)
    server.running.wait_for("total requests: 10")


def test_an_idle_server_costs_nothing(programs: Runner) -> None:
    """The master wakes once a second, also while it waits for a worker that it has condemned."""
    server = AppServer(programs, "--harakiri", "1", processes=2, threads=2)
    with server.connect() as overdue, server.connect() as sibling:
        sibling.send(b"GET /wait/it HTTP/1.1\r\nHost: h\r\n\r\n")
        server.entered("it")
        before = cpu_seconds(server.pid)
        overdue.send(b"GET /wait/never HTTP/1.1\r\nHost: h\r\n\r\n")
        server.running.wait_for("HARAKIRI triggered by worker")
        server.running.wait_for("trying respawn")
        assert cpu_seconds(server.pid) - before < 0.5


def test_an_instance_without_a_name_leaves_no_state(programs: Runner) -> None:
    """Its name is made of its pid: nobody would ever look for what is kept under it."""
    (programs.directory / "app.py").write_text("def application(environ, start_response): pass\n")
    server = programs.start("palatine-app-server", "--http-socket", "127.0.0.1:0", "--wsgi-file", "app.py")
    directory = programs.runtime / f"i/app-{server.pid}"
    wait_until(lambda: knock(directory) is None, "a way in")
    wait_until(lambda: list(directory.glob("link/*/sender.lock")), "the link's spool")
    assert server.stop() == 0
    assert not list((programs.runtime / "i").iterdir())
    assert not [path for path in programs.state.rglob("*") if path.is_file()]
