"""The last answer of a TCP connection and its end in one segment, and where the answer must not wait for the end."""

import socket
import struct
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from worker_inside import Client, Inside, echo, hello, inside, packet

#: tcp_info's tcpi_segs_in: RFC 4898 tcpEStatsPerfSegsIn (linux/tcp.h).
SEGMENTS_IN = slice(140, 144)
LAST = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"


def segments(client: Client) -> int:
    """How many segments have reached it."""
    return int(struct.unpack("I", client.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 144)[SEGMENTS_IN])[0])


def heard(worker: Inside, data: bytes) -> tuple[bytes, int]:
    """The answer, and the segments from the request to the end of the connection."""
    with worker.connect() as client:
        before = segments(client)
        client.send(data)
        return client.rest(), segments(client) - before


@pytest.mark.parametrize("request_", [LAST, OLD])
def test_the_end_comes_with_the_last_answer(tmp_path: Path, request_: bytes) -> None:
    (tmp_path / "other").mkdir()
    # of two threads one may come between the other's answer and its end
    with inside(tmp_path, hello) as brief, inside(tmp_path / "other", hello, threads=2) as other:
        answer, few = heard(brief, request_)
        same, more = heard(other, request_)
    assert answer.endswith(b"hello")
    assert same.endswith(b"hello")
    assert few == more - 1


def test_a_front_end_hears_both_at_once(tmp_path: Path) -> None:
    request = packet({"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_PROTOCOL": "HTTP/1.1"})
    with inside(tmp_path, hello, protocol="uwsgi") as worker:
        answer, few = heard(worker, request)
    assert answer.endswith(b"hello")
    assert few <= 2  # the request may have been acknowledged by itself


def test_an_answer_longer_than_the_kernel_takes_arrives_whole(tmp_path: Path) -> None:
    body = b"x" * 8_000_000

    def app(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        return [body]

    with inside(tmp_path, app) as worker, worker.connect(receive_buffer=4096) as client:
        client.send(LAST)
        assert client.rest().partition(b"\r\n\r\n")[2] == body


def test_what_comes_behind_a_body_does_not_cost_the_answer(tmp_path: Path) -> None:
    """Old browsers send a line end behind a form; closing with it unread resets the connection."""
    reached, go = threading.Event(), threading.Event()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        reached.set()
        assert go.wait(10)
        return echo(environ, start_response)

    with inside(tmp_path, app) as worker, worker.connect() as client:
        client.send(b"POST /form HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab")
        assert reached.wait(10)
        client.send(b"\r\n")
        go.set()
        assert client.rest().endswith(b"POST /form ab")
