"""uWSGI's own unit for one app, with palatine in it: judged by systemd, then lived through as systemd would have it."""

import configparser
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from running import BIN, Runner, wait_until
from worker_inside import Client, packet

UNITS = Path(__file__).parents[3] / "deploy/examples/systemd"
#: Binds the socket, as systemd does, and hands it on as descriptor 3.
ACTIVATE = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.bind(sys.argv[1])
sock.listen(5)
os.dup2(sock.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""
#: struct ucred of unix(7).
CREDENTIALS = struct.Struct("iII")


def unit(name: str) -> configparser.RawConfigParser:
    parsed = configparser.RawConfigParser(strict=False)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
    parsed.read(UNITS / name)
    return parsed


@pytest.mark.interop
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    for name in ("opt/palatine/bin/palatine", "bin/kill"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for path in UNITS.iterdir():
        (units / path.name).write_text(path.read_text())
    for target in ("basic", "network", "multi-user", "sysinit", "shutdown", "sockets"):
        (units / f"{target}.target").write_text(f"[Unit]\nDescription={target}\n")
    command = ["systemd-analyze", "verify", "--man=no", f"--root={tmp_path}"]
    command += ["uwsgi-app@hello.service", "uwsgi-app@hello.socket"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_is_the_unit_of_uwsgis_documentation() -> None:
    service = unit("uwsgi-app@.service")["Service"]
    assert service["Type"] == "notify"
    assert service["KillSignal"] == "SIGQUIT"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["NotifyAccess"] == "all"
    assert unit("uwsgi-app@.socket")["Socket"]["ListenStream"] in service["ExecStart"]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """What the service manager listens on; it sees who speaks."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        sock.settimeout(30)
        sock.bind(str(tmp_path / "notify"))
        yield sock


def heard(manager: socket.socket, wanted: str) -> int:
    """Wait for `wanted`; the pid of who said it."""
    while True:
        data, control, _, _ = manager.recvmsg(4096, socket.CMSG_SPACE(CREDENTIALS.size))
        if wanted in data.decode().split("\n"):
            pid: int = CREDENTIALS.unpack(control[0][2][: CREDENTIALS.size])[0]
            return pid


def answer(path: Path) -> bytes:
    with Client(str(path)) as client:
        client.send(packet({"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_PROTOCOL": "HTTP/1.1"}))
        return client.rest().rpartition(b"\r\n\r\n")[2]


def test_it_starts_reloads_and_stops(programs: Runner, manager: socket.socket, tmp_path: Path) -> None:
    service = unit("uwsgi-app@.service")["Service"]
    path = tmp_path / "hello.socket"
    (tmp_path / "app.py").write_text("def application(e, s):\n    s('200 OK', [])\n    return [b'first']\n")
    (tmp_path / "hello.ini").write_text("[uwsgi]\nwsgi-file = app.py\nprocesses = 2\n")
    words = (
        service["ExecStart"].replace("/etc/uwsgi/apps-available", str(tmp_path)).replace("/run/uwsgi", str(tmp_path))
    )
    words = words.replace("/opt/palatine/bin", str(BIN)).replace("%i", "hello")
    app = programs.start(
        sys.executable, "-c", ACTIVATE, str(path), *words.split(),
        cwd=tmp_path, environ={"NOTIFY_SOCKET": str(tmp_path / "notify")},
    )  # fmt: skip
    assert heard(manager, "READY=1") == app.pid
    assert answer(path) == b"first"
    (tmp_path / "app.py").write_text("def application(e, s):\n    s('200 OK', [])\n    return [b'second']\n")
    os.kill(app.pid, signal.SIGHUP)  # ExecReload
    assert heard(manager, "READY=1") == app.pid
    wait_until(lambda: answer(path) == b"second", "the new generation alone")
    app.send(signal.Signals[service["KillSignal"]])
    assert heard(manager, "STOPPING=1") == app.pid
    assert app.wait() == 0
    assert path.exists()  # systemd's own


def test_a_broken_config_is_not_tried_again(programs: Runner, tmp_path: Path) -> None:
    (tmp_path / "hello.ini").write_text("[uwsgi]\nprocesses = many\n")
    app = programs.start("palatine", "--ini", str(tmp_path / "hello.ini"), "--socket", "x.sock", cwd=tmp_path)
    assert str(app.wait(30)) in unit("uwsgi-app@.service")["Service"]["RestartPreventExitStatus"].split()
