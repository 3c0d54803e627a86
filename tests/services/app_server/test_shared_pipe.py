"""A log nobody reads: who only logs its requests is held for a moment, once, and the reader hears what it missed."""

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from palatine_app_server.log import shared_pipe
from palatine_app_server.log.shared_pipe import LateLines, without_waiting


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A full pipe, and a writer of our own that does not wait."""
    reader, writer = os.pipe()
    ours = without_waiting(writer)
    assert ours != writer
    assert os.get_blocking(writer)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(ours, b"x" * 4096)
    yield reader, ours
    for fd in (reader, writer, ours):
        os.close(fd)


def test_nobody_waits_for_long(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, ours = pipe
    monkeypatch.setattr(shared_pipe, "PATIENCE_SECONDS", 0.01)
    late = LateLines(ours)
    for _ in range(100):
        late.write(b"line\n")
    os.read(reader, 1 << 20)
    monkeypatch.setattr(shared_pipe.time, "monotonic", lambda: float("inf"))
    late.write(b"last\n")
    assert os.read(reader, 1 << 20) == b"100 request lines were lost: nobody read them\nlast\n"


def test_a_socket_stays_as_it_is() -> None:
    near, far = socket.socketpair()
    with near, far:
        assert without_waiting(near.fileno()) == near.fileno()
