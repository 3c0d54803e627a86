"""Invariant: whatever a peer sends, zmq or not, it gets an error or silence, and everybody else is served as before."""

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import zmq

from palatine.bus import Request, Role, default_role_of, open_intake, open_sender, request, serve_requests
from palatine.codec.frames import FRAME_BYTES, Frame, decode, encode

ID = b"i" * 16


async def whoami(request: Request) -> Any:
    return [request.peer.uid, request.peer.pid, request.body]


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Path]:
    async with trio.open_nursery() as nursery:

        async def serve(*, task_status: trio.TaskStatus[None]) -> None:
            handlers = {"whoami": (Role.VIEWER, whoami)}
            rights = default_role_of(())
            await serve_requests(tmp_path / "ctl", handlers, role_of=rights, task_status=task_status)

        await nursery.start(serve)
        yield tmp_path / "ctl"
        assert await request(tmp_path / "ctl", "whoami", 1) == [os.geteuid(), os.getpid(), 1]
        nursery.cancel_scope.cancel()


@pytest.fixture
def dealer() -> Iterator[zmq.Socket[bytes]]:
    context = zmq.Context()
    raw = context.socket(zmq.DEALER)
    raw.setsockopt(zmq.LINGER, 0)
    yield raw
    raw.close()
    context.term()


async def ask(raw: zmq.Socket[bytes], parts: list[bytes]) -> Frame | None:
    """What a raw DEALER gets back, None for silence until a valid request after it is answered."""

    def exchange() -> Frame:
        raw.send_multipart(parts)
        raw.send_multipart(encode(Frame("whoami", ID, 5000, "after")))
        assert raw.poll(5000)
        return decode(raw.recv_multipart())

    answer = await trio.to_thread.run_sync(exchange)
    if answer.type == "reply":
        assert answer.body[2] == "after"
        return None
    return answer


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([b"garbage"], "protocol"),
        ([b"\x00" * 64, b"{}"], "protocol"),
        ([b"PLTN\x07rest"], "version"),
        ([b"x"] * 9, "too-large"),
        ([b"x"] * 400, "too-large"),
        ([*encode(Frame("whoami", ID, 100)), b"{"], "protocol"),
        ([*encode(Frame("whoami", ID, 100)), b"[" * 100_000], "protocol"),
        ([*encode(Frame("whoami", ID, 100)), *[b" " * FRAME_BYTES] * 5], "too-large"),
        (encode(Frame("error", ID, 0, {"code": "x"})), "unknown-type"),
        ([b""], None),
    ],
)
async def test_messages_that_are_none(
    endpoint: Path, dealer: zmq.Socket[bytes], parts: list[bytes], code: str | None
) -> None:
    dealer.connect(f"ipc://{endpoint}")
    answer = await ask(dealer, parts)
    assert (answer and answer.body["code"]) == code


async def test_a_frame_past_the_limit_ends_the_connection_not_the_server(
    endpoint: Path, dealer: zmq.Socket[bytes]
) -> None:
    dealer.connect(f"ipc://{endpoint}")
    dealer.send_multipart([*encode(Frame("whoami", ID, 100)), b" " * (FRAME_BYTES + 1)])
    assert await request(endpoint, "whoami", 1) == [os.geteuid(), os.getpid(), 1]


async def test_a_hundred_timeouts_of_nothing_are_answered(endpoint: Path, dealer: zmq.Socket[bytes]) -> None:
    dealer.connect(f"ipc://{endpoint}")
    for number in range(100):
        dealer.send_multipart(encode(Frame("whoami", number.to_bytes(16, "big"), 0)))

    def collect() -> set[bytes]:
        return {decode(dealer.recv_multipart()).id for _ in range(100) if dealer.poll(5000)}

    assert len(await trio.to_thread.run_sync(collect)) == 100


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        os.urandom(4096),
        b"\x00" * 4096,
        b"\xff" * 4096,
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x00\x7f\x03\x00NULL" + b"\x00" * 48 + b"\x04\xff",
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x00\x7f\x03\x00PLAIN" + b"\x00" * 47,
    ],
    ids=["nothing", "http", "random", "zeros", "ones", "greeting-then-garbage", "other-mechanism"],
)
async def test_clients_that_speak_no_zmq(endpoint: Path, data: bytes) -> None:
    with structlog.testing.capture_logs() as logs:
        stream = await trio.open_unix_socket(str(endpoint))
        async with stream:
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(data)
            assert await request(endpoint, "whoami", 2) == [os.geteuid(), os.getpid(), 2]
    assert not logs


