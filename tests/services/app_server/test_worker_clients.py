"""Clients that are slow, many, silent or gone do not hold up the others, and nobody is lost when a worker leaves."""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palatine_app_server.serving import build
from palatine_app_server.serving.clients import Limits, Next
from palatine_app_server.serving.connection import Connection
from running import wait_until
from worker_inside import QUICK, Inside, echo, hello, inside

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n"


class Gate:
    """An app whose requests for /slow wait until they are let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.inside = threading.Semaphore(0)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["PATH_INFO"] == "/slow":
            self.inside.release()
            assert self.go.wait(10)
        return echo(environ, start_response)

    def wait(self) -> None:
        assert self.inside.acquire(timeout=10)


def large(size: int) -> Callable[..., list[bytes]]:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x" * size if environ["PATH_INFO"] == "/large" else b"small"]

    return app


@pytest.mark.parametrize("begun", [b"", b"G", GET[:-2], POST, POST + b"half"])
def test_slow_clients_hold_no_thread(tmp_path: Path, begun: bytes) -> None:
    with inside(tmp_path, echo) as server:
        slow = [server.connect() for _ in range(100)]
        for client in slow:
            client.send(begun)
        with server.connect() as client:
            for _ in range(3):
                assert client.get()[1] == b"GET / "
        for client in slow:
            client.send((GET if len(begun) < 40 and b"POST" not in begun else POST + b"0123456789")[len(begun) :])
            assert client.response()[0].startswith(b"HTTP/1.1 200 OK")
            client.socket.close()


@pytest.mark.parametrize("begun", [b"", b"G", GET[:-2], POST + b"half"])
def test_they_are_closed_when_their_time_is_over(tmp_path: Path, begun: bytes) -> None:
    with inside(tmp_path, echo, limits=QUICK) as server:
        assert server.talk(begun) == b""
        assert server.counter("requests") == 0


def test_a_slow_reader_holds_no_thread(tmp_path: Path) -> None:
    with inside(tmp_path, large(3_500_000)) as server, server.connect(receive_buffer=4096) as slow:
        slow.send(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
        slow.until(b"\r\n\r\n")
        wait_until(lambda: server.counter("requests") == 1, "the end of the request")
        for _ in range(3):  # a connection each: on a busy machine the worker may think itself too busy to keep one
            with server.connect() as client:
                assert client.get()[1] == b"small"
        assert slow.until_length(3_500_000) == b"x" * 3_500_000
        assert slow.get()[1] == b"small"


def test_a_reader_that_takes_nothing_is_given_up(tmp_path: Path) -> None:
    with inside(tmp_path, large(16_000_000), limits=QUICK) as server, server.connect(receive_buffer=4096) as slow:
        slow.send(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
        with server.connect() as client:
            assert client.get()[1] == b"small"
        wait_until(lambda: server.counter("write_errors") == 1, "the write error")
        assert len(slow.rest()) < 16_000_000


def test_a_slow_reader_that_goes_costs_nothing(tmp_path: Path) -> None:
    with inside(tmp_path, large(3_500_000)) as server:
        for _ in range(5):
            with server.connect(receive_buffer=4096) as slow:
                slow.send(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
                slow.until(b"\r\n\r\n")
        with server.connect() as client:
            assert client.get()[1] == b"small"
        wait_until(lambda: not server.worker._reactor.parked, "no connection left")


@pytest.mark.parametrize(
    ("sent", "line"),
    [
        (
            b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 2000,
            "invalid HTTP request size (max 1000)...skip (431 to 127.0.0.1)",
        ),
        (POST.replace(b"10", b"101"), "Invalid (too big) CONTENT_LENGTH. skip. (413 to 127.0.0.1)"),
        (b"GET / HTTP/1.1\r\n\r\n", "invalid HTTP request: HTTP/1.1 without Host (400 to 127.0.0.1)"),
        (
            POST + b"half",
            (
                "[uwsgi-body-read] Error reading 6 bytes. Content-Length: 10 consumed: 4 left: 6 message: "
                "Client closed connection"
            ),
        ),
        (POST + b"0123456789", ""),
    ],
)
def test_the_log_says_what_was_refused_and_what_did_not_come(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], sent: bytes, line: str
) -> None:
    with inside(tmp_path, echo, limits=Limits(head_bytes=1000, body_bytes=100)) as server:
        with server.connect() as client:
            client.send(sent)
            client.end_sending()
            client.rest()
        wait_until(lambda: not server.worker._reactor.parked, "the end of the connection")
        assert server.counter("read_errors") == line.startswith("[uwsgi-body-read]")
    assert capfd.readouterr().err == f"{line}\n" * bool(line)


def test_the_log_says_who_was_waited_for_in_vain(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with inside(tmp_path, echo, limits=QUICK) as server, server.connect() as client:
        client.send(POST + b"half")
        assert client.rest() == b""
    line = "[uwsgi-body-read] Timeout reading 6 bytes. Content-Length: 10 consumed: 4 left: 6\n"
    assert capfd.readouterr().err == line


@pytest.mark.skipif(build.compiled(), reason="what is compiled does not ask whether a method was replaced")
def test_a_fault_in_reading_one_client_ends_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = Connection.advance

    def faulty(connection: Connection, data: bytes = b"") -> Next:
        if data.startswith(b"FAULT"):
            raise IndexError("in a codec")
        return read(connection, data)

    monkeypatch.setattr(Connection, "advance", faulty)
    with inside(tmp_path, echo) as server, server.connect() as client:
        client.get()
        assert server.talk(b"FAULT") == b""
        assert client.get()[1] == b"GET / "
        assert server.counter("read_errors") == 1
    assert "IndexError: in a codec" in capsys.readouterr().err


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_serve_at_the_same_time(tmp_path: Path, threads: int) -> None:
    gate = Gate()
    with inside(tmp_path, gate, threads=threads) as server:
        clients = [server.connect() for _ in range(threads)]
        for client in clients[1:]:
            client.send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
            gate.wait()
        for _ in range(5):
            assert clients[0].get()[1] == b"GET / "
        gate.go.set()
        for client in clients[1:]:
            assert client.response()[1] == b"GET /slow "
            client.socket.close()
        clients[0].socket.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_every_client_gets_its_own_answers(tmp_path: Path, threads: int) -> None:
    """Random sizes, framings, pipelines and packets from many clients at once, all told apart by every thread."""
    faults: list[str] = []

    def talk(server: Inside, number: int) -> None:
        dice = random.Random(number)
        client = server.connect()
        try:
            for round_ in range(40):
                expected, data = [], b""
                for _ in range(dice.choice([1, 1, 1, 2, 5])):
                    body = f"{number}-{round_}-".encode() * dice.choice([0, 1, 10, 3000])
                    expected.append(b"POST /%d " % number + body)
                    framing = (
                        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
                        if dice.random() < 0.5 or not body
                        else b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
                    )
                    data += b"POST /%d HTTP/1.1\r\nHost: h\r\n" % number + framing
                cut = dice.randrange(len(data))
                client.send(data[:cut])
                client.send(data[cut:])
                for wanted in expected:
                    head, got = client.response()
                    assert got == wanted, (got[:50], wanted[:50])
                    if b"Connection: close" in head:
                        client.socket.close()
                        client = server.connect()
                        break
        except BaseException as error:  # noqa: BLE001 - told in the main thread
            faults.append(repr(error))
        finally:
            client.socket.close()

    with inside(tmp_path, echo, threads=threads) as server:
        talkers = [threading.Thread(target=talk, args=(server, number)) for number in range(6)]
        for talker in talkers:
            talker.start()
        for talker in talkers:
            talker.join(30)
    assert not faults


def test_connections_are_served_in_turn(tmp_path: Path) -> None:
    """One thread and a client that pipelines: the others wait for one request of its, not for all."""
    served: list[str] = []
    gate = Gate()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        served.append(environ["QUERY_STRING"])
        return gate(environ, start_response)

    with inside(tmp_path, app) as server:
        polite = [server.connect() for _ in range(5)]
        for client in polite:
            client.get("/?warm")
        with server.connect() as greedy:
            greedy.send(b"GET /slow?g HTTP/1.1\r\nHost: h\r\n\r\n")
            gate.wait()
            greedy.send(b"GET /?g HTTP/1.1\r\nHost: h\r\n\r\n" * 300)
            for number, client in enumerate(polite):
                client.send(b"GET /?%d HTTP/1.1\r\nHost: h\r\n\r\n" % number)
            served.clear()
            gate.go.set()
            for client in polite:
                client.response()
                client.socket.close()
            for _ in range(301):
                greedy.response()
    assert [number for number in served[:7] if number != "g"] == ["0", "1", "2", "3", "4"]
    assert served.count("g") == 300


def test_keep_alive_ends_politely_where_connections_would_wait_long(tmp_path: Path) -> None:
    """With a slow app and somebody waiting already, the client is told to come back to a worker with time."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        deadline = time.monotonic() + 0.03
        while time.monotonic() < deadline:
            pass
        return hello(environ, start_response)

    with inside(tmp_path, app) as server, server.connect() as one, server.connect() as other:
        one.get()  # slow, as the worker knows from now on
        time.sleep(0.05)  # the worker is at leisure: time is the state waited for
        one.send(GET)
        other.send(GET)
        assert b"Connection" not in one.response()[0]
        assert b"Connection: close\r\n" in other.response()[0]
        assert other.rest() == b""
        assert b"Connection" not in one.get()[0]


