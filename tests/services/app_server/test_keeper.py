"""The keeper as a process: what it starts, holds, reaps and hands to the next emperor."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from palatine.codec import emperor_pipe
from palatine.codec.keeper import (
    LOG,
    RECORD_BYTES,
    Adopt,
    Died,
    Failed,
    Forget,
    Held,
    Hello,
    Hold,
    Record,
    Release,
    Show,
    Signal,
    Spawn,
    Spawned,
    Welcome,
    decode,
    encode,
)

T = TypeVar("T")

HERE = Path(__file__).parent
PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import keeper_stand_in;"
    "from palatine_app_server.keeping import keeper; sys.exit(keeper.main(sys.argv[1:], keeper_stand_in.serve))"
)


class Emperor:
    """The test's side of a keeper connection: blocking, with a deadline."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(10)
        self.socket.connect(str(path))
        self.descriptors: list[int] = []

    def order(self, record: Record, descriptors: list[int] | None = None) -> None:
        socket.send_fds(self.socket, [encode(record)], descriptors or [])

    def answer(self, kind: type[T]) -> tuple[T, list[int]]:
        data, descriptors, _, _ = socket.recv_fds(self.socket, RECORD_BYTES, 3)
        self.descriptors += descriptors
        record = decode(data)
        assert isinstance(record, kind), record
        return record, descriptors

    def hello(self) -> Welcome:
        self.order(Hello(os.getpid()))
        return self.answer(Welcome)[0]

    def spawn(self, order: Spawn) -> tuple[Spawned, list[int]]:
        self.order(order)
        return self.answer(Spawned)

    def close(self) -> None:
        self.socket.close()
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors.clear()


