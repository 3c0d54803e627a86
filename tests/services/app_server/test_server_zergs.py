"""Sockets shared between instances, with a real uWSGI on either side; doors that give descriptors away; no sockets."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from palatine.codec import emperor_pipe
from palatine.errors import PeerError
from palatine_app_server.supervision.zergs import TAG
from palatine_app_server.system import descriptor_gifts, unix_sockets
from palatine_app_server.system.loop import Loop
from running import Runner, Running, free_port, get, wait_until

WHO = """
import os
def application(environ, start_response):
    start_response("200 OK", [("Connection", "close")])
    return [os.environ["WHO"].encode()]
"""
OURS, REAL = ("palatine-app-server",), ("uwsgi-core", "--plugins", "python3")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


def start(programs: Runner, who: str, command: tuple[str, ...], *words: str) -> Running:
    (programs.directory / "who.py").write_text(WHO)
    mine = ("--name", who) if command is OURS else ()
    return programs.start(
        *command, *mine, "--master", "--wsgi-file", "who.py", *words, cwd=programs.directory, environ={"WHO": who}
    )


def answers(url: str, who: str) -> None:
    wait_until(lambda: get(url) == who, f"an answer of the {who}")


@pytest.mark.interop
@pytest.mark.parametrize(("giver", "taker"), [(OURS, OURS), (OURS, REAL), (REAL, OURS)])
def test_a_zerg_serves_the_sockets_of_another_instance(
    programs: Runner, giver: tuple[str, ...], taker: tuple[str, ...]
) -> None:
    port, path = free_port(), programs.runtime / "own"
    listen = ("--http-socket", f"127.0.0.1:{port}", "--http-socket", str(path))
    first = start(programs, "giver", giver, *listen, "--zerg-server", str(programs.runtime / "zerg"), "--vacuum")
    first.wait_for("*** Zerg server enabled on")
    assert (programs.runtime / "zerg").stat().st_mode & 0o777 == 0o777 & ~current_umask()
    zerg = start(
        programs, "zerg", taker, "--zerg", str(programs.runtime / "zerg"), "--protocol", "http", "--vacuum",
        *(("--touch-reload", "touched") if taker is OURS else ()),
    )  # fmt: skip
    log = zerg.wait_for("spawned uWSGI worker 1")
    assert f"uwsgi zerg socket 0 attached to INET address 127.0.0.1:{port} fd" in log
    assert f"uwsgi zerg socket 1 attached to UNIX address {path} fd" in log
    assert "zerg sockets attached" in log
    wait_until(lambda: get(f"http://127.0.0.1:{port}/") in {"giver", "zerg"}, "an answer of either")
    assert first.stop(signal.SIGINT) == 0
    answers(f"http://127.0.0.1:{port}/", "zerg")
    if taker is OURS:  # a uWSGI that reloads has lost them, and ends
        zerg.send(signal.SIGHUP)
        zerg.wait_for("gracefully killing workers")
        wait_until(lambda: zerg.output().count("spawned uWSGI worker 1") == 2, "the reload")
        answers(f"http://127.0.0.1:{port}/", "zerg")
    assert zerg.stop(signal.SIGINT) == 0


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_what_was_given_outlives_the_master_s_own_exec(programs: Runner) -> None:
    """A change of the config that needs another master: the sockets of the zerg server, which is gone, stay."""
    path = programs.runtime / "own"
    first = start(programs, "giver", OURS, "--http", str(path), "--zerg-server", str(programs.runtime / "zerg"))
    first.wait_for("spawned uWSGI worker 1")
    ini = programs.directory / "zerg.ini"
    ini.write_text(f"[uwsgi]\nzerg = {programs.runtime}/zerg\nvacuum = true\nprocesses = 1\n")
    zerg = start(programs, "zerg", OURS, str(ini))
    zerg.wait_for("spawned uWSGI worker 1")
    first.send(signal.SIGKILL)
    first.wait()
    ini.write_text(ini.read_text().replace("processes = 1", "processes = 2"))
    zerg.send(signal.SIGHUP)
    zerg.wait_for("spawned uWSGI worker 2")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.makefile("rb").read().endswith(b"zerg")  # http, as the giver said; no word of it in zerg.ini
    assert zerg.stop(signal.SIGINT) == 0
    assert path.exists()  # not ours to remove


def test_sockets_the_config_names_itself_are_not_bound_twice(programs: Runner) -> None:
    port, path = free_port(), programs.runtime / "zerg"
    words = ("--http-socket", f"127.0.0.1:{port}")
    first = start(programs, "giver", OURS, *words, "--zerg-server", str(path))
    first.wait_for("spawned uWSGI worker 1")
    zerg = start(programs, "zerg", OURS, *words, "--zerg", str(path), "--zerg-fallback")
    zerg.wait_for("spawned uWSGI worker 1")
    assert first.stop(signal.SIGINT) == 0
    answers(f"http://127.0.0.1:{port}/", "zerg")
    alone = start(programs, "alone", OURS, "--http-socket", "127.0.0.1:0", "--zerg", "none", "--zerg-fallback")
    assert "--- unable to connect to zerg server none ---" in alone.wait_for("spawned uWSGI worker 1")


@pytest.mark.parametrize("words", [(), ("--http-socket", "127.0.0.1:0")])
def test_without_its_zerg_server_a_zerg_does_not_start(programs: Runner, words: tuple[str, ...]) -> None:
    alone = start(programs, "alone", OURS, "--zerg", "none", *words)
    assert alone.wait() == 1
    assert "--- unable to connect to zerg server none --- (" in alone.output()


@pytest.mark.interop
@pytest.mark.parametrize("taker", [OURS, REAL], ids=["ours", "uwsgi"])
def test_a_pool_binds_for_zergs_alone(programs: Runner, taker: tuple[str, ...]) -> None:
    port, path = free_port(), programs.runtime / "pool"
    pool = programs.start(
        "palatine-app-server", "--master", "--zergpool", f"{path}:127.0.0.1:{port},{programs.runtime}/pooled",
        "--chmod-socket=640", "--name", "pool", "--vacuum",
    )  # fmt: skip
    log = pool.wait_for("no-workers")
    assert f"zergpool {path} bound to TCP socket 127.0.0.1:{port} (fd: " in log
    wait_until(path.exists, "the pool")
    assert path.stat().st_mode & 0o777 == 0o640
    for who in ("first", "second"):  # one after the other: connections wait in the queue between them
        zerg = start(programs, who, taker, "--zerg", str(path), "--protocol", "http")
        answers(f"http://127.0.0.1:{port}/", who)
        assert zerg.stop(signal.SIGINT) == 0
        if who == "first":
            pool.send(signal.SIGHUP)  # a new generation: still nobody is served here
            pool.wait_for("gracefully killing workers")
    assert pool.stop(signal.SIGINT) == 0
    assert "spawned uWSGI worker" not in pool.output()
    assert not path.exists()


def test_an_instance_with_nothing_to_serve_runs_its_daemons(programs: Runner) -> None:
    (programs.directory / "daemon.sh").write_text("touch started; exec sleep 1000\n")
    server = programs.start(
        "palatine-app-server", "--attach-daemon", "/bin/sh daemon.sh", "--name", "bare", cwd=programs.directory
    )
    wait_until((programs.directory / "started").exists, "the daemon")
    assert "*** Operational MODE: no-workers ***" in server.output()
    server.send(signal.SIGHUP)
    server.wait_for("gracefully killing workers")
    assert server.stop(signal.SIGINT) == 0


@pytest.mark.interop
@pytest.mark.parametrize(("between", "vassal"), [(OURS, OURS), (OURS, REAL), (REAL, OURS)])
def test_a_vassal_may_stand_between_its_emperor_and_another(
    programs: Runner, between: tuple[str, ...], vassal: tuple[str, ...]
) -> None:
    port, path = free_port(), programs.runtime / "proxy"
    emperor, theirs = socket.socketpair()
    with emperor, theirs:
        proxy = programs.start(
            *between, *(("--name", "between") if between is OURS else ()), "--master",
            "--emperor-proxy-socket", str(path),
            environ={"UWSGI_EMPEROR_FD": str(theirs.fileno())}, pass_fds=[theirs.fileno()],
        )  # fmt: skip
        wait_until(path.exists, "the proxy")
        assert path.stat().st_mode & 0o777 == 0o600
        emperor.settimeout(30)
        assert emperor.recv(1) == bytes([emperor_pipe.SPAWNED])  # of the proxy itself
        (programs.directory / "who.py").write_text(WHO)
        behind = programs.start(
            *vassal, *(("--name", "behind") if vassal is OURS else ()), "--http-socket", f"127.0.0.1:{port}",
            "--wsgi-file", "who.py", "--die-on-term", cwd=programs.directory,
            environ={"WHO": "behind", "UWSGI_EMPEROR_PROXY": str(path)},
        )  # fmt: skip
        answers(f"http://127.0.0.1:{port}/", "behind")
        heard = bytearray()
        while not {emperor_pipe.SPAWNED, emperor_pipe.ACCEPTING, emperor_pipe.LOYAL} <= set(heard):
            heard += emperor.recv(64)
        emperor.send(bytes([emperor_pipe.STOP]))
        assert behind.wait(30) in {0, 1}  # a uWSGI that is not reaped in time says 1
        assert proxy.process.poll() is None
        assert proxy.stop(signal.SIGINT) == 0
        assert path.exists() is (between is REAL)


# ------------------------------------------------------------------ the wire


@contextlib.contextmanager
def giver(path: Path, *messages: tuple[bytes, list[int]]) -> Iterator[None]:
    """Somebody who gives the first who connects these messages."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                for data, descriptors in messages:
                    socket.send_fds(client, [data], descriptors)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize(
    "data", [b"uwsgi-setns" + struct.pack("i", 1), TAG + struct.pack("i", 2), TAG, b"HTTP/1.0 200 OK\r\n\r\n", TAG * 9]
)
def test_what_is_no_gift_is_refused_and_nothing_stays_open(tmp_path: Path, data: bytes) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with (
        open(os.devnull, "rb") as file,
        giver(tmp_path / "s", (data, [file.fileno()])),
        pytest.raises(PeerError, match="no descriptors come here"),
    ):
        descriptor_gifts.fetch(str(tmp_path / "s"), TAG, 5)
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_note_without_end_is_refused(tmp_path: Path) -> None:
    with (
        open(os.devnull, "rb") as file,
        giver(tmp_path / "s", (TAG + struct.pack("i", 1), [file.fileno()]), (b"x" * 99999, [])),
        pytest.raises((PeerError, OSError)),
    ):
        descriptor_gifts.fetch(str(tmp_path / "s"), TAG, 5)


