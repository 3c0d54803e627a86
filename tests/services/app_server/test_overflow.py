"""What a slow reader has not taken: in order, whatever was kept where, and passed on while the app is at work."""

import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palatine_app_server.serving import overflow
from palatine_app_server.serving.clients import Limits
from palatine_app_server.serving.overflow import MEMORY_BYTES, Overflow
from running import wait_until
from worker_inside import QUICK, echo, inside

GET = b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n"


class Narrow:
    """Takes at most `room` bytes a turn."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.room = 0

    def write_now(self, data: memoryview) -> memoryview | None:
        size = min(self.room, len(data))
        self.taken += data[:size]
        self.room -= size
        return None if size == len(data) else data[size:]

    def send_from(self, fd: int, start: int, length: int) -> int:
        data = os.pread(fd, min(length, self.room), start)
        self.taken += data
        self.room -= len(data)
        return len(data)


def test_what_is_kept_comes_out_in_order() -> None:
    random.seed(3)
    channel, queue, given = Narrow(), Overflow(), bytearray()
    while len(given) < 8 * MEMORY_BYTES:
        piece = random.randbytes(random.choice([0, 1, 5000, 700_000]))
        given += piece
        queue.append(memoryview(piece))
        channel.room = random.choice([0, 0, 1, 3000, 400_000])
        queue.pass_on(channel)
        assert len(queue) == len(given) - len(channel.taken)
    assert len(queue) > MEMORY_BYTES
    while len(queue):
        channel.room = 900_000
        left = queue.pass_on(channel)
        assert left is (queue if len(queue) else None)
    assert channel.taken == given
    queue.append(memoryview(b"again"))
    channel.room = 5
    assert queue.pass_on(channel) is None
    assert channel.taken.endswith(b"again")


def test_a_disk_without_room_keeps_nothing_of_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    channel, queue = Narrow(), Overflow()
    queue.append(memoryview(b"a" * MEMORY_BYTES))
    queue.append(memoryview(b"b"))  # in the file

    def full(*_arguments: object) -> int:
        raise OSError("no room")

    monkeypatch.setattr(overflow.os, "pwrite", full)
    with pytest.raises(OSError, match="no room"):
        queue.append(memoryview(b"c"))
    assert len(queue) == MEMORY_BYTES + 1
    channel.room = 2 * MEMORY_BYTES
    while queue.pass_on(channel) is not None:
        pass
    assert channel.taken == b"a" * MEMORY_BYTES + b"b"


def streaming(pieces: Callable[[], Iterator[bytes]]) -> Callable[..., Any]:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["PATH_INFO"] != "/stream":
            return echo(environ, start_response)
        start_response("200 OK", [("X-Type", "stream"), ("Content-Length", str(20 * 1_000_000))])
        return pieces()

    return app


def test_a_slow_reader_of_a_stream_holds_no_thread(tmp_path: Path) -> None:
    app = streaming(lambda: (bytes([65 + number]) * 1_000_000 for number in range(20)))
    with inside(tmp_path, app, limits=Limits(write_seconds=60.0)) as server:
        slow = [server.connect() for _ in range(2)]
        for client in slow:
            client.send(GET)
        for _ in range(3):
            with server.connect() as client:
                assert client.get("/")[1] == b"GET / "
        wait_until(lambda: server.counter("requests") == 5, "the end of the requests, which nobody has read")
        expected = b"".join(bytes([65 + number]) * 1_000_000 for number in range(20))
        for client in slow:
            with client:
                assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK")
                assert client.until_length(20_000_000) == expected


def test_what_was_sent_arrives_while_the_app_is_at_work(tmp_path: Path) -> None:
    go = threading.Event()

    def pieces() -> Iterator[bytes]:
        for _ in range(19):
            yield b"x" * 1_000_000
        assert go.wait(30)
        yield b"y" * 1_000_000

    generous = Limits(write_seconds=60.0)
    with inside(tmp_path, streaming(pieces), limits=generous) as server, server.connect() as slow:
        slow.send(GET)
        slow.until(b"\r\n\r\n")
        assert slow.until_length(19_000_000) == b"x" * 19_000_000
        go.set()
        assert slow.until_length(1_000_000) == b"y" * 1_000_000
        assert slow.get("/")[1] == b"GET / "


@pytest.mark.parametrize("leaves", [False, True])
def test_a_reader_that_takes_nothing_ends_the_app(tmp_path: Path, *, leaves: bool) -> None:
    ended = threading.Event()

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 1_000_000
                ended.wait(0.05)  # an app that is at work between
        finally:
            ended.set()

    with inside(tmp_path, streaming(pieces), limits=QUICK) as server, server.connect(receive_buffer=4096) as slow:
        slow.send(GET)
        slow.until(b"\r\n\r\n")
        if leaves:
            slow.socket.close()
        assert ended.wait(30)
        if not leaves:
            wait_until(lambda: server.counter("requests") == 1, "the end of the request")
        with server.connect() as client:
            assert client.get("/")[1] == b"GET / "
