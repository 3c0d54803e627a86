"""Sockets in uWSGI's spellings, as a config and on a running instance; what systemd passes."""

import os
import socket
import stat
import sys
from pathlib import Path

import pytest

from palatine import config
from palatine.errors import ConfigError
from palatine_app_server.config import socket_settings
from palatine_app_server.config.socket_settings import SocketSettings, SocketWish
from palatine_app_server.system import sockets
from running import Runner, run, wait_until
from worker_inside import Client


def wishes(*words: str) -> tuple[SocketWish, ...]:
    return socket_settings.read_sockets(config.load(words, {}, cwd="/"))


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--socket", ":1"), ("uwsgi", ":1")),
        (("-s", ":1", "--protocol=http"), ("http", ":1")),
        (("--socket", ":1", "--socket-protocol=http"), ("http", ":1")),
        (("--uwsgi-socket", ":1", "--protocol=http"), ("uwsgi", ":1")),
        (("--http", "/a"), ("http", "/a")),
        (("--fastcgi-socket", "/a"), ("fastcgi", "/a")),
        (("--socket", ":1", "--protocol=scgi"), ("scgi", ":1")),
        (("--socket", "/a", "--abstract-socket"), ("uwsgi", "@/a")),
        (("--socket", ":1", "--abstract-socket"), ("uwsgi", ":1")),
        (("--socket", "\\0name"), ("uwsgi", "@name")),
        (("--shared-socket", ":1", "--shared-socket", ":2", "--http-socket", "=1"), ("http", ":2")),
        (("--shared-socket", ":1", "--https", "=0,cert,key"), ("https", ":1")),
    ],
)
def test_what_is_asked_for(words: tuple[str, ...], wanted: tuple[str, str]) -> None:
    assert wishes(*words) == (SocketWish(*wanted),)


def test_the_keys_of_a_shared_socket() -> None:
    read = config.load(("--shared-socket", ":1", "--https", "=0,cert,key"), {}, cwd="/")
    assert [(each.address, each.key) for each in socket_settings.read_tls(read)] == [(":1", "key")]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--http-socket", "=0"), "unable to use shared socket 0"),
        (("--http-socket", "=x"), "unable to use shared socket x"),
        (("--socket", ":1", "--protocol=raw"), "only uwsgi, http, fastcgi and scgi are spoken"),
    ],
)
def test_what_is_wrong_is_refused(words: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        wishes(*words)


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ((), SocketSettings()),
        (("--chmod-socket",), SocketSettings(mode=0o666)),
        (("--chmod-socket=660", "--chown-socket", "12:34"), SocketSettings(mode=0o660, uid=12, gid=34)),
        (("--chown-socket", "root"), SocketSettings(uid=0)),
        (("--chown-socket", ":34", "--no-defer-accept"), SocketSettings(gid=34, defer=False)),
        (("--reuse-port",), SocketSettings(flags=((socket.SOL_SOCKET, socket.SO_REUSEPORT, 1),))),
        (("--freebind",), SocketSettings(flags=((socket.IPPROTO_IP, 15, 1),))),
    ],
)
def test_how_sockets_are_bound(words: tuple[str, ...], settings: SocketSettings) -> None:
    assert socket_settings.read(config.load(words, {}, cwd="/")) == settings


def test_an_owner_nobody_knows() -> None:
    with pytest.raises(ConfigError, match="no user 'nobody-such'"):
        socket_settings.read(config.load(("--chown-socket", "nobody-such"), {}, cwd="/"))


@pytest.mark.root
def test_a_file_with_an_owner(tmp_path: Path) -> None:
    path = tmp_path / "s"
    bound = sockets.bind_stream("http", str(path), 5, how=SocketSettings(mode=0o620, uid=12, gid=34))
    with bound.socket:
        status = path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o620, 12, 34)