def ended(server: Inside) -> bool:
    server.thread.join(0)
    return not server.thread.is_alive()


@pytest.fixture(params=[1, 3], ids=["1 thread", "3 threads"])
def gated(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Inside, Gate]]:
    gate = Gate()
    with inside(tmp_path, gate, threads=request.param, limits=Limits(read_seconds=5.0)) as server:
        yield server, gate


def test_draining_serves_everybody_who_was_accepted(gated: tuple[Inside, Gate]) -> None:
    server, gate = gated
    idle, fresh, head, body, chunks, busy = (server.connect() for _ in range(6))
    assert idle.get()[1] == b"GET / "
    fresh.send(b"G")  # accepted: it has begun
    head.send(GET[:-2])
    body.send(POST + b"01234")
    chunks.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n")
    busy.get()
    wait_until(lambda: len(server.worker._reactor.parked) == 6, "six parked connections")
    busy.send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
    gate.wait()
    server.worker.drain()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.address)
    gate.go.set()
    assert busy.response()[1] == b"GET /slow "
    assert idle.rest() == b""
    for client, rest, answer in (
        (fresh, GET[1:], b"GET / "),
        (head, GET[-2:], b"GET / "),
        (body, b"56789", b"POST / 0123456789"),
        (chunks, b"0\r\n\r\n", b"POST / 01234"),
    ):
        assert not ended(server)
        client.send(rest)
        got_head, got_body = client.response()
        assert b"Connection: close\r\n" in got_head
        assert got_body == answer
        assert client.rest() == b""
    for client in (idle, fresh, head, body, chunks, busy):
        client.socket.close()
    wait_until(lambda: ended(server), "the worker's end")


