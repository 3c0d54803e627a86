"""Hooks, mounts and calls at their moments; what a vassal's master, its mules and its requests run; what it watches."""

import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from app_server import AppServer
from palatine.codec import emperor_pipe
from palatine.config import load
from palatine.errors import ConfigError
from palatine_app_server.config import process_settings
from palatine_app_server.starting import filesystems, hooks
from running import Runner, wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")

CALLED = """
import sys, uwsgi
def early(text="nothing"):
    sys.stderr.write(f"early {text}\\n")
def number(value):
    sys.stderr.write(f"number {value + 1}\\n")
    return 0
def after():
    sys.stderr.write(f"after {uwsgi.worker_id()}\\n")
def broken():
    raise ValueError("my own fault")
"""


def test_python_functions_are_called(programs: Runner) -> None:
    home = programs.directory / "app"
    home.mkdir()
    (home / "called.py").write_text(CALLED)
    server = AppServer(
        programs, "--pythonpath", str(home), "--call-pre-app", "called:early", "--hook-post-app",
        "call:called.early with words", "--hook-accepting", "callintret:called:number 41",
        "--after-request-hook", "called:after", "--after-request-call", "called:broken",
        app="import uwsgi\nuwsgi.after_req_hook = lambda: print('assigned', flush=True)\n",
    )  # fmt: skip
    assert server.get() == b"ok"
    for text in ("early nothing", "early with words", "number 42", "after 1", "my own fault", "assigned"):
        server.running.wait_for(text)
    assert server.get() == b"ok"


def test_a_hook_says_what_it_does_unless_it_is_private(programs: Runner) -> None:
    home = programs.directory / "app"
    server = AppServer(
        programs, "--binsh", "/none", "--binsh", "/bin/bash", "--hook-asap", "!exec:echo secret=$BASH",
        "--hook-as-user", "safeexec:exit 3", "--hook-as-user", f"wait_for_file:{home}/app.py",
    )  # fmt: skip
    text = server.running.output()
    assert "running --- PRIVATE HOOK --- (asap)..." in text
    assert "secret=/bin/bash" in text
    assert 'command "exit 3" exited with non-zero code: 3' in text
    assert f"{home}/app.py found" in text


def test_a_mule_has_its_hook(programs: Runner) -> None:
    server = AppServer(programs, "--mules", "1", "--hook-as-mule", "exec:echo I am a mule")
    server.running.wait_for("I am a mule")


def test_a_vassal_hears_its_emperor(programs: Runner) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = AppServer(
            programs, "--heartbeat", "1", "--hook-emperor-reload", "print:told to reload",
            "--hook-emperor-stop", "print:told to stop",
            environ={emperor_pipe.FD_VARIABLE: str(theirs.fileno())}, pass_fds=(theirs.fileno(),),
        )  # fmt: skip
        ours.settimeout(30)
        heard = b""
        while heard.count(emperor_pipe.HEARTBEAT) < 2:
            heard += ours.recv(64)
        ours.send(bytes([emperor_pipe.RELOAD]))
        server.running.wait_for("told to reload")
        wait_until(lambda: server.generation() > 1, "the reload")
        ours.send(bytes([emperor_pipe.STOP]))
        server.running.wait_for("told to stop")
        assert server.running.wait() == 0


def test_a_vassal_without_an_idle_worker_asks_for_help(programs: Runner) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = AppServer(
            programs, "--vassal-sos", "1",
            environ={emperor_pipe.FD_VARIABLE: str(theirs.fileno())}, pass_fds=(theirs.fileno(),),
        )  # fmt: skip
        with server.connect() as client:
            client.send(b"GET /wait/one HTTP/1.0\r\n\r\n")
            server.entered("one")
            ours.settimeout(30)
            while emperor_pipe.REINFORCEMENTS not in ours.recv(64):
                pass
            server.let("one")
            assert client.rest().endswith(b"ok")
        server.running.wait_for("asking Emperor for reinforcements (overload: 1)...")


def test_a_program_may_be_the_worker(programs: Runner) -> None:
    program = programs.directory / "answer"
    program.write_text(
        f"#!{sys.executable}\nimport os, socket\nlistener = socket.socket(fileno=0)\nwhile True:\n"
        "    client, _ = listener.accept()\n    client.sendall(b'I am %d' % os.getpid())\n    client.close()\n"
    )
    program.chmod(0o755)
    server = AppServer(programs, "--worker-exec", str(program), processes=2)
    seen = set()

    def everybody_has_answered() -> bool:
        with socket.create_connection(server.address()) as client:
            seen.add(int(client.recv(64).removeprefix(b"I am ")))
        return seen <= set(server.pids())

    assert wait_until(everybody_has_answered, "an answer of the program")
    os.kill(server.pids()[0], signal.SIGKILL)
    wait_until(lambda: server.running.output().count("trying respawn") >= 1, "its death")
    seen.clear()
    wait_until(everybody_has_answered, "an answer of another")
    assert server.running.stop(signal.SIGINT) == 0


