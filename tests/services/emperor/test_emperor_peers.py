"""The emperor with what stands beside it: zmq clients, the stats-exporter, on-demand callers, real uWSGI vassals."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from realm import Realm, free_port, get, is_zombie, kill_and_wait, master_of, wait_for

from palatine.codec.emperor_pipe import HEARTBEAT

SAMPLE = Path(__file__).parents[1] / "stats_exporter" / "samples" / "emperor_stats_2.json"


@pytest.fixture
def push() -> "Iterator[zmq.Socket[bytes]]":
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    yield socket
    socket.close(linger=0)
    context.term()


def test_the_seed_s_zmq_script(realm: Realm, push: "zmq.Socket[bytes]") -> None:
    endpoint, port, static = f"tcp://127.0.0.1:{free_port()}", free_port(), free_port()
    words = ("--plugin", "emperor_zeromq", "--emperor", f"zmq://{endpoint}")
    emperor = realm.start(*words)
    push.connect(endpoint)
    ini = realm.ini(http_socket=f"127.0.0.1:{port}").encode()
    push.send_multipart([b"touch", b"foo.ini", ini])
    master = master_of(port)
    realm.wait_state("foo.ini", "loyal")
    push.send_multipart([b"touch", b"foo.ini", ini])
    realm.wait_log("reload the uwsgi instance foo.ini")
    realm.wait_log("vassal foo.ini is ready to accept requests", 2)
    assert master_of(port) == master
    realm.vassal("static.ini", static, realm.directory)
    push.send_multipart([b"touch", b"static.ini"])
    master_of(static)
    push.send_multipart([b"destroy", b"unknown.ini"])
    push.send_multipart([b"touch"])
    push.send_multipart([b"conquer", b"foo.ini"])
    assert realm.wait_log(r'^\[emperor-zeromq\] unknown instance "unknown\.ini"$')
    assert realm.wait_log(r"^\[emperor-zeromq\] bad message received \(command and instance name required\)$")
    assert realm.wait_log(r'^\[emperor-zeromq\] unknown command "conquer"$')
    # the emperor is killed, and one of its vassals too: the journal knows what to start again
    kill_and_wait(emperor.pid)
    kill_and_wait(master)
    realm.start(*words)
    again = wait_for("foo.ini is back", lambda: get(port) and master_of(port))
    assert again != master
    assert realm.list()["static.ini"]["adopted"]
    push.send_multipart([b"destroy", b"static.ini"])
    wait_for("static.ini is gone", lambda: "static.ini" not in realm.list())
    push.send_multipart([b"destroy", b"foo.ini"])
    wait_for("foo.ini is gone", lambda: not realm.list())
    assert is_zombie(again)


def test_emperor_stats_are_uwsgi_s_document(realm: Realm) -> None:
    """The stats-exporter comes with `palatine --emperor` where no host daemon serves the runtime directory."""
    port, stats = free_port(), free_port()
    realm.vassal("v1.ini", port)
    (realm.vassals / "rails.yml").write_text("uwsgi:\n    plugins: rack\n")
    words = ("--emperor", str(realm.vassals), "--emperor-stats", f"127.0.0.1:{stats}")
    realm.start(*words, umbrella=True, PALATINE_RUNTIME_DIR=str(realm.runtime))
    master = master_of(port)
    realm.wait_state("v1.ini", "loyal")

    def document() -> dict[str, object] | None:
        with socket.create_connection(("127.0.0.1", stats), timeout=5) as connection:
            data = b"".join(iter(lambda: connection.recv(65536), b""))
        found: dict[str, object] = json.loads(data)
        return found if found["vassals"] and found["vassals"][0]["loyal"] else None  # type: ignore[index]  # any JSON

    got = wait_for("the exporter answers", document, 30)
    sample = json.loads(SAMPLE.read_text())
    assert list(got) == list(sample)
    assert [got["emperor"], got["cwd"], got["emperor_tyrant"]] == [[str(realm.vassals)], str(realm.directory), 0]
    (vassal,) = got["vassals"]  # type: ignore[misc]  # any JSON
    assert list(vassal) == list(sample["vassals"][0])
    assert (vassal["id"], vassal["pid"], vassal["ready"], vassal["accepting"]) == ("v1.ini", master, 1, 1)
    assert abs(vassal["last_run"] - time.time()) < 60
    assert vassal["monitor"] == str(realm.vassals)
    (blamed,) = got["blacklist"]  # type: ignore[misc]  # any JSON
    assert list(blamed) == list(sample["blacklist"][0])
    assert (blamed["id"], blamed["attempt"], blamed["throttle_level"]) == ("rails.yml", 0, 1)


def test_on_demand_vassals_wait_for_a_caller(realm: Realm) -> None:
    """A vassal of /bin/sh: what is tested is the emperor's half of the hand-over."""
    program = realm.directory / "demand.sh"
    program.write_text(
        "#!/bin/sh\n"
        'echo "my stdin is $(readlink /proc/self/fd/0 | cut -d: -f1)"\n'
        'printf "\\001\\005" >&$UWSGI_EMPEROR_FD\n'
        "sleep 0.3\n"
        'printf "\\026" >&$UWSGI_EMPEROR_FD\n'  # idle: a voluntary leave
        "head -c 1 <&$UWSGI_EMPEROR_FD | od -An -tu1\n"
    )
    program.chmod(0o755)
    address = realm.directory / "od.socket"
    (realm.vassals / "od.ini").write_text("[uwsgi]\n")
    (realm.vassals / "od.ini.socket").write_text(f"{address}\n")
    words = ("--emperor", str(realm.vassals), "--emperor-wrapper", str(program))
    emperor = realm.start(*words, "--emperor-on-demand-extension", ".socket")
    realm.wait_state("od.ini", "waiting")
    assert realm.wait_log(r'^\[uwsgi-emperor\] od\.ini -> "on demand" instance detected, waiting for connections on')
    assert address.stat().st_mode & 0o777 == 0o666
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(address))
        realm.wait_log("^my stdin is socket$")
        realm.wait_log(r"\[emperor\] bringing back instance od\.ini to on-demand mode")
        realm.wait_log(r"^ +0$")
    realm.wait_log(r'od\.ini -> back to "on demand" mode')
    # the caller gave up, but nobody took its connection: it knocks again, until somebody accepts
    kill_and_wait(emperor.pid)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(address))
        starts = realm.log().count("my stdin is socket")
        realm.start(*words, "--emperor-on-demand-extension", ".socket")
        realm.wait_log("^my stdin is socket$", starts + 1)
    (realm.vassals / "od.ini").unlink()
    wait_for("it is gone", lambda: not realm.list())


