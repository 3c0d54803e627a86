import os
import socket as sockets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio
import trio.testing
import zmq

from palatine.bus import Client, Peer, Request, Role, RoleOf, default_role_of, open_client, request, serve_requests
from palatine.bus import server as server_module
from palatine.codec.frames import MESSAGE_BYTES, Frame, decode, encode
from palatine.errors import AlreadyRunningError, ConfigError, DeadlineError, PeerError


async def echo(request: Request) -> Any:
    return request.body


async def whoami(request: Request) -> Any:
    return {"uid": request.peer.uid, "gid": request.peer.gid, "pid": request.peer.pid}


async def crash(_: Request) -> Any:
    return 1 / 0


async def crash_group(_: Request) -> Any:
    raise ExceptionGroup("two", [ValueError(), KeyError()])


async def never(_: Request) -> Any:
    await trio.sleep_forever()


async def refuse(_: Request) -> Any:
    raise PeerError("no vassal of that name", "no-vassal")


async def misconfigured(_: Request) -> Any:
    raise ConfigError("unknown option", "a.ini", 3, 1)


async def picky(request: Request) -> Any:
    class Shape(msgspec.Struct):
        level: int

    return msgspec.convert(request.body, Shape).level


async def huge(_: Request) -> Any:
    return "x" * MESSAGE_BYTES


async def unspeakable(_: Request) -> Any:
    return object()


HANDLERS = {
    "echo": (Role.VIEWER, echo),
    "whoami": (Role.VIEWER, whoami),
    "crash": (Role.VIEWER, crash),
    "crash-group": (Role.VIEWER, crash_group),
    "never": (Role.VIEWER, never),
    "refuse": (Role.VIEWER, refuse),
    "misconfigured": (Role.VIEWER, misconfigured),
    "picky": (Role.VIEWER, picky),
    "huge": (Role.VIEWER, huge),
    "unspeakable": (Role.VIEWER, unspeakable),
    "deploy": (Role.DEPLOYER, echo),
}


@asynccontextmanager
async def serving(endpoint: Path, *, role_of: RoleOf | None = None, mode: int = 0o660) -> AsyncIterator[Path]:
    async with trio.open_nursery() as nursery:

        async def serve(*, task_status: trio.TaskStatus[None]) -> None:
            rights = role_of or default_role_of(())
            await serve_requests(endpoint, HANDLERS, role_of=rights, mode=mode, task_status=task_status)

        await nursery.start(serve)
        yield endpoint
        nursery.cancel_scope.cancel()


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Path]:
    async with serving(tmp_path / "ctl") as path:
        yield path


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory every uid may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="palatine-bus-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("body", [None, 1, "é\x00ÿ", [1, [2]], {"a": None}, "x" * 700_000], ids=type)
async def test_a_reply(endpoint: Path, body: object) -> None:
    assert await request(endpoint, "echo", body) == body


async def test_the_peer_is_the_one_the_kernel_names(endpoint: Path) -> None:
    assert await request(endpoint, "whoami") == {"uid": os.geteuid(), "gid": os.getegid(), "pid": os.getpid()}


@pytest.mark.parametrize(
    ("kind", "body", "code", "text"),
    [
        ("refuse", None, "no-vassal", "no vassal of that name"),
        ("misconfigured", None, "config", "a.ini:3:1: unknown option"),
        ("picky", {"level": "x"}, "invalid", "Expected `int`, got `str` - at `$.level`"),
        ("huge", None, "too-large", "more than a message holds"),
        ("unspeakable", None, "internal", "see the log"),
        ("crash", None, "internal", "crash failed: see the log"),
        ("crash-group", None, "internal", "crash-group failed: see the log"),
        ("nobody-knows", None, "unknown-type", "nothing here answers nobody-knows"),
    ],
)
async def test_an_error_reply_and_the_server_goes_on(
    endpoint: Path, kind: str, body: object, code: str, text: str
) -> None:
    with structlog.testing.capture_logs() as logs, pytest.raises(PeerError) as raised:
        await request(endpoint, kind, body)
    assert raised.value.code == code
    assert text in str(raised.value)
    assert str(endpoint) in str(raised.value)
    assert [entry["event"] for entry in logs] == (["bus.request.crashed"] if code == "internal" else [])
    assert await request(endpoint, "echo", 1) == 1


async def test_a_slow_handler_is_a_deadline_error_from_the_server(endpoint: Path) -> None:
    started = trio.current_time()
    with pytest.raises(DeadlineError, match="never did not end before its deadline"):
        await request(endpoint, "never", timeout=0.3)
    assert trio.current_time() - started <= 0.3
    assert await request(endpoint, "echo", 1) == 1


async def test_no_server_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="nothing listens there") as raised:
        await request(tmp_path / "ctl", "ping", timeout=60)
    assert raised.value.code == "unavailable"
    assert raised.value.exit_status == 69


async def test_a_server_that_was_killed_is_an_error_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path / "ctl"):
        os.link(tmp_path / "ctl", tmp_path / "stale")  # what a kill -9 leaves: the file, and nobody behind it
    with pytest.raises(PeerError, match="nothing listens there"):
        await request(tmp_path / "stale", "ping", timeout=60)