async def test_a_client_cannot_name_its_own_uid(endpoint: Path) -> None:
    """ZMTP lets a peer send properties: libzmq's own Peer-Address, from SO_PEERCRED, must win."""

    def command(name: bytes, *properties: tuple[bytes, bytes]) -> bytes:
        body = bytes([len(name)]) + name
        for key, value in properties:
            body += bytes([len(key)]) + key + len(value).to_bytes(4, "big") + value
        return b"\x04" + bytes([len(body)]) + body

    def speak() -> Frame:
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(5)
            raw.connect(str(endpoint))
            raw.sendall(b"\xff" + bytes(7) + b"\x01\x7f\x03\x01NULL" + bytes(16) + b"\x00" + bytes(31))
            data = b""
            while len(data) < 64:
                data += raw.recv(4096)
            raw.sendall(command(b"READY", (b"Socket-Type", b"DEALER"), (b"Peer-Address", b"localhost:4242:4242:4242")))
            for number, part in enumerate(parts := encode(Frame("whoami", ID, 5000, 3))):
                raw.sendall(bytes([int(number + 1 < len(parts)), len(part)]) + part)
            while b"reply" not in data or not data.endswith(b",3]"):
                data += raw.recv(4096) or pytest.fail("put out")
        start = data.index(b"PLTN")
        end = data.index(b"reply") + 5
        return decode([data[start:end], data[end + 2 :]])

    answer = await trio.to_thread.run_sync(speak)
    assert answer.body == [os.geteuid(), os.getpid(), 3]


@pytest.mark.parametrize("bound", ["sender", "intake"])
async def test_an_event_endpoint_is_as_thick_skinned(tmp_path: Path, dealer: zmq.Socket[bytes], bound: str) -> None:
    path = tmp_path / "events"
    with trio.fail_after(20):
        async with (
            open_sender(path, bind=bound == "sender") as sender,
            open_intake(bind=path if bound == "intake" else None) as intake,
        ):
            dealer.connect(f"ipc://{path}")
            other = "intake" if bound == "sender" else "sender"
            for parts in [
                [b"garbage"],
                [b"x"] * 50,
                [b"PLTN\x07"],
                encode(Frame("ack", ID, 2**62)),
                encode(Frame("events", ID, 0, [[1, "x", None]])),
                encode(Frame("hello", ID, 0, "no")),
                encode(Frame("hello", ID, 0, {"role": bound, "uuid": "00" * 16})),
                encode(Frame("hello", ID, 0, {"role": other, "uuid": "00" * 16, "later": 1})),
                encode(Frame("ack", ID, 2**62)),
                encode(Frame("events", ID, 0, {"a": 1})),
                encode(Frame("events", ID, 0, [[2, "x", None], [1, "x", None]])),
                encode(Frame("nonsense", ID)),
                encode(Frame("error", ID, 0, {"code": 7})),
            ]:
                dealer.send_multipart(parts)

            def collect() -> list[str]:
                answers = []
                while "unknown-type" not in answers and dealer.poll(5000):
                    frame = decode(dealer.recv_multipart())
                    answers.append(frame.body["code"] if frame.type == "error" else frame.type)
                return answers

            answers = await trio.to_thread.run_sync(collect)
            assert answers[:5] == ["protocol", "too-large", "version", "protocol", "protocol"]
            assert "welcome" in answers
            dealer.close()
            assert not sender.statistics().dropped
            if bound == "sender":
                intake.connect("app", path)
            for number in range(10):
                sender.put("n", number)
            got: list[int] = []
            while len(got) < 10:
                batch = await anext(intake)
                got += [event.body for event in batch.events]
                await batch.ack()
            assert got == list(range(10))
            await sender.settled()


def exchange(raw: zmq.Socket[bytes], parts: list[bytes], kind: str) -> Frame:
    """Send a message, and skip what comes back up to a frame of this type."""
    if parts:
        raw.send_multipart(parts)
    while raw.poll(5000):
        frame = decode(raw.recv_multipart())
        if frame.type == kind:
            return frame
    pytest.fail(f"no {kind} came")


async def test_an_older_intake_is_served_in_its_version(tmp_path: Path, dealer: zmq.Socket[bytes]) -> None:
    async with open_sender(tmp_path / "e", bind=True) as sender:
        dealer.connect(f"ipc://{tmp_path}/e")
        sender.put("n", 1)

        def old_intake() -> list[Frame]:
            welcome = exchange(dealer, encode(Frame("hello", ID, 0, {"role": "intake"}, version=0)), "welcome")
            events = exchange(dealer, [], "events")
            dealer.send_multipart(encode(Frame("ack", ID, 1, version=0)))
            beat = exchange(dealer, encode(Frame("beat", ID, version=0)), "beat")
            return [welcome, events, beat]

        welcome, batch, beat = await trio.to_thread.run_sync(old_intake)
        assert {welcome.version, batch.version, beat.version} == {0}
        assert welcome.body == {"role": "sender", "uuid": sender.uuid.hex()}
        assert batch.body == [[1, "n", 1]]
        await sender.settled()