def test_interfaces_and_flags() -> None:
    how = SocketSettings(flags=((socket.SOL_SOCKET, socket.SO_REUSEPORT, 1), (socket.IPPROTO_IP, 15, 1)))
    first = sockets.bind_stream("http", "127.*:0", 5, how=how)
    with first.socket:
        host, port = first.socket.getsockname()
        assert host == "127.0.0.1"
        with sockets.bind_stream("http", f"127.0.0.1:{port}", 5, how=how).socket as second:
            assert second.getsockname()[1] == port
    with sockets.bind_stream("http", "203.0.113.7:0", 5, how=how).socket as foreign:
        assert foreign.getsockname()[0] == "203.0.113.7"
    with pytest.raises(sockets.BindError, match="begins with 203"):
        sockets.bind_stream("http", "203.*:0", 5)


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("", {0: 0, 30: 30, 100: 100, 110: 110}),
        ("allowed-modifiers = 0", {0: 0}),
        ("remap-modifier = 0:5,30:9", {0: 0, 30: 30, 100: 100, 110: 110, 5: 0, 9: 30}),
        ("remap-modifier = 7:0", {30: 30, 100: 100, 110: 110}),
        ("allowed-modifiers = 0,30\nremap-modifier = 0:100", {0: 0, 30: 30, 100: 0}),
    ],
)
def test_modifiers(tmp_path: Path, line: str, known: dict[int, int]) -> None:
    (tmp_path / "a.ini").write_text(f"[uwsgi]\n{line}\n")
    assert socket_settings.modifiers(config.load(["a.ini"], {}, cwd=str(tmp_path))) == known


@pytest.mark.parametrize("line", ["allowed-modifiers = 0,x", "remap-modifier = 5", "remap-modifier = 1:2:3"])
def test_modifiers_are_numbers(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.ini").write_text(f"[uwsgi]\n{line}\n")
    with pytest.raises(ConfigError, match=r"a.ini:2:1: .* it takes numbers"):
        socket_settings.modifiers(config.load(["a.ini"], {}, cwd=str(tmp_path)))


#: What systemd does: bind, set the variables for the very process that is executed.
ACTIVATE = """
import os, socket, sys
held = []
for number, address in enumerate(sys.argv[1].split(","), 3):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(address)
    sock.listen(5)
    os.dup2(sock.fileno(), 40 + number)
    held.append(sock)
for number in range(3, 3 + len(held)):
    os.dup2(40 + number, number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(held)))
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_sockets_of_systemd(programs: Runner) -> None:
    home = programs.directory
    (home / "app.py").write_text("def application(e, s):\n    s('200 OK', [])\n    return [b'ok']\n")
    named, other = home / "named", home / "other"
    started = programs.start(
        sys.executable, "-c", ACTIVATE, f"{named},{other}", str(Path(sys.executable).parent / "palatine-app-server"),
        "--master", "--wsgi-file", "app.py", "--http-socket", str(named), "--protocol", "http",
    )  # fmt: skip

    def served(path: Path) -> bool:
        with Client(str(path)) as client:
            return client.get("/")[1] == b"ok"

    inode = named.stat().st_ino if named.exists() else 0
    wait_until(lambda: served(named) and served(other), "both sockets served", 30)
    assert not inode or named.stat().st_ino == inode
    output = started.output()
    assert f"uwsgi socket 0 inherited UNIX address {named} fd " in output
    assert f"uwsgi socket 1 inherited UNIX address {other} fd " in output
    os.kill(started.pid, 1)
    wait_until(lambda: started.output().count("spawned uWSGI worker 1") == 2, "the reload", 30)
    assert served(named)
    assert served(other)


def test_plain_words_of_a_tutorial(programs: Runner) -> None:
    (programs.directory / "wsgi.py").write_text("def app(e, s):\n    s('200 OK', [])\n    return [b'ok']\n")
    started = programs.start(
        "palatine-app-server", "--socket", "127.0.0.1:0", "--protocol=http", "-w", "wsgi:app", cwd=programs.directory
    )
    output = started.wait_for("spawned uWSGI worker 1", 30)
    address = output.split("uwsgi socket 0 bound to TCP address ")[1].split()[0]
    assert run("curl", "-sS", f"http://{address}/").stdout == "ok"