def test_forgotten_children_are_buried(programs: Runner) -> None:
    app = """
        def more(environ):
            child = os.fork()
            if not child:
                os._exit(0)
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
            return str(child).encode()
        """
    server = AppServer(programs, "--reaper", app=app)
    child = int(server.get("/child"))
    wait_until(lambda: not Path(f"/proc/{child}").exists(), "its burial")


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("pycall", r"profiler \d+\] CALL: \S+app.py \(line \d+\) -> application 2 args, stacksize \d+"),
        ("pyline", r"profiler \d+\] file \S+app.py line \d+: application argc:2"),
    ],
)
def test_the_profiler_tells_what_the_app_does(programs: Runner, kind: str, line: str) -> None:
    server = AppServer(programs, "--profiler", kind, threads=2)
    assert server.get() == b"ok"
    wait_until(lambda: re.search(line, server.running.output()), "its line")
    assert "palatine_app_server" not in "".join(re.findall(r".*profiler \d+.*", server.running.output()))


def test_notes_are_in_the_log(programs: Runner) -> None:
    server = AppServer(programs, "--notify-socket", str(programs.runtime / "notes"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", str(programs.runtime / "notes"))
    server.running.wait_for("- [notify-socket] hello")
    assert f"\nnotification socket enabled on {programs.runtime}/notes (fd: " in server.running.output()
    assert server.running.stop(signal.SIGINT) == 0
    assert not (programs.runtime / "notes").exists()


def test_an_instance_ends_with_its_filesystem(programs: Runner) -> None:
    server = AppServer(programs, "--check-mountpoint", str(programs.runtime / "mount"), wait=False)
    assert server.running.wait(30) == 0
    assert f"mountpoint {programs.runtime}/mount failed, triggering detonation..." in server.running.output()
    other = AppServer(programs, "--check-mountpoint", "/proc", name="other")
    assert other.get() == b"ok"


@as_root
def test_mounts_come_and_go(tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    outer.mkdir()
    try:
        filesystems.mount(f"tmpfs none {outer} nosuid,nodev size=64k")
        inner.mkdir()
        filesystems.mount(f"tmpfs none {inner}")
        assert outer.is_mount()
        assert inner.is_mount()
        assert os.statvfs(outer).f_flag & os.ST_NOSUID
    finally:
        filesystems.unmount(f"{outer} rec,detach")
    assert not outer.is_mount()
    with pytest.raises(OSError, match="umount2"):
        filesystems.unmount(str(outer))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("hook-as-root = call:c_symbol", "a Python function, from pre-app on: C functions cannot be called"),
        ("hook-asap = nothing", "invalid hook syntax"),
        ("hook-asap = dance:now", "hook action not found: dance"),
        ("hook-asap = rpc:f", "there is no rpc"),
        ("mount-asap = tmpfs /mnt", "a filesystem, a source and a target"),
        ("umount-in-jail = /mnt wide", 'unknown mount flag "wide"'),
    ],
)
def test_a_wrong_hook_is_refused_with_its_place(tmp_path: Path, line: str, text: str) -> None:
    (tmp_path / "a.ini").write_text(f"[uwsgi]\n{line}\n")
    with pytest.raises(ConfigError, match=text) as refused:
        process_settings.read(load(["a.ini"], {}, cwd=str(tmp_path)))
    assert (refused.value.path, refused.value.line) == ("a.ini", 2)


def test_verbs_that_uwsgi_has() -> None:
    uwsgis = (
        "cd chdir mkdir putenv chmod chown chown2 sticky exec safeexec create creat write writen append appendn unlink "
        "writefifo spinningfifo mount umount hostname wait_for_fs wait_for_file wait_for_dir wait_for_socket exit "
        "print log"
    )
    assert set(uwsgis.split()) <= set(hooks.VERBS)


@pytest.mark.parametrize("exempt", [False, True])
def test_harakiri_counts_while_functions_run_behind_a_request(programs: Runner, exempt: bool) -> None:  # noqa: FBT001
    app = """
    import uwsgi
    def behind():
        print("behind", flush=True)
        for _ in range(300):
            if os.path.exists(os.path.join(HERE, "go")):
                break
            time.sleep(0.1)
        print("done", flush=True)
    uwsgi.after_req_hook = behind
    """
    server = AppServer(programs, "--harakiri", "1", *(["--harakiri-no-arh"] if exempt else []), app=app)
    (pid,) = server.pids()
    assert server.get() == b"ok"
    server.running.wait_for("behind")
    assert (server.read("cores")[0]["harakiri_deadline_ms"] == 0) is exempt
    if exempt:
        (server.home / "go").touch()
        server.running.wait_for("done")
        assert server.pids() == [pid]
    else:
        server.wait_other_worker(pid)
        assert "HARAKIRI ON WORKER 1" in server.running.output()