def test_heartbeats_that_stop_end_the_whole_group(realm: Realm) -> None:
    program = realm.directory / "hang.sh"
    program.write_text(
        "#!/bin/sh\n"
        f'printf "\\001\\005\\021\\{HEARTBEAT:03o}" >&$UWSGI_EMPEROR_FD\n'
        "sleep 1000 &\n"
        'echo "worker $!"\n'
        "wait\n"
    )
    program.chmod(0o755)
    (realm.vassals / "hb.ini").write_text("[uwsgi]\n")
    words = ("--emperor", str(realm.vassals), "--emperor-wrapper", str(program))
    realm.start(*words, "--emperor-required-heartbeat", "1", "--emperor-curse-tolerance", "1")
    worker = int(realm.wait_log("^worker ")[0].split()[1])
    realm.wait_log(r"^\[emperor\] vassal hb\.ini sent no heartbeat in last 1 seconds, brutally respawning it\.\.\.$")

    wait_for("the worker is killed with its master", lambda: is_zombie(worker))
    realm.wait_log("^worker ", 2)


def test_hooks(realm: Realm) -> None:
    (realm.vassals / "a.ini").write_text("[uwsgi]\n")
    program = realm.directory / "brief.sh"
    program.write_text("#!/bin/sh\nexit 78\n")
    program.chmod(0o755)
    realm.start(
        "--emperor", str(realm.vassals), "--emperor-wrapper", str(program),
        "--vassals-start-hook", "echo START $UWSGI_VASSALS_DIR", "--vassals-stop-hook", "echo STOP $UWSGI_VASSALS_DIR",
        UWSGI_VASSAL_MARK="x",
    )  # fmt: skip
    assert realm.wait_log(rf"^START {realm.vassals} a\.ini$")
    assert realm.wait_log(rf"^STOP {realm.vassals} a\.ini$")
    realm.wait_log(r"^\[emperor\] a\.ini start-hook returned 0$")
    realm.wait_log(r"^\[emperor\] a\.ini stop-hook returned 0$")