class House:
    """Keepers and emperors of one test, ended with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "keeper.sock"
        self.emperors: list[Emperor] = []
        self.keepers: list[subprocess.Popen[bytes]] = []

    def keeper(self) -> subprocess.Popen[bytes]:
        self.path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(self.path))
            listener.listen(4)
            fd = listener.fileno()
            leaked = os.open(os.devnull, os.O_RDONLY)
            with (self.directory / "keeper.log").open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, str(HERE), "--keeper", "--fd", str(fd)],
                    pass_fds=[fd, leaked],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        os.close(leaked)
        self.keepers.append(process)
        return process

    def emperor(self) -> Emperor:
        emperor = Emperor(self.path)
        self.emperors.append(emperor)
        emperor.hello()
        return emperor

    def order(self, *words: str, key: str = "dir|one.ini", **fields: Any) -> Spawn:
        argv = ("palatine-app-server", *words, str(self.directory / "facts.json"))
        environ = {"PATH": os.environ["PATH"], "MARK": "kept"}
        return Spawn(key, key.rpartition("|")[2], argv, environ, str(self.directory), **fields)

    def facts(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((self.directory / "facts.json").read_text())
        return result

    def log(self) -> str:
        return (self.directory / "keeper.log").read_text()

    def close(self) -> None:
        for emperor in self.emperors:
            emperor.close()
        for keeper in self.keepers:
            if keeper.poll() is None:
                keeper.kill()  # its vassals read end-of-file on their pipes, and leave
            keeper.wait(10)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    house.keeper()
    yield house
    house.close()


def read_byte(pipe: int) -> bytes:
    assert select.select([pipe], [], [], 10)[0], "nothing came through the pipe"
    return os.read(pipe, 1)


def wait_gone(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        assert select.select([pidfd], [], [], 10)[0], f"{pid} lives on"
        os.close(pidfd)


def wait_reaped(pid: int) -> None:
    """A zombie still has its directory in /proc."""
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, f"nobody waited for {pid}"
        time.sleep(0.01)


def test_a_vassal_is_forked_with_what_was_asked(house: House) -> None:
    spawned, (pipe, config) = house.emperor().spawn(house.order("--ini", config=True))
    os.write(config, emperor_pipe.config(b"[uwsgi]\nmodule = x\n"))
    assert read_byte(pipe) == bytes((emperor_pipe.SPAWNED,))
    facts = house.facts()
    assert facts["pid"] == spawned.pid
    assert facts["config"] == "[uwsgi]\nmodule = x\n"
    assert facts["cwd"] == facts["asked_cwd"] == str(house.directory)
    assert facts["sys_argv"] == ["palatine-app-server", "--ini", str(house.directory / "facts.json")]
    assert facts["argv"] == facts["sys_argv"][1:]
    assert facts["environ"].keys() == {"MARK", "UWSGI_EMPEROR_FD", "UWSGI_EMPEROR_FD_CONFIG"}
    assert facts["session"]
    assert facts["stdin"] == "/dev/null"
    assert len(facts["descriptors"]) == 6, "0, 1, 2, its two pipes, links: nothing of the keeper's or of other vassals"


def test_the_pipe_carries_orders_and_the_death_is_told_with_its_status(house: House) -> None:
    emperor = house.emperor()
    spawned, (pipe,) = emperor.spawn(house.order())
    assert read_byte(pipe) == b"\1"
    os.write(pipe, b"\1")
    assert read_byte(pipe) == b"\1"
    os.write(pipe, b"\0")
    died, _ = emperor.answer(Died)
    assert died == Died("dir|one.ini", spawned.pid, 0)
    assert os.read(pipe, 1) == b"", "the keeper holds our end, not the vassal's"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("refuse",), 78, "one.ini: rails.yml:2:3: plugins = rack is another language"),
        (("crash",), 70, "one.ini: RuntimeError: boom"),
        (("exit:22",), 22, None),
    ],
)
def test_exit_codes_and_reasons(house: House, words: tuple[str, ...], code: int, told: str | None) -> None:
    emperor = house.emperor()
    _, (pipe,) = emperor.spawn(house.order(*words))
    died, _ = emperor.answer(Died)
    assert died.status is not None
    assert os.waitstatus_to_exitcode(died.status) == code
    messages = emperor_pipe.VassalReader().feed(os.read(pipe, 4096))
    assert messages == ([emperor_pipe.Message(emperor_pipe.REASON, told)] if told else [])
    assert (told or "") in house.log()


def test_a_directory_that_is_not_there_is_a_reason(house: House) -> None:
    emperor = house.emperor()
    _, (pipe,) = emperor.spawn(house.order()._replace(cwd="/nowhere"))
    died, _ = emperor.answer(Died)
    assert died.status is not None
    assert os.waitstatus_to_exitcode(died.status) == 71
    assert b"one.ini: No such file or directory: /nowhere" in os.read(pipe, 4096)


def test_a_program_is_exec_d_with_its_pipe(house: House) -> None:
    emperor = house.emperor()
    order = house.order()._replace(
        program="/bin/sh", argv=("sh", "-c", 'printf "\\005" >&$UWSGI_EMPEROR_FD; exit 26'), start_hook="echo HOOK"
    )
    _, (pipe,) = emperor.spawn(order)
    died, _ = emperor.answer(Died)
    assert died.status == 26 << 8
    assert os.read(pipe, 8) == b"\5"
    assert "[emperor] running vassal start-hook: echo HOOK one.ini\n" in house.log()
    assert "HOOK one.ini\n[emperor] one.ini start-hook returned 0\n" in house.log()


@pytest.mark.root
def test_rights_are_dropped_before_anything_is_read(house: House) -> None:
    house.directory.chmod(0o777)
    for parent in house.directory.parents[:3]:
        parent.chmod(0o755)
    _, (pipe,) = house.emperor().spawn(house.order(uid=1234, gid=2345, groups=(2345, 3456)))
    assert read_byte(pipe) == b"\1"
    assert house.facts()["ids"] == [[1234] * 3, [2345] * 3, [2345, 3456]]


def test_the_on_demand_socket_is_descriptor_0_and_outlives_the_vassal(house: House) -> None:
    emperor = house.emperor()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        emperor.order(Hold("dir|one.ini"), [listener.fileno()])
    spawned, (pipe,) = emperor.spawn(house.order(on_demand=True))
    assert read_byte(pipe) == b"\1"
    assert house.facts()["stdin"] == "socket"
    os.kill(spawned.pid, signal.SIGKILL)
    assert emperor.answer(Died)[0].status == signal.SIGKILL
    socket.create_connection(address, timeout=5).close()
    emperor.order(Forget("dir|one.ini"))
    emperor.order(Show(0))
    assert emperor.answer(Held)[0] == Held("")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)


def test_orders_that_cannot_be_obeyed_are_answered(house: House) -> None:
    emperor = house.emperor()
    emperor.spawn(house.order())
    emperor.order(house.order())
    assert "runs already" in emperor.answer(Failed)[0].reason
    emperor.order(house.order(key="dir|two.ini", on_demand=True))
    assert emperor.answer(Failed)[0] == Failed("dir|two.ini", "no on-demand socket is held for it")
    emperor.order(Welcome(1, 1))
    assert emperor.answer(Failed)[0].reason == "welcome makes no sense here"
    emperor.socket.send(b'{"v": 1, "is": "conquer"}')
    assert "unknown type 'conquer'" in emperor.answer(Failed)[0].reason


def test_vassals_outlive_emperors_and_are_given_to_the_next(house: House) -> None:
    first = house.emperor()
    one, _ = first.spawn(house.order(note="one's state"))
    two, _ = first.spawn(house.order(key="dir|two.ini"))
    first.close()
    os.kill(two.pid, signal.SIGKILL)
    wait_reaped(two.pid)
    second = house.emperor()
    assert second.hello().vassals == 2
    second.order(Show(0))
    held, (pipe,) = second.answer(Held)
    assert held == Held("dir|one.ini", one.pid, one.born, False, None, "one's state", ("pipe",))
    assert read_byte(pipe) == b"\1", "what a vassal said meanwhile waits in the pipe"
    os.write(pipe, b"\5")
    assert read_byte(pipe) == b"\5"
    second.order(Show(1))
    assert second.answer(Held)[0][:5] == ("dir|two.ini", two.pid, two.born, True, signal.SIGKILL)


def test_new_vassals_write_to_the_log_of_the_emperor_of_the_moment(house: House) -> None:
    emperor = house.emperor()
    with (house.directory / "other.log").open("wb") as log:
        emperor.order(Hello(os.getpid(), (LOG, LOG)), [log.fileno(), log.fileno()])
        emperor.answer(Welcome)
    emperor.spawn(house.order("refuse"))
    emperor.answer(Died)
    assert "another language" in (house.directory / "other.log").read_text()


def test_a_group_is_killed_whole_also_after_its_master(house: House) -> None:
    emperor = house.emperor()
    spawned, (pipe,) = emperor.spawn(house.order("fork"))
    assert read_byte(pipe) == b"\1"
    (child,) = Path(f"/proc/{spawned.pid}/task/{spawned.pid}/children").read_text().split()
    os.kill(spawned.pid, signal.SIGKILL)
    emperor.answer(Died)
    os.kill(int(child), 0)
    again, _ = emperor.spawn(house.order())
    emperor.order(Signal("dir|one.ini", signal.SIGKILL, group=True))
    assert emperor.answer(Died)[0] == Died("dir|one.ini", again.pid, signal.SIGKILL)
    wait_gone(int(child))


def test_a_new_keeper_takes_over_from_a_killed_one(house: House) -> None:
    emperor = house.emperor()
    spawned, (pipe,) = emperor.spawn(house.order())
    assert read_byte(pipe) == b"\1"
    house.keepers[0].kill()
    house.keepers[0].wait(10)
    assert emperor.socket.recv(1) == b""
    house.keeper()
    second = house.emperor()
    second.order(Adopt("dir|one.ini", spawned.pid, spawned.born, "state", ("pipe",)), [pipe])
    second.order(Adopt("dir|gone.ini", spawned.pid, spawned.born - 1))
    assert second.answer(Died)[0] == Died("dir|gone.ini", spawned.pid, None), "another process of that number"
    os.write(pipe, b"\5")
    assert read_byte(pipe) == b"\5", "the vassal noticed nothing"
    second.order(Signal("dir|one.ini", signal.SIGKILL, group=False))
    assert second.answer(Died)[0] == Died("dir|one.ini", spawned.pid, None)


def test_a_vassal_leaves_when_both_emperor_and_keeper_are_gone(house: House) -> None:
    emperor = house.emperor()
    spawned, (pipe,) = emperor.spawn(house.order())
    assert read_byte(pipe) == b"\1"
    house.keepers[0].kill()
    emperor.close()
    wait_gone(spawned.pid)


def test_release_and_term_wait_for_the_last_vassal(house: House) -> None:
    emperor = house.emperor()
    _, (pipe,) = emperor.spawn(house.order())
    assert read_byte(pipe) == b"\1"
    emperor.order(Release())
    emperor.hello()
    assert house.keepers[0].poll() is None
    house.keepers[0].send_signal(signal.SIGINT)
    os.write(pipe, b"\0")
    assert house.keepers[0].wait(10) == 0


def test_what_a_vassal_costs(house: House) -> None:
    emperor = house.emperor()
    times = []
    pids = []
    for number in range(20):
        began = time.perf_counter()
        spawned, _ = emperor.spawn(house.order(key=f"dir|{number}.ini"))
        times.append((time.perf_counter() - began) * 1000)
        pids.append(spawned.pid)
    pss = [proportional_kib(pid) for pid in (house.keepers[0].pid, *pids)]
    print(f"\nfork {sorted(times)[10]:.2f} ms; PSS keeper {pss[0]} KiB, forked {sorted(pss[1:])[10]} KiB (stand-in)")
    assert len(set(pids)) == len(pids)


def proportional_kib(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.split("\nPss:")[1].split()[0])
