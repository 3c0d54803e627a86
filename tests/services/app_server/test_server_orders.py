"""Orders without a terminal: touched files, the master FIFO, chain reloads, changed modules; and names and files."""

import os
import re
import signal
from pathlib import Path

import pytest

from app_server import AppServer
from load import Load
from running import Runner, children, run, wait_until


def later(path: Path) -> None:
    """Touch a file so that whole seconds show it."""
    path.touch()
    stamp = path.stat().st_mtime + 5
    os.utime(path, (stamp, stamp))


def wait_generation(server: AppServer, number: int) -> None:
    wait_until(lambda: server.generation() == number, f"generation {number}: {server.running.output()}", 30)


def test_touched_files(programs: Runner) -> None:
    touched = {name: programs.directory / name for name in ("all", "workers", "chain", "run", "hook")}
    words = ["--touch-reload", str(touched["all"]), "--touch-workers-reload", str(touched["workers"])]
    words += ["--touch-chain-reload", str(touched["chain"]), "--touch-exec", f"{touched['run']} echo it-ran"]
    words += ["--hook-touch", f"{touched['hook']} writen:{programs.directory}/hooked touched"]
    touched["workers"].touch()
    server = AppServer(programs, *words, processes=2)
    wait = server.running.wait_for
    wait(f"unable to stat() {touched['all']}, events will be triggered as soon as the file is created")
    touched["all"].touch()
    wait(f" - *** {touched['all']} has been touched... grace them all !!! ***")
    wait_generation(server, 2)
    later(touched["workers"])
    wait(f"*** {touched['workers']} has been touched... workers reload !!! ***")
    wait_generation(server, 3)
    touched["chain"].touch()
    wait(f"*** {touched['chain']} has been touched... chain reload !!! ***")
    wait_generation(server, 4)
    later(touched["run"])
    wait("[uwsgi-touch-exec] running echo it-ran")
    wait_until(lambda: "\nit-ran\n" in server.running.output(), "the command")
    touched["all"].unlink()
    wait_generation(server, 5)
    later(touched["hook"])
    wait_until(lambda: (programs.directory / "hooked").read_text() == "touched\n", "the hook")
    assert server.get() == b"ok"


@pytest.mark.parametrize("lazy", [False, True])
def test_a_chain_replaces_one_worker_after_the_other(programs: Runner, *, lazy: bool) -> None:
    fifo = programs.directory / "fifo"
    words = ["--master-fifo", str(fifo), *(["--lazy-apps"] if lazy else [])]
    server = AppServer(programs, *words, processes=3)
    most: list[int] = []
    with Load(server) as load:
        server.write("def more(environ):\n    return b'ok'")
        fifo.write_text("c")

        def replaced() -> bool:
            most.append(len(server.processes()))
            return server.generation() == 2 and server.state() == "ready"

        wait_until(replaced, "the chain", 30)
        wait_until(lambda: len(server.processes()) == 5, "three workers, a zygote and the link", 30)
    assert load.failures == []
    output = server.running.output()
    assert "chain reload starting..." in output
    assert [f"chain next victim is worker {number}" in output for number in (1, 2, 3)] == [True] * 3
    assert "chain reloading complete" in output
    assert max(most) <= 5 + 1 + 2  # one worker too many, the new zygote, and one that is ending


def test_a_chain_that_breaks_gives_back_what_it_replaced(programs: Runner) -> None:
    """The second worker cannot be started: the first one's predecessor has gone already."""
    fifo = programs.directory / "fifo"
    server = AppServer(programs, "--master-fifo", str(fifo), "--lazy-apps", processes=2)
    server.write(
        "if os.path.exists(HERE + '/one'): raise ValueError('one is enough')\nopen(HERE + '/one', 'w').close()"
    )
    fifo.write_text("c")
    wait_until(lambda: server.server()["reload_failures"] == 1, f"failure: {server.running.output()}", 30)
    server.write("")
    server.wait_ready()
    wait_until(lambda: len(server.processes()) == 4, "everybody", 30)
    assert server.generation() == 1
    assert server.get() == b"ok"