async def test_a_server_that_hangs_is_a_deadline_error(tmp_path: Path) -> None:
    with sockets.socket(sockets.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "ctl"))
        silent.listen()
        with pytest.raises(DeadlineError, match="no answer to ping in time"):
            await request(tmp_path / "ctl", "ping", timeout=0.1)


async def test_a_path_too_long_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="107"):
        await request(tmp_path / ("x" * 120), "ping")


async def test_the_socket_file_is_for_owner_and_group(endpoint: Path) -> None:
    assert os.stat(endpoint).st_mode & 0o777 == 0o660


async def test_a_second_server_is_refused_and_the_first_goes_on(endpoint: Path) -> None:
    with pytest.raises(AlreadyRunningError):
        await serve_requests(endpoint, {}, role_of=default_role_of(()))
    code = (
        "import sys, pathlib, trio\nfrom palatine.bus import default_role_of, serve_requests\n"
        "from palatine.errors import PalatineError\n"
        "async def main():\n"
        "    await serve_requests(pathlib.Path(sys.argv[1]), {}, role_of=default_role_of(()))\n"
        "try:\n    trio.run(main)\nexcept PalatineError as error:\n    sys.exit(error.exit_status)\n"
    )
    second = await trio.run_process([sys.executable, "-c", code, str(endpoint)], check=False)
    assert second.returncode == 75
    assert await request(endpoint, "echo", 1) == 1


async def test_what_a_killed_server_left_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "ctl").write_text("stale")
    async with serving(tmp_path / "ctl") as path:
        assert await request(path, "echo", 1) == 1


async def test_a_directory_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        await serve_requests(tmp_path / "absent" / "ctl", {}, role_of=default_role_of(()))


async def test_roles_are_checked_before_the_body_is_read(tmp_path: Path) -> None:
    async with serving(tmp_path / "ctl", role_of=lambda _: Role.OPERATOR) as path:
        assert await request(path, "echo", 1) == 1
        with pytest.raises(PeerError, match=r"deploy needs the role deployer, uid [0-9]+ has operator") as raised:
            await request(path, "deploy", 1)
        assert raised.value.code == "forbidden"
    async with serving(tmp_path / "ctl", role_of=lambda _: None) as path:
        for kind in ("echo", "deploy", "nobody-knows"):
            with pytest.raises(PeerError, match="has no rights here") as raised:
                await request(path, kind, 1)
            assert raised.value.code == "forbidden"


async def test_rights_that_crash_are_that_requests_error(tmp_path: Path) -> None:
    answers = iter([OSError("no directory service"), Role.VIEWER])

    def role_of(_: Peer) -> Role:
        match next(answers):
            case Role() as role:
                return role
            case error:
                raise error

    async with serving(tmp_path / "ctl", role_of=role_of) as path:
        with structlog.testing.capture_logs() as logs, pytest.raises(PeerError) as raised:
            await request(path, "echo", 1)
        assert (raised.value.code, logs[0]["event"]) == ("internal", "bus.request.crashed")
        assert await request(path, "echo", 1) == 1


@pytest.mark.root
async def test_another_uid_is_refused_by_the_kernels_word(open_directory: Path) -> None:
    endpoint = open_directory / "ctl"
    if os.geteuid() != 0:
        pytest.fail("this test needs root: it runs a client as uid 65534")
    code = (
        "import os, sys, pathlib, trio\nfrom palatine.bus import request\nfrom palatine.errors import PeerError\n"
        "os.setgroups([])\nos.setgid(65533)\nos.setuid(65534)\n"
        "async def main():\n"
        "    for kind in ('whoami', 'deploy'):\n"
        "        try:\n            print(kind, await request(pathlib.Path(sys.argv[1]), kind))\n"
        "        except PeerError as error:\n            print(kind, error.code)\n"
        "trio.run(main)\n"
    )

    async def ask() -> list[str]:
        done = await trio.run_process([sys.executable, "-c", code, str(endpoint)], capture_stdout=True)
        return done.stdout.decode().splitlines()

    async with serving(endpoint, mode=0o666):
        assert await ask() == ["whoami forbidden", "deploy forbidden"]
    async with serving(endpoint, mode=0o666, role_of=default_role_of({65534})):
        whoami, deploy = await ask()
        assert whoami.startswith("whoami {'uid': 65534, 'gid': 65533, 'pid': ")
        assert deploy == "deploy forbidden"
    async with serving(endpoint):  # 0660: the kernel does not even let it connect
        assert await ask() == ["whoami forbidden", "deploy forbidden"]


async def test_ten_thousand_requests_and_each_its_own_answer(endpoint: Path) -> None:
    seen = 0

    async def ask(client: Client, first: int) -> None:
        nonlocal seen
        for number in range(first, first + 100):
            assert await client.request("echo", number, timeout=30) == number
            seen += 1

    async with open_client(endpoint) as client, trio.open_nursery() as nursery:
        for first in range(0, 10_000, 100):
            nursery.start_soon(ask, client, first)
    assert seen == 10_000