def test_draining_waits_for_slow_readers(tmp_path: Path) -> None:
    with inside(tmp_path, large(3_500_000)) as server, server.connect(receive_buffer=4096) as slow:
        slow.send(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
        slow.until(b"\r\n\r\n")
        wait_until(lambda: server.counter("requests") == 1, "the end of the request")
        server.worker.drain()
        assert slow.until_length(3_500_000) == b"x" * 3_500_000
        assert slow.rest() == b""
        wait_until(lambda: ended(server), "the worker's end")


def test_draining_does_not_wait_for_ever_for_the_silent(tmp_path: Path) -> None:
    with inside(tmp_path, hello, limits=QUICK) as server, server.connect() as silent, server.connect() as half:
        half.send(GET[:9])
        wait_until(lambda: len(server.worker._reactor.parked) == 2, "two parked connections")
        server.worker.drain()
        assert silent.rest() == half.rest() == b""
        wait_until(lambda: ended(server), "the worker's end")


def test_the_lifelines_end_is_a_drain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    armed: list[float] = []
    monkeypatch.setattr("faulthandler.dump_traceback_later", lambda seconds, **_: armed.append(seconds))
    with inside(tmp_path, hello) as server, server.connect() as client:
        client.get()
        server.cut_lifeline()
        assert client.rest() == b""
        wait_until(lambda: ended(server), "the worker's end")
    assert armed == [60.0]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_paused_worker_serves_nobody_and_loses_nobody(tmp_path: Path, threads: int) -> None:
    heard = threading.Semaphore(0)
    with inside(tmp_path, echo, threads=threads, on_signal=lambda _number: heard.release()) as server:
        kept = server.connect()
        kept.get()
        half = server.connect()
        half.send(GET[:5])
        wait_until(lambda: len(server.worker._reactor.parked) == 2, "two parked connections")
        server.toggle_pause()
        kept.send(GET)
        half.send(GET[5:])
        new = server.connect()
        new.send(GET)
        for _ in range(5):  # signals are still heard, and nothing but them
            server.signal_writer.send(b"\1")
            assert heard.acquire(timeout=10)
        assert server.counter("requests") == 1
        server.toggle_pause()
        for client in (kept, half, new):
            assert client.response()[1] == b"GET / "
            client.socket.close()
        assert server.pauses == [True, False]


def test_a_paused_worker_can_be_drained(tmp_path: Path) -> None:
    with inside(tmp_path, echo) as server, server.connect() as kept, server.connect() as half:
        kept.get()
        half.send(GET[:5])
        wait_until(lambda: len(server.worker._reactor.parked) == 2, "two parked connections")
        server.toggle_pause()
        kept.send(GET)
        server.worker.drain()
        assert kept.response()[1] == b"GET / "
        half.send(GET[5:])
        assert half.response()[1] == b"GET / "
        wait_until(lambda: ended(server), "the worker's end")


def test_signals_are_handled_between_requests(tmp_path: Path) -> None:
    heard: list[int] = []
    with inside(tmp_path, hello, on_signal=heard.append) as server, server.connect() as client:
        for number in (0, 17, 255):
            server.signal_writer.send(bytes([number]))
        wait_until(lambda: heard == [0, 17, 255], "three signals")
        assert client.get()[1] == b"hello"


def test_a_unix_socket(tmp_path: Path) -> None:
    seen: list[str] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.append(environ["REMOTE_ADDR"])
        return hello(environ, start_response)

    with inside(tmp_path, app, path=str(tmp_path / "http.sock")) as server, server.connect() as client:
        assert client.get()[1] == b"hello"
        bound = socket.socket(socket.AF_UNIX)  # a client's address may be a path or an abstract name
        bound.bind("\0" + tmp_path.name)
        bound.connect(server.address)
        bound.sendall(GET)
        assert bound.recv(100).startswith(b"HTTP/1.1 200")
        bound.close()
    assert seen == ["0.0.0.0", "0.0.0.0"]