def test_the_master_fifo(programs: Runner) -> None:
    first, second = programs.directory / "f1", programs.directory / "f2"
    words = ["--master-fifo", str(first), "--master-fifo", str(second), "--cheaper", "1", "--cheaper-algo", "manual"]
    pidfile = programs.directory / "pid"
    server = AppServer(programs, *words, "--pidfile2", str(pidfile), processes=2, wait=False)
    wait_until(lambda: server.state() == "ready", "ready", 30)

    def running(count: int) -> None:
        wait_until(lambda: sum(pid > 0 for pid in server.pids()) == count, f"{count} workers", 30)

    running(1)
    first.write_text("+")
    running(2)
    first.write_text("-")
    running(1)
    first.write_text("1")
    server.running.wait_for(f"active master fifo is now {second}")
    second.write_text("s")
    server.running.wait_for("total requests: 0")
    second.write_text("p")
    wait_until(lambda: server.state() == "paused", "a pause")
    second.write_text("p")
    wait_until(lambda: server.state() == "ready", "no pause")
    pidfile.unlink()
    second.write_text("PS?")  # what means nothing is passed over
    wait_until(lambda: pidfile.read_text() == f"{server.pid}\n", "the pidfile")
    for number, letter in enumerate("rRwW", 2):
        second.write_text(letter)
        wait_generation(server, number)
    second.write_text("C")
    running(0)
    assert server.get() == b"ok"
    running(1)
    second.write_text("q")
    assert server.running.wait(30) == 0


def test_a_brutal_reload_drops_what_is_served(programs: Runner) -> None:
    fifo = programs.directory / "fifo"
    server = AppServer(programs, "--master-fifo", str(fifo))
    with server.connect() as client:
        client.send(b"GET /wait/never HTTP/1.1\r\nHost: h\r\n\r\n")
        server.entered("never")
        fifo.write_text("R")
        assert client.rest() == b""
    wait_generation(server, 2)
    assert server.get() == b"ok"


def test_a_changed_module_reloads(programs: Runner) -> None:
    server = AppServer(programs, "--py-auto-reload", "1", wait=False)
    server.running.wait_for("Python auto-reloader enabled\n")
    server.wait_ready()
    assert server.get("/hello") == b"ok"
    (server.home / "app.py").write_text("application = None +")
    stamp = (server.home / "app.py").stat().st_mtime + 5
    os.utime(server.home / "app.py", (stamp, stamp))
    server.running.wait_for("has been modified", 30)
    wait_until(lambda: server.server()["reload_failures"] == 1, "a failure", 30)
    server.write("def more(environ): return b'new'")
    wait_until(lambda: server.get() == b"new", "the new version", 30)


def test_exit_on_reload(programs: Runner) -> None:
    server = AppServer(programs, "--exit-on-reload")
    server.running.send(signal.SIGHUP)
    assert server.running.wait(30) == 0
    assert "uWSGI: GAME OVER (insert coin)" in server.running.output()


def test_pidfiles_and_vacuum(programs: Runner) -> None:
    files = {name: programs.directory / name for name in ("pidfile", "pidfile2", "safe-pidfile", "safe-pidfile2")}
    words = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    server = AppServer(programs, *words, "--vacuum")
    assert {path.read_text() for path in files.values()} == {f"{server.pid}\n"}
    assert f"writing pidfile to {files['safe-pidfile']}" in server.running.output()
    assert server.running.stop() == 0
    assert not [path for path in files.values() if path.exists()]


def titles(server: AppServer) -> set[str]:
    return {
        Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
        for pid in (server.pid, *children(server.pid))
    }


def test_process_names(programs: Runner) -> None:
    helpers = ["--mule", "--spooler", str(programs.directory)]
    server = AppServer(programs, "--auto-procname", "--procname-prefix-spaced", "mine", *helpers, processes=2)
    roles = ("master", "zygote", "worker 1", "worker 2", "mule 1", "spooler")
    wanted = {f"mine uWSGI {role}" for role in roles}
    wait_until(lambda: wanted <= titles(server), "the names", 30)
    assert Path(f"/proc/{server.pid}/comm").read_text() == "mine uWSGI mast\n"
    long = "x" * 300
    words = ["--procname", long, "--procname-master", "boss", "--procname-append", "!"]
    other = AppServer(programs, *words, name="other", app="def more(e): return os.environ['HOME_'].encode()",
                      environ={"HOME_": "kept"})  # fmt: skip
    wait_until(lambda: "boss!" in titles(other), "the name", 30)
    assert any(title.startswith("xxx") for title in titles(other))
    assert other.get() == b"kept"


