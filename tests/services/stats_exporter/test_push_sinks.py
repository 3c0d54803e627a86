"""Sinks before peers that hang, are away, or answer with less than they should."""

import gzip
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palatine_stats_exporter.push.http import Http
from palatine_stats_exporter.push.influx import UdpSink, datagrams
from palatine_stats_exporter.push.retry_policy import Failed, Sent
from palatine_stats_exporter.push.settings import UDP_BYTES, Influx
from running import free_port

LINES = b"".join(b"m,worker_id=%d load=%di 1\n" % (number, number) for number in range(100))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Accepts nobody: the kernel does, and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


async def test_a_server_that_hangs_is_given_up(listener: socket.socket) -> None:
    http = Http(f"http://127.0.0.1:{listener.getsockname()[1]}", 0.2, {})
    assert await http.post("/write", {}, b"x", {}) == Failed("no answer after 0.2 s")
    await http.aclose()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{port}", "unix:///nonexistent/influx.sock", "http://no.such.invalid"]
)
async def test_a_server_that_is_away_may_come_back(url: str) -> None:
    http = Http(url.format(port=free_port()), 20, {})
    outcome = await http.post("/write", {"db": "x"}, b"x", {})
    assert isinstance(outcome, Failed)
    assert outcome.reason
    assert not outcome.lasting
    await http.aclose()


async def test_nobody_behind_a_udp_port_is_noticed_and_tried_again() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(20)
        port = receiver.getsockname()[1]
        sink = UdpSink(Influx(url=f"udp://127.0.0.1:{port}"))
        assert await sink.send(gzip.compress(LINES)) == Sent()
        found = b""
        while len(found) < len(LINES):
            found += receiver.recv(65536)
    assert found == LINES
    assert await sink.send(gzip.compress(LINES)) == Failed("Connection refused")
    await sink.aclose()


@settings(max_examples=50)
@given(st.lists(st.integers(1, 700)))
def test_datagrams_hold_whole_lines(sizes: list[int]) -> None:
    lines = [b"x" * size + b"\n" for size in sizes]
    found = list(datagrams(b"".join(lines), UDP_BYTES))
    assert b"".join(found) == b"".join(lines)
    assert all(len(one) <= UDP_BYTES or one.count(b"\n") == 1 for one in found)