def test_uwsgis_hooks_at_their_moments(realm: Realm) -> None:
    port = free_port()
    realm.vassal("a.ini", port)
    realm.start(
        "--emperor", str(realm.vassals), "--hook-emperor-start", "print:THE EMPEROR BEGINS",
        "--hook-as-vassal", "putenv:MARK=hooked", "--exec-as-vassal", "echo BEFORE in $UWSGI_VASSALS_DIR",
        "--hook-as-emperor", f"create:{realm.directory}/made", "--exec-as-emperor",
        "echo AFTER $UWSGI_VASSAL_CONFIG $UWSGI_VASSAL_PID $UWSGI_VASSAL_UID $UWSGI_VASSAL_GID",
    )  # fmt: skip
    realm.wait_log(r"^THE EMPEROR BEGINS$")
    realm.wait_log(rf"^BEFORE in {realm.vassals}$")
    realm.wait_log(rf"^AFTER a\.ini \d+ {os.geteuid()} {os.getegid()}$")
    assert (realm.directory / "made").exists()
    wait_for("the vassal, with what its hook has set", lambda: (get(port) or "").startswith("hooked "))


def test_a_vassal_whose_hook_fails_is_not_started(realm: Realm) -> None:
    realm.vassal("a.ini", free_port())
    realm.start("--emperor", str(realm.vassals), "--exec-as-vassal", "exit 3")
    realm.wait_log(r"FATAL hook failed, destroying instance: exec:exit 3")
    assert realm.emperors[-1].poll() is None


@pytest.mark.interop
def test_real_uwsgi_vassals_and_emperor_exec(realm: Realm) -> None:
    uwsgi = shutil.which("uwsgi-core")
    assert uwsgi, "needs Debian's uwsgi-core and uwsgi-plugin-python3"
    port = free_port()
    path = realm.vassal("one.ini", port, plugin="python3", http_socket_modifier1=0)
    realm.start("--emperor", str(realm.vassals), "--emperor-wrapper", uwsgi, "--emperor-curse-tolerance", "5")
    master = master_of(port)
    realm.wait_state("one.ini", "loyal")
    os.utime(path)
    realm.wait_log("binary reloading uWSGI")
    realm.wait_log("vassal one.ini is ready to accept requests", 2)
    assert master_of(port) == master
    kill_and_wait(master)
    again = wait_for("another", lambda: get(port) and master_of(port))
    assert again != master
    path.unlink()
    wait_for("it is gone", lambda: not realm.list())
    realm.emperors[-1].send_signal(signal.SIGINT)
    assert realm.emperors[-1].wait(20) == 0
    # with emperor-exec, only what our app-server refuses is the real uwsgi's
    foreign, ours = free_port(), free_port()
    realm.vassal("ours.ini", ours)
    realm.vassal("foreign.ini", foreign, plugins="python3,psgi")
    realm.start("--emperor", str(realm.vassals), "--emperor-exec", uwsgi)
    master_of(ours)
    assert realm.wait_log(r"\[emperor\] vassal foreign\.ini is left to the emperor-exec program: .*psgi")
    realm.wait_log("UNABLE to load uWSGI plugin.*psgi")
    master = master_of(foreign)
    assert "uwsgi-core" in Path(f"/proc/{master}/cmdline").read_text()


def test_a_second_palatine_emperor_has_its_own_place(realm: Realm) -> None:
    """Two `palatine --emperor` on one host, their vassals of the same name."""
    ports = free_port(), free_port()
    environ = {
        **os.environ,
        "PALATINE_UMBRELLA": "1",
        "PALATINE_RUNTIME_DIR": str(realm.runtime),
        "PALATINE_STATE_DIR": str(realm.directory / "s"),
    }
    emperors = []
    for number, port in enumerate(ports):
        court = realm.directory / f"d{number}"
        realm.vassal("app.ini", port, court)
        with (realm.directory / f"log{number}").open("wb") as log:
            command = [sys.executable, "-m", "palatine_emperor", "--emperor", str(court)]
            emperors.append(subprocess.Popen(command, env=environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
        realm.emperors.append(emperors[-1])
        try:
            master_of(port)
        except AssertionError as error:
            raise AssertionError(f"{error}: {(realm.directory / f'log{number}').read_text()}") from error
    for emperor in emperors:
        emperor.send_signal(signal.SIGTERM)
    assert [emperor.wait(20) for emperor in emperors] == [0, 0]
    logs = "".join((realm.directory / f"log{number}").read_text() for number in (0, 1))
    assert "owned by a live process" not in logs
    left = sorted(str(path.relative_to(realm.runtime)) for path in realm.runtime.rglob("*"))
    assert left == ["emperor", "i"]


def test_a_directory_too_long_for_a_socket_is_named(realm: Realm) -> None:
    realm.runtime = realm.directory / ("long-" * 20)
    emperor = realm.start()
    assert emperor.wait(20) == 78
    assert "a socket's path has at most 107 bytes" in realm.log()
    assert "Traceback" not in realm.log()