async def test_a_request_more_than_the_server_works_on_is_answered_busy(
    endpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CONCURRENCY", 3)
    codes: list[str] = []

    async def ask(client: Client) -> None:
        with pytest.raises(PeerError) as raised:
            await client.request("never", timeout=0.5)
        codes.append(raised.value.code)

    async with open_client(endpoint) as client, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask, client)
    assert sorted(codes) == ["busy", "busy", "deadline", "deadline", "deadline"]


async def test_a_stopping_server_answers_what_it_is_at(tmp_path: Path) -> None:
    path = tmp_path / "ctl"
    codes: list[str] = []

    async def ask(client: Client) -> None:
        with pytest.raises(PeerError) as raised:
            await client.request("never", timeout=30)
        codes.append(raised.value.code)

    async with trio.open_nursery() as nursery:
        stop = trio.CancelScope()

        async def serve(*, task_status: trio.TaskStatus[None]) -> None:
            with stop:
                await serve_requests(path, HANDLERS, role_of=default_role_of(()), task_status=task_status)

        await nursery.start(serve)
        async with open_client(path) as client, trio.open_nursery() as asking:
            asking.start_soon(ask, client)
            await trio.testing.wait_all_tasks_blocked()
            assert await client.request("echo", 1) == 1  # asked after it, so "never" is at work
            stop.cancel()
    assert codes == ["stopping"]


async def test_a_client_finds_the_server_that_came_after_the_first(tmp_path: Path) -> None:
    path = tmp_path / "ctl"
    async with open_client(path) as client:
        for number in range(3):
            async with serving(path):
                assert await client.request("echo", number) == number


async def test_the_blocks_own_error_comes_out_unwrapped(endpoint: Path) -> None:
    with pytest.raises(KeyError):
        async with open_client(endpoint):
            raise KeyError


async def test_a_reader_that_never_reads_holds_nobody_up(endpoint: Path) -> None:
    context = zmq.Context()
    slow = context.socket(zmq.DEALER)
    slow.setsockopt(zmq.RCVHWM, 1)
    slow.setsockopt(zmq.RCVBUF, 4096)
    slow.setsockopt(zmq.LINGER, 0)
    slow.connect(f"ipc://{endpoint}")
    body = "x" * 200_000
    for _ in range(400):  # 80 MB of replies: more than its connection may hold
        await trio.to_thread.run_sync(slow.send_multipart, encode(Frame("echo", os.urandom(16), 5000, body)))
    started = time.monotonic()
    for number in range(50):
        assert await request(endpoint, "echo", number, timeout=2) == number
    assert time.monotonic() - started < 2
    slow.close()
    context.term()


async def test_an_older_client_gets_its_answer_in_its_version(endpoint: Path) -> None:
    with trio.fail_after(5):
        parts = await trio.to_thread.run_sync(
            raw_request, endpoint, encode(Frame("echo", bytes(16), 900, 7, version=0))
        )
    assert decode(parts) == Frame("reply", bytes(16), 0, 7, version=0)


async def test_a_future_client_is_told_our_version(endpoint: Path) -> None:
    parts = encode(Frame("echo", b"i" * 16, 900, 7))
    parts[0] = b"PLTN\x63" + parts[0][5:]
    answer = decode(await trio.to_thread.run_sync(raw_request, endpoint, parts))
    assert (answer.type, answer.body["code"], answer.version) == ("error", "version", 1)


async def test_a_client_asks_an_older_server_again_in_its_version(tmp_path: Path) -> None:
    context = zmq.Context()
    old = context.socket(zmq.ROUTER)
    old.setsockopt(zmq.LINGER, 1000)
    old.bind(f"ipc://{tmp_path}/ctl")

    def serve() -> list[int]:
        versions = []
        for _ in range(2):
            route, *parts = old.recv_multipart()
            versions.append(parts[0][4])
            if parts[0][4] > 0:
                old.send_multipart([route, *encode(Frame("error", bytes(16), 0, {"code": "version"}, version=0))])
            else:
                asked = decode(parts)
                old.send_multipart([route, *encode(Frame("reply", asked.id, 0, asked.body, version=0))])
        return versions

    async with trio.open_nursery() as nursery:
        versions: list[int] = []

        async def run() -> None:
            versions.extend(await trio.to_thread.run_sync(serve))

        nursery.start_soon(run)
        assert await request(tmp_path / "ctl", "echo", 5) == 5
    assert versions == [1, 0]
    old.close()
    context.term()


def raw_request(endpoint: Path, parts: list[bytes]) -> list[bytes]:
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(f"ipc://{endpoint}")
    try:
        socket.send_multipart(parts)
        return socket.recv_multipart() if socket.poll(3000) else []
    finally:
        socket.close()
        context.term()


def test_no_context_is_left_for_a_fork_to_inherit(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path / "ctl") as path:
            assert await request(path, "echo", 1) == 1

    trio.run(main)
    names = {Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in os.listdir("/proc/self/task")}
    assert not {name for name in names if name.startswith("ZMQ")}