def test_descriptors_that_do_not_listen_end_a_zerg(programs: Runner) -> None:
    path = programs.runtime / "zerg"
    with open(os.devnull, "rb") as file, giver(path, (TAG + struct.pack("i", 1), [file.fileno()])):
        zerg = start(programs, "zerg", OURS, "--zerg", str(path))
        assert zerg.wait() == 1
    assert f"--- invalid data received from zerg server {path} ---" in zerg.output()
    assert "Traceback" not in zerg.output()


@as_root
def test_an_abstract_name_is_for_its_user_alone() -> None:
    name = f"@palatine-{os.getpid()}"
    said: list[str] = []
    loop = Loop()
    listener = unix_sockets.listening("zerg-server", name, None)
    door = descriptor_gifts.Door(
        "zerg-server", name, listener, loop, said.append, lambda client: descriptor_gifts.give(client, TAG, [0])
    )
    door.start(0.0)
    ask = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('\\0{name[1:]}\\0'); print(s.recv(99))"
    try:
        for user, answer in ((0, str(TAG + struct.pack("i", 1))), (65534, "b''")):
            caller = subprocess.Popen(["/usr/bin/python3", "-c", ask], user=user, stdout=subprocess.PIPE, text=True)
            loop.turn(30)
            out, _ = caller.communicate(timeout=30)
            assert out.strip() == answer
    finally:
        door.stop(0.0)
        loop.abandon_in_child()
    assert said == [f"zerg-server: {name} is not for uid 65534"]
