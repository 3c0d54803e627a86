"""A connection as a state machine: its clocks, its limits, and what it does with a client that does not read."""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palatine.codec.http_head import HeadError
from palatine_app_server.serving import build, overflow, sending
from palatine_app_server.serving.clients import ClientGoneError, Limits, Listener, Next
from palatine_app_server.serving.connection import LINGER_SECONDS, Connection
from palatine_app_server.serving.file_parts import unnamed_file
from palatine_app_server.serving.overflow import MEMORY_BYTES

LIMITS = Limits(
    head_bytes=200, body_bytes=0, body_memory_bytes=10, read_seconds=4.0, write_seconds=0.2, idle_seconds=30.0
)
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n"
#: A moment on a clock of the test's own.
T = 1000.0


class Line:
    """A connection and its client's end."""

    def __init__(self) -> None:
        near, self.client = socket.socketpair()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        near.setblocking(False)
        self.client.setblocking(False)
        self.connection = Connection(near.detach(), "", Listener(self.client, -1, "", "http", {}), LIMITS, T)

    def hear(self, data: bytes, now: float) -> Next:
        self.client.send(data)
        return self.connection.receive(now)

    def unsent(self) -> memoryview:
        return self.connection.unsent or memoryview(b"")

    def idle(self) -> bool:
        return self.connection.idle

    def read_all(self) -> int:
        """Take what is there; how much that was."""
        total = 0
        try:
            while piece := self.client.recv(1 << 20):
                total += len(piece)
        except BlockingIOError:
            pass
        return total


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.connection.close()
    made.client.close()


def test_a_head_has_one_deadline_from_its_first_byte(line: Line) -> None:
    connection = line.connection
    assert connection.deadline == T + 4
    for second, piece in enumerate([GET[:3], GET[3:9], GET[9:20]]):
        assert line.hear(piece, T + second) is Next.WAIT
        assert connection.deadline == T + 4
    assert line.hear(GET[20:], T + 3.9) is Next.SERVE


def test_each_piece_of_a_body_starts_the_clock_anew(line: Line) -> None:
    """A large upload over a slow line takes as long as it takes."""
    assert line.hear(POST, T) is Next.WAIT
    for second in range(19):
        assert line.hear(b"x", T + second) is Next.WAIT
        assert line.connection.deadline == T + second + 4
    assert line.hear(b"x", T + 60) is Next.SERVE
    assert line.connection.body is not None
    assert line.connection.body.read() == b"x" * 20


def test_an_idle_connection_waits_longer_and_the_next_head_does_not(line: Line) -> None:
    connection = line.connection
    assert not line.idle()  # it may be about to ask for the first time
    assert line.hear(GET, T) is Next.SERVE
    assert not line.idle()
    connection.finish(T + 1)
    assert line.idle()
    assert connection.deadline == T + 31
    assert line.hear(GET[:5], T + 20) is Next.WAIT
    assert not line.idle()
    assert connection.deadline == T + 24


def test_nothing_to_read_and_the_end(line: Line) -> None:
    assert line.connection.receive(T) is Next.WAIT
    line.client.shutdown(socket.SHUT_WR)
    assert line.connection.receive(T) is Next.CLOSE


def test_pipelined_requests_follow_each_other(line: Line) -> None:
    connection = line.connection
    assert line.hear(GET + GET + GET[:4], T) is Next.SERVE
    connection.finish(T)
    assert connection.following() is Next.TURN
    assert connection.pipelined
    assert connection.receive(T) is Next.SERVE
    connection.finish(T)
    assert connection.following() is Next.TURN
    assert connection.receive(T) is Next.WAIT
    assert not line.idle()
    assert line.hear(GET[4:], T) is Next.SERVE


def test_the_end_of_a_response_waits_for_a_slow_reader_without_a_thread(line: Line) -> None:
    connection = line.connection
    connection.send_last(b"x" * 500_000)
    assert 0 < len(line.unsent()) < 500_000
    connection.finish(T)
    assert not line.idle()
    assert connection.following() is Next.WAIT
    taken = 0
    while line.connection.unsent is not None:
        taken += line.read_all()
        assert line.connection.flush(T + 1) is Next.WAIT  # it is kept, and nothing more was asked for
    assert connection.deadline == T + 31
    assert taken + line.read_all() == 500_000
    assert line.idle()


