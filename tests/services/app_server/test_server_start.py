"""How an instance starts: locks and waits before it, limits and jails around it; real users, mounts, namespaces."""

import fcntl
import json
import os
import resource
import signal
import socket
import struct
from pathlib import Path

import pytest

from app_server import AppServer, for_everybody
from palatine.config import load
from palatine.errors import ConfigError
from palatine_app_server.config import start_settings
from palatine_app_server.starting import gates, limits
from palatine_app_server.starting.errors import GateError
from palatine_app_server.starting.gates import Gate, Lock
from running import Runner, wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has namespaces, capabilities and other users")

#: Tells what a worker is: users, capabilities, limits, where it is and what it sees.
TELLING = """
import json, os, resource, socket, sys
def more(environ):
    with open("/proc/self/status") as file:
        status = dict(line.split(":\\t", 1) for line in file.read().splitlines() if ":\\t" in line)
    try:
        import uwsgi
        mode = getattr(uwsgi, "mode", b"").decode()
    except ImportError:
        mode = ""
    return json.dumps({
        "uid": os.getuid(), "caps": int(status["CapEff"], 16), "host": socket.gethostname(), "cwd": os.getcwd(),
        "prio": os.getpriority(os.PRIO_PROCESS, 0), "cpus": sorted(os.sched_getaffinity(0)), "mode": mode,
        "fd": resource.getrlimit(resource.RLIMIT_NOFILE), "as": resource.getrlimit(resource.RLIMIT_AS)[0],
        "mnt": sorted(os.listdir("/mnt")), "env": os.environ.get("FROM_DIR"), "gone": "GONE" in os.environ,
        "stdin": os.readlink("/proc/self/fd/0"), "loaded_by": LOADED_BY,
    }).encode()
LOADED_BY = os.getuid()
"""


def told(server: AppServer) -> dict[str, object]:
    found: dict[str, object] = json.loads(server.get("/tell"))
    return found


def test_limits_and_surroundings(programs: Runner) -> None:
    home = programs.directory / "app"
    (home / "env").mkdir(parents=True)
    (home / "env" / "FROM_DIR").write_text("yes\n")
    (home / "env" / "GONE").write_text("")
    (home / "elsewhere").mkdir()
    server = AppServer(
        programs, "--max-fd", "300", "--limit-as", "3000", "--prio", "4", "--cpu-affinity", "1", "--mode", "test",
        "--envdir", str(home / "env"), "--file-write", f"{home}/written=some text", "--force-cwd",
        str(home / "elsewhere"), "--honour-stdin", processes=2, app=TELLING, environ={"GONE": "still"},
    )  # fmt: skip
    facts = told(server)
    assert facts["fd"] == [300, 300]
    assert facts["as"] == 3000 << 20
    assert facts["prio"] == 4
    assert facts["mode"] == "test"
    assert (facts["env"], facts["gone"]) == ("yes", False)
    assert facts["cwd"] == str(home / "elsewhere")
    assert (home / "written").read_text() == "some text\n"
    assert "limiting address space of processes...\n" in server.running.output()
    assert len(facts["cpus"]) == 1  # type: ignore[arg-type]
    server.running.wait_for("mapping worker 2 to CPUs: ")
    server.running.send(signal.SIGHUP)
    wait_until(lambda: server.generation() > 1, "the reload")
    assert told(server)["cwd"] == str(home / "elsewhere")


def test_cpus_go_round() -> None:
    assert [limits.cpus_of(worker, 2, 3) for worker in (1, 2, 3, 4)] == [[0, 1], [2, 0], [1, 2], [0, 1]]


def test_memory_is_locked_only_where_it_may_be(programs: Runner) -> None:
    endless = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] == resource.RLIM_INFINITY
    server = AppServer(programs, "--never-swap")
    status = Path(f"/proc/{server.pids()[0]}/status").read_text()
    if endless:
        assert "VmLck:\t       0 kB" not in status
    else:
        may_raise = "memory is not locked" not in server.running.output()
        assert may_raise == ("VmLck:\t       0 kB" not in status)