@pytest.fixture
def router() -> Iterator[zmq.Socket[bytes]]:
    context = zmq.Context()
    raw = context.socket(zmq.ROUTER)
    raw.setsockopt(zmq.LINGER, 0)
    yield raw
    raw.close()
    context.term()


async def test_a_newer_binder_is_spoken_to_in_our_version(tmp_path: Path, router: zmq.Socket[bytes]) -> None:
    router.bind(f"ipc://{tmp_path}/e")

    def newer() -> Frame:
        route, probe = router.recv_multipart()
        assert probe == b""
        (head,) = encode(Frame("invite", bytes(16)))
        router.send_multipart([route, head[:4] + b"\x02" + head[5:] + b"of later"])
        while (asked := decode(router.recv_multipart()[1:])).type == "beat":
            pass
        return asked

    async with open_intake() as intake:
        intake.connect("app", tmp_path / "e")
        with trio.fail_after(20):
            hello = await trio.to_thread.run_sync(newer)
    assert (hello.type, hello.version, hello.body["role"]) == ("hello", 1, "intake")


async def test_an_older_binder_is_spoken_to_in_its_version(tmp_path: Path, router: zmq.Socket[bytes]) -> None:
    router.bind(f"ipc://{tmp_path}/e")

    def older() -> Frame:
        route, _ = router.recv_multipart()
        router.send_multipart([route, *encode(Frame("invite", bytes(16), version=0))])
        while (asked := decode(router.recv_multipart()[1:])).version > 0:
            if asked.type == "beat":
                continue
            refusal = {"code": "version", "message": "version 1 is not spoken here"}
            router.send_multipart([route, *encode(Frame("error", bytes(16), 0, refusal, version=0))])
        return asked

    async with open_intake() as intake:
        intake.connect("app", tmp_path / "e")
        with trio.fail_after(20):
            hello = await trio.to_thread.run_sync(older)
    assert (hello.type, hello.version) == ("hello", 0)


async def test_a_batch_lost_on_the_way_is_asked_for_again(tmp_path: Path, dealer: zmq.Socket[bytes]) -> None:
    path, other = tmp_path / "e", b"o" * 16
    async with open_intake(bind=path) as intake:
        dealer.connect(f"ipc://{path}")
        hello = {"role": "sender", "uuid": "ab" * 16}

        def with_a_hole() -> None:
            exchange(dealer, encode(Frame("hello", ID, 0, hello)), "welcome")
            dealer.send_multipart(encode(Frame("events", ID, 0, [[1, "n", 1], [5, "n", 5]])))
            exchange(dealer, encode(Frame("events", ID, 7, [[8, "n", 8]])), "invite")
            exchange(dealer, encode(Frame("hello", other, 0, hello)), "welcome")
            dealer.send_multipart(encode(Frame("events", ID, 0, [[9, "n", 9]])))  # of the session that is over
            dealer.send_multipart(encode(Frame("events", other, 0, [[5, "n", 5], [7, "n", 7]])))
            dealer.send_multipart(encode(Frame("events", other, 7, [[8, "n", 8]])))

        await trio.to_thread.run_sync(with_a_hole)
        got: list[int] = []
        with trio.fail_after(5):
            while not got or got[-1] != 8:
                batch = await anext(intake)
                assert batch.sender == b"\xab" * 16
                got += [event.body for event in batch.events]
        assert got[-3:] == [5, 7, 8]


async def test_a_sender_that_ignores_its_window_is_refused(tmp_path: Path, dealer: zmq.Socket[bytes]) -> None:
    path = tmp_path / "e"
    async with open_intake(bind=path) as intake:
        dealer.connect(f"ipc://{path}")

        def flood() -> Frame:
            exchange(dealer, encode(Frame("hello", ID, 0, {"role": "sender", "uuid": "ab" * 16})), "welcome")
            for number in range(40):
                body = [[number + 1, "n", "x" * 100_000]]
                dealer.send_multipart(encode(Frame("events", ID, number, body)))
            return exchange(dealer, [], "error")

        refusal = await trio.to_thread.run_sync(flood)
        assert refusal.body["code"] == "too-large"
        assert not intake._inflows