def test_progress_starts_the_writing_clock_anew_and_no_progress_does_not(line: Line) -> None:
    connection = line.connection
    connection.send_last(b"x" * 500_000)
    connection.ending()
    before = connection.deadline
    assert connection.flush(T + 1) is Next.WAIT
    assert connection.deadline == before
    line.read_all()
    assert connection.flush(T + 2) is Next.WAIT
    assert connection.deadline == T + 2 + LIMITS.write_seconds


def test_a_last_response_closes_when_it_is_taken(line: Line) -> None:
    connection = line.connection
    connection.send_last(b"x" * 200_000)
    assert connection.ending() is Next.WAIT
    step = Next.WAIT
    while connection.unsent is not None:
        line.read_all()
        step = connection.flush(T)
    assert step is Next.CLOSE


def test_what_was_pipelined_behind_a_slow_response_is_served_after_it(line: Line) -> None:
    connection = line.connection
    assert line.hear(GET + GET, T) is Next.SERVE
    connection.send_last(b"x" * 200_000)
    connection.finish(T)
    assert connection.following() is Next.WAIT
    step = Next.WAIT
    while connection.unsent is not None:
        line.read_all()
        step = connection.flush(T)
    assert step is Next.SERVE


@pytest.mark.skipif(build.compiled(), reason="what is compiled does not ask whether a constant was replaced")
def test_only_so_much_is_kept(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is sent while the thread waits, and a client that takes nothing is given up."""
    monkeypatch.setattr(sending, "KEPT_BYTES", MEMORY_BYTES + 500_000)
    with pytest.raises(ClientGoneError, match="does not read"):
        line.connection.send_last(b"x" * (MEMORY_BYTES + 1_000_000))
    assert line.connection.unsent is None


@pytest.mark.skipif(build.compiled(), reason="what is compiled does not ask whether a function was replaced")
def test_where_a_file_has_no_room_the_thread_waits(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(overflow, "unnamed_file", full)
    with pytest.raises(ClientGoneError, match="does not read"):
        line.connection.send_last(b"x" * (MEMORY_BYTES + 1_000_000))
    assert line.connection.unsent is None


def test_a_piece_within_a_response_waits_up_to_the_timeout(line: Line) -> None:
    with pytest.raises(ClientGoneError, match="does not read"):
        line.connection.send(b"x" * 1_000_000)
    assert line.connection.write_wait > 0
    line.connection.finish(T)
    assert line.connection.write_wait == 0


def test_a_client_that_is_gone(line: Line) -> None:
    line.client.close()
    with pytest.raises(ClientGoneError):
        line.connection.send(b"x")
    with pytest.raises(ClientGoneError):
        line.connection.send_last(b"x")


def test_lingering_drops_what_comes_until_the_end(line: Line) -> None:
    connection = line.connection
    with pytest.raises(HeadError):
        line.hear(b"garbage\r\n\r\n" + GET, T)
    connection.linger(T + 1)
    assert connection.deadline == T + 1 + LINGER_SECONDS
    for second in range(3):
        assert line.hear(GET, T + second) is Next.WAIT
    assert connection.deadline == T + 1 + LINGER_SECONDS
    assert not line.idle()
    assert line.client.recv(10) == b""  # our half is closed
    line.client.shutdown(socket.SHUT_WR)
    assert connection.receive(T) is Next.CLOSE


def test_a_body_that_is_not_read_is_dropped_with_the_request(line: Line) -> None:
    assert line.hear(POST + b"x" * 20, T) is Next.SERVE
    body = line.connection.body
    line.connection.finish(T)
    assert body is not None
    assert body.closed
    assert line.connection.environ == {}


@pytest.mark.parametrize("directory", ["", "missing"])
def test_a_long_body_leaves_no_name_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: str) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / directory))
    with unnamed_file() as file:
        file.write(b"hello")
        file.seek(0)
        assert file.read() == b"hello"
        assert os.fstat(file.fileno()).st_nlink == 0
    assert list(tmp_path.iterdir()) == []