@pytest.mark.parametrize("option", ["--flock", "--flock2"])
def test_a_locked_file_keeps_a_second_instance_out(programs: Runner, option: str) -> None:
    lock = programs.directory / "lock"
    lock.touch()
    server = AppServer(programs, option, str(lock))
    second = AppServer(programs, option, str(lock), name="second", wait=False)
    assert second.running.wait() == 1
    assert f"{lock} is locked by another instance" in second.running.output()
    waiting = AppServer(programs, f"{option.replace('flock', 'flock-wait')}", str(lock), name="third", wait=False)
    with lock.open("r+") as file, pytest.raises(BlockingIOError):  # as uWSGI itself locks it
        fcntl.fcntl(file, fcntl.F_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    assert server.running.stop(signal.SIGINT) == 0
    waiting.wait_ready()


def test_gates_open_when_it_is_there(tmp_path: Path) -> None:
    gates.wait(Gate("interface", "lo"))
    gates.wait(Gate("mountpoint", "/proc"))
    gates.wait(Gate("dir", str(tmp_path)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gates.wait(Gate("socket", f"127.0.0.1:{listener.getsockname()[1]}"))
    for gate in (Gate("file", str(tmp_path), 0), Gate("fs", "/none", 0), Gate("interface", "none0", 0)):
        with pytest.raises(GateError, match="unavailable after 0 seconds"):
            gates.wait(gate)
    with pytest.raises(GateError, match="No such file"):
        gates.hold(Lock("/none", waits=False))


def test_an_instance_waits_for_a_path(programs: Runner) -> None:
    path = programs.directory / "late"
    server = AppServer(programs, "--wait-for-file", str(path), wait=False)
    server.running.wait_for(f"waiting for {path} (max 60 seconds) ...")
    path.touch()
    server.wait_ready()


@as_root
def test_capabilities_survive_the_drop(programs: Runner) -> None:
    words = ["--uid", "nobody", "--gid", "nogroup", "--cap", "net_bind_service,5"]
    server = AppServer(programs, *words, app=TELLING, **for_everybody(programs))
    assert (told(server)["uid"], told(server)["caps"]) == (65534, 1 << 10 | 1 << 5)


@as_root
def test_namespaces_are_the_workers_also_after_a_reload(programs: Runner) -> None:
    server = AppServer(
        programs, "--uid", "nobody", "--gid", "nogroup", "--unshare", "mount,uts",
        "--hook-as-root", "hostname:jailed", "--mount-as-root", "tmpfs none /mnt",
        "--exec-as-root", "touch /mnt/inside", "--exec-as-user", "id -u", app=TELLING, **for_everybody(programs),
    )  # fmt: skip
    for generation in (1, 2):
        facts = told(server)
        assert (facts["uid"], facts["host"], facts["mnt"]) == (65534, "jailed", ["inside"])
        assert socket.gethostname() != "jailed"
        assert "inside" not in os.listdir("/mnt")
        if generation == 1:
            server.running.send(signal.SIGHUP)
            wait_until(lambda: server.generation() > 1, "the reload")
    assert Path(f"/proc/{server.pid}/status").read_text().partition("Uid:\t")[2].startswith("65534\t65534\t0\t")
    assert server.running.stop(signal.SIGINT) == 0


@as_root
def test_a_jail_has_its_own_root(programs: Runner) -> None:
    """Mounts are the test's own: it starts in a mount namespace that ends with it."""
    jail = programs.directory / "jail"
    for name in ("mnt", "proc", "tmp", "usr", "lib", "lib64", "dev"):
        (jail / name).mkdir(parents=True)
    start = for_everybody(programs)
    inner = programs.directory / "in-own-namespace"
    inner.write_text(f'#!/bin/sh\nexec unshare -m -- {start["program"]} "$@"\n')
    inner.chmod(0o755)
    binds = [f"none {path} {jail}{path} bind" for path in ("/usr", "/lib", "/lib64", "/proc", "/dev")]
    shared = [path for path in import_roots() if not path.startswith("/usr")]
    for path in (*shared, str(programs.directory)):
        Path(f"{jail}{path}").mkdir(parents=True, exist_ok=True)
        binds.append(f"none {path} {jail}{path} bind")
    mounts = [word for bind in binds for word in ("--mount-pre-jail", bind)]
    server = AppServer(
        programs, *mounts, "--chroot", str(jail), "--uid", "nobody", "--gid", "nogroup", "--chdir", "/tmp",
        app=TELLING, program=str(inner), environ=start["environ"],
    )  # fmt: skip
    facts = told(server)
    assert (facts["uid"], facts["cwd"], facts["mnt"]) == (65534, "/tmp", [])
    assert Path(f"/proc/{server.pids()[0]}/root").readlink() == jail
    assert server.running.stop(signal.SIGINT) == 0


def import_roots() -> set[str]:
    """Directories the started interpreter imports from."""
    from running import import_path

    return {path for path in import_path().split(os.pathsep) if os.path.isdir(path)}


@as_root
def test_namespaces_are_given_away_and_joined(programs: Runner) -> None:
    door = programs.runtime / "door"
    words = [
        "--setns-socket",
        str(door),
        "--setns-skip",
        "net",
        "--unshare",
        "uts",
        "--hook-as-root",
        "hostname:shared",
    ]
    AppServer(programs, *words, app=TELLING)
    joining = AppServer(programs, "--setns", str(door), name="joining", app=TELLING)
    assert told(joining)["host"] == "shared"
    assert told(joining)["cwd"] == str(programs.directory / "joining")
    assert door.stat().st_mode & 0o777 == 0o600


@as_root
def test_privileges_may_be_dropped_after_the_app(programs: Runner) -> None:
    words = ["--uid", "nobody", "--gid", "nogroup", "--drop-after-apps"]
    server = AppServer(programs, *words, app=TELLING, **for_everybody(programs))
    assert (told(server)["uid"], told(server)["loaded_by"]) == (65534, 0)


@as_root
def test_what_a_patched_master_executes_has_its_sockets(programs: Runner) -> None:
    words = [
        "--uid",
        "nobody",
        "--gid",
        "nogroup",
        "--unprivileged-binary-patch-arg",
        "/bin/sh -c id;ls$IFS/proc/$$/fd",
    ]
    server = AppServer(programs, *words, wait=False, **for_everybody(programs))
    assert server.running.wait() == 0
    assert "uid=65534(nobody)" in server.running.output()


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("unshare = pid", "use a container"),
        ("unshare = nonsense", "unknown namespace subsystem: nonsense"),
        ("cap = fly", "unknown capability: fly"),
        ("pivot-root = /jail", "must be separated by a space"),
        ("file-write = nothing", "it takes a name, = and a value"),
        ("cgroup-dir-mode = rwx", "is not an octal number"),
        ("prio = 20", "it must be at most 19"),
        ("after-request-hook = c_symbol", "C functions cannot be called"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(tmp_path: Path, line: str, text: str) -> None:
    (tmp_path / "a.ini").write_text(f"[uwsgi]\n{line}\n")
    with pytest.raises(ConfigError, match=text) as refused:
        start_settings.read(load(["a.ini"], {}, cwd=str(tmp_path)))
    assert (refused.value.path, refused.value.line) == ("a.ini", 2)
