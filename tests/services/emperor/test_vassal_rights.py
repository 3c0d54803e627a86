"""Namespaces and capabilities of vassals, the emperor's name: what a vassal sees of itself, as a real uWSGI's would."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import attrs
import pytest
from realm import Realm, free_port, get, master_of, wait_for

from palatine.errors import ConfigError
from palatine.kernel_words import capabilities
from palatine_emperor import vassal_rights
from palatine_emperor.settings import Settings

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")

TELLING = """
import json, os
NAMES = "pid", "net", "mnt", "uts", "ipc"

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    return [json.dumps({
        "number": os.getpid(), "parent": os.getppid(), "uid": os.getuid(),
        "processes": [name for name in os.listdir("/proc") if name.isdigit()],
        "bounding": status["CapBnd"].strip(), "effective": status["CapEff"].strip(),
        **{name: os.readlink(f"/proc/self/ns/{name}") for name in NAMES if not os.getuid()},
    }).encode()]
"""


def bits(*words: str) -> str:
    return f"{sum(1 << number for number in capabilities(','.join(words))):016x}"


def told(path: Path) -> dict[str, Any]:
    """What the app behind a UNIX socket tells: in a network of its own nothing else reaches it."""
    import http.client
    import socket

    connection = http.client.HTTPConnection("vassal", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(str(path))
        connection.request("GET", "/")
        found: dict[str, Any] = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException):
        return {}
    finally:
        connection.close()
    return found


def here(name: str) -> str:
    return os.readlink(f"/proc/self/ns/{name}")


@as_root
def test_a_vassal_in_namespaces_of_its_own(realm: Realm) -> None:
    (realm.directory / "app.py").write_text(TELLING)
    path = realm.runtime / "one"
    (realm.vassals / "one.ini").write_text(realm.ini(http_socket=path, processes=2, hook_as_root="hostname:alone"))
    words = ("--emperor", str(realm.vassals), "--emperor-use-clone", "pid,net,uts,sysvsem")
    emperor = realm.start(*words)
    first = wait_for("an answer", lambda: told(path))
    assert first["number"] < 20
    assert first["parent"] == 1
    assert len(first["processes"]) < 10
    different = {name for name in ("pid", "net", "mnt", "uts", "ipc") if first[name] != here(name)}
    assert different == {"pid", "net", "mnt", "uts"}  # a /proc of its own needs a place of its own
    assert Path("/proc/mounts").read_text().count(" /proc proc ") == 1
    master = realm.wait_state("one.ini", "loyal")["pid"]
    assert Path(f"/proc/{master}/status").read_text().split("NSpid:")[1].split()[:2] == [str(master), "1"]
    (realm.vassals / "one.ini").touch()  # a reload, then another emperor: both reach it
    realm.wait_log("reload the uwsgi instance one.ini")
    realm.wait_log("vassal one.ini is ready to accept requests", 2)
    emperor.send_signal(signal.SIGKILL)
    emperor.wait()
    realm.start(*words)
    realm.wait_log(rf"adopted vassal one\.ini \(pid: {master}\)")
    second = wait_for("an answer", lambda: told(path))
    assert (second["number"] != first["number"], second["net"]) == (True, first["net"])
    other = free_port()
    realm.vassal("two.ini", other)  # the next one has its own
    wait_for("the other", lambda: realm.list().get("two.ini", {}).get("state") == "accepting")
    assert get(other) is None  # its port is in its own network
    (realm.vassals / "one.ini").unlink()
    wait_for("one.ini is gone", lambda: "one.ini" not in realm.list())
    assert not Path(f"/proc/{master}").exists()


@as_root
def test_a_vassal_with_few_capabilities(realm: Realm) -> None:
    (realm.directory / "app.py").write_text(TELLING)
    for name, more in (("root.ini", {}), ("user.ini", {"uid": "nobody", "gid": "nogroup"})):
        (realm.vassals / name).write_text(realm.ini(http_socket=realm.runtime / name, chmod_socket=666, **more))
    realm.runtime.chmod(0o777)
    realm.directory.chmod(0o755)
    for parent in (realm.directory, *realm.directory.parents):
        if parent != Path("/") and parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
    realm.start("--emperor", str(realm.vassals), "--emperor-cap", "setuid,SETGID,cap_chown,fowner,10")
    given = bits("chown", "fowner", "setgid", "setuid", "setpcap", "net_bind_service")
    root = wait_for("an answer", lambda: told(realm.runtime / "root.ini"))
    assert (root["uid"], root["bounding"], root["effective"]) == (0, given, given)
    user = wait_for(f"an answer: {realm.log()}", lambda: told(realm.runtime / "user.ini"))
    assert (user["uid"], user["bounding"], user["effective"]) == (65534, given, "0" * 16)
    assert realm.wait_log(r"^capabilities applied for vassal root\.ini \(pid: \d+\)$")


@pytest.mark.parametrize(
    ("option", "text", "reason"),
    [
        ("emperor_use_clone", "net,wings", "unknown namespace subsystem: wings"),
        ("emperor_use_clone", "user", "has no root: uWSGI's vassals end there, too"),
        ("emperor_use_clone", "parent", "from who must know of their end"),
        ("emperor_cap", "fly", "unknown capability: fly"),
    ],
)
def test_what_makes_no_sense_is_refused(option: str, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Settings(**{option: text})
    assert attrs.evolve(Settings(), **{option: ""}) == Settings()


def test_what_clone_would_share_is_not_shared_anyway() -> None:
    assert vassal_rights.namespaces("files,io,sysvsem,fs,mnt,fs") == ("fs", "mnt")
    assert vassal_rights.capabilities("") == ()
    with pytest.raises(ConfigError):
        vassal_rights.namespaces("everything")


def test_the_emperor_s_name_and_what_is_not_there_yet(realm: Realm) -> None:
    later = realm.directory / "later"
    emperor = realm.start("--emperor", str(later), "--emperor-procname", "the emperor himself", "--emperor-freq", "1")
    assert Path(f"/proc/{emperor.pid}/cmdline").read_bytes().rstrip(b"\0") == b"the emperor himself"
    assert realm.wait_log(rf"^\[emperor\] WARNING: nothing is at {later} yet; what appears there is started$")
    port = free_port()
    later.mkdir()
    realm.vassal("late.ini", port, later)
    master_of(port)
    assert len(realm.wait_log("nothing is at")) == 1
    lock = realm.runtime / "emperor" / "ctl.lock"
    assert lock.exists()
    emperor.send_signal(signal.SIGINT)
    assert emperor.wait(60) == 0
    assert not lock.exists()