def test_hooks_of_every_moment(programs: Runner) -> None:
    log = programs.directory / "moments"
    moments = ["asap", "pre-jail", "post-jail", "in-jail", "as-root", "as-user", "master-start", "pre-app", "post-app"]
    moments += ["post-fork", "accepting", "accepting1", "accepting-once", "accepting1-once", "as-user-atexit"]
    words = [word for moment in moments for word in (f"--hook-{moment}", f"appendn:{log} {moment}")]
    words += ["--exec-as-user", f"echo exec-as-user >>{log}", "--hook-asap", f"mkdir:{programs.directory}/made"]
    server = AppServer(programs, *words)
    wait_until(lambda: log.read_text().count("\n") == len(moments), f"all: {log.read_text()}", 30)
    said = log.read_text().split()
    assert said[:7] == ["asap", "pre-jail", "post-jail", "in-jail", "as-root", "as-user", "exec-as-user"]
    assert said[7:] == moments[6:-1]
    assert (programs.directory / "made").is_dir()
    assert f'running "appendn:{log} asap" (asap)...' in server.running.output()
    assert server.running.stop() == 0
    assert log.read_text().split()[-1] == "as-user-atexit"


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["--hook-asap", "nonsense:1"], 78, "hook-asap: hook action not found: nonsense"),
        (["--hook-asap", "print"], 78, "invalid hook syntax, must be hook:args"),
        (["--exec-as-user", "exit 3"], 1, 'command "exit 3" exited with non-zero code: 3'),
        (["--hook-asap", "alarm:tell me"], 1, "only hook-master-start and hook-touch can do that"),
        (["--hook-post-fork", "unlink:/nowhere/at/all"], 0, "FATAL hook failed, destroying instance"),
        (["--touch-exec", "file"], 78, "touch-exec takes a file and a command"),
        (["--touch-signal", "file x"], 78, "touch-signal takes a file and the number of a uwsgi signal"),
    ],
)
def test_hooks_that_fail(programs: Runner, words: list[str], status: int, text: str) -> None:
    server = AppServer(programs, *words, wait=False)
    assert server.running.wait(30) == status
    assert text in server.running.output()


def test_a_signal_means_what_the_config_says(programs: Runner) -> None:
    """The recipe for containers: SIGTERM, or another signal, drains."""
    words = ["--hook-master-start", "unix_signal:12 gracefully_kill_them_all", "--hook-master-start", "print:begun"]
    server = AppServer(programs, *words)
    assert 'running "print:begun" (master-start)...\nbegun\n' in server.running.output()
    server.running.send(signal.SIGUSR2)
    assert server.running.wait(30) == 0
    assert "draining workers" in server.running.output()


def test_a_hook_raises_an_alarm(programs: Runner) -> None:
    touched = programs.directory / "touched"
    touched.touch()
    words = ["--hook-master-start", "alarm:tell it begins", "--hook-touch", f"{touched} alarm:tell it was touched"]
    server = AppServer(programs, "--alarm", "tell log:again", *words)
    wait_until(lambda: server.server()["alarms_raised"] == 1, "the alarm")
    os.utime(touched, (0, 0))
    wait_until(lambda: server.server()["alarms_raised"] == 2, "the other alarm")


RAISING = """
    def application(environ, start_response):
        uwsgi.alarm("tell", environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b"raised"]
"""


def test_what_no_alarm_daemon_takes_is_counted(programs: Runner) -> None:
    """Nothing waits for it, and everybody sees how much it will find: status, the segment, metrics, SNMP."""
    server = AppServer(programs, "--alarm", "tell log:", app=RAISING)
    for number in range(5):
        assert server.get(f"/{number}") == b"raised"
    wait_until(lambda: server.server()["events_waiting"] > 5, "the alarms and the rules, which go ahead")
    assert server.server()["events_dropped"] == 0
    status = run("palatine", "status", env={**os.environ, **programs.environ()}).stdout
    assert re.search(r"[67] events for the alarm-daemon", status)


def test_watched_trees(programs: Runner) -> None:
    """The kernel tells, within a second or at once; signal 5 is the app's own."""
    graceful, brutal, signalled = (programs.directory / name for name in ("graceful", "brutal", "signalled"))
    graceful.mkdir()
    brutal.touch()
    signalled.touch()
    app = f"""
    def heard(number): open(r"{programs.directory}/heard", "a").close()
    uwsgi.register_signal(5, "", heard)
    """
    words = ["--fs-reload", str(graceful), "--fs-brutal-reload", str(brutal), "--fs-signal", f"{signalled} 5"]
    server = AppServer(programs, *words, app=app)
    with signalled.open("a") as file:
        file.write("x")
    wait_until((programs.directory / "heard").exists, "the signal", 30)
    (graceful / "new").touch()
    server.running.wait_for(f"*** {graceful} has been touched... grace them all !!! ***", 30)
    wait_until(lambda: server.generation() >= 2 and server.state() == "ready", "a reload", 30)
    with server.connect() as client:
        client.send(b"GET /wait/never HTTP/1.1\r\nHost: h\r\n\r\n")
        server.entered("never")
        brutal.write_text("y")
        assert client.rest() == b""
    server.running.wait_for(f"*** {brutal} has been touched... reap them all !!! ***", 30)
