"""HTTP at the worker's door: one message is one request, and what two servers could read differently is none."""

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palatine_app_server.serving.clients import Limits
from worker_inside import Inside, echo, hello, inside

SMALL = Limits(head_bytes=1000, body_bytes=100, body_memory_bytes=50, read_seconds=0.5, write_seconds=1.0)
POST = b"POST / HTTP/1.1\r\nHost: h\r\n"
#: What an attacker wants to be taken for a request of somebody else's.
SECOND = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with inside(tmp_path_factory.mktemp("worker"), echo, limits=SMALL) as made:
        yield made


#: (what is sent, status): exactly one response, then the end of the connection.
REFUSED: list[tuple[bytes, int]] = [
    (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello" + SECOND, 400),
    (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello" + SECOND, 400),
    (POST + b"Content-Length: 5, 5\r\n\r\nhello" + SECOND, 400),
    (POST + b"Content-Length: +5\r\n\r\nhello" + SECOND, 400),
    (POST + b"Content-Length: 0x5\r\n\r\nhello" + SECOND, 400),
    (POST + b"Content-Length: -5\r\n\r\nhello" + SECOND, 400),
    (POST + b"Content-Length: 99999999999999999999\r\n\r\nhello" + SECOND, 400),
    (POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND, 400),
    (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n" + SECOND, 400),
    (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + SECOND, 400),
    (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SECOND, 501),
    (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SECOND, 501),
    (POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + SECOND, 400),
    (POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SECOND, 400),
    (POST + b"X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND, 400),
    (POST + b"X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND, 400),
    (POST + b"X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND, 400),
    (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND, 400),
    (POST + b"X: \0\r\n\r\n" + SECOND, 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + SECOND, 400),
    (b"GET / HTTP/1.1\r\n\r\n" + SECOND, 400),
    (b"GET / HTTP/1.1\nHost: h\n\n" + SECOND, 400),
    (b"GET / HTTP/1.1\nHost: h\n\n", 400),  # at once, though no end of a head ever comes
    (b"GET / HTTP/1.1\rHost: h\r\r", 400),
    (b"GET / HTTP/3.0\r\nHost: h\r\n\r\n" + SECOND, 505),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    (b"\r\n\r\n\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    (b"<policy-file-request/>\0\r\n\r\n", 400),
    (POST + b"Expect: something\r\nContent-Length: 5\r\n\r\nhello" + SECOND, 417),
    (POST + b"Content-Length:\r\n\r\nhello" + SECOND, 400),
    (POST + b"Content-Length: 5 5\r\n\r\nhello" + SECOND, 400),
    (POST + b"Content-Length: 5\r\ncontent-length: 0\r\n\r\nhello" + SECOND, 400),
    (POST + b"Transfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND, 400),
    (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + SECOND, 501),
    (POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n" + SECOND, 501),
    (POST + b"Transfer-Encoding: \xa0chunked\r\n\r\n0\r\n\r\n" + SECOND, 501),
    (POST + b"\r\tContent-Length: 5\r\n\r\nhello" + SECOND, 400),
    (b"GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n" + SECOND, 400),
    (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n" + SECOND, 400),
    (b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n" + SECOND, 400),
    (b" GET / HTTP/1.1\r\nHost: h\r\n\r\n" + SECOND, 400),
    (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n" + SECOND, 400),
    (b"GET / HTTP/1.1\r\n Host: h\r\n\r\n" + SECOND, 400),
    (b"GET / HTTP/1.1\r\nHost: h\r\n: nameless\r\n\r\n" + SECOND, 400),
    (b"GET / HTTP/1.1\r\nHost: h\r\nnothing\r\n\r\n" + SECOND, 400),
    # sizes
    (b"GET /" + b"a" * 1000 + b" HTTP/1.1\r\nHost: h\r\n\r\n" + SECOND, 431),
    (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 2000, 431),
    (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 300 + b"\r\n" + SECOND, 431),
    (b"a" * 1001, 431),
    (POST + b"Content-Length: 101\r\n\r\n" + b"b" * 101 + SECOND, 413),
    (POST + b"Content-Length: 101\r\nExpect: 100-continue\r\n\r\n", 413),
    # chunks
    *[
        (POST + b"Transfer-Encoding: chunked\r\n\r\n" + coded + SECOND, status)
        for coded, status in [
            (b"x\r\n", 400),
            (b"-5\r\nhello\r\n0\r\n\r\n", 400),
            (b"0x5\r\nhello\r\n0\r\n\r\n", 400),
            (b"5 \r\nhello\r\n0\r\n\r\n", 400),
            (b"5\r\nhello0\r\n\r\n", 400),
            (b"5\r\nhello\n0\r\n\r\n", 400),
            (b"5\nhello\r\n0\r\n\r\n", 400),
            (b"ffffffffffffffff\r\n", 400),
            (b"5\r\nhello\r\n0\r\nbad trailer\r\n\r\n", 400),
            (b"5;\0\r\nhello\r\n0\r\n\r\n", 400),
            (b"5;" + b"a" * 300 + b"\r\nhello\r\n0\r\n\r\n", 400),
            (b"\r\n0\r\n\r\n", 400),
            (b"5\r\nhello\r\r\n0\r\n\r\n", 400),
            (b"0\r\nX : y\r\n\r\n", 400),
            (b"0\r\n X: y\r\n\r\n", 400),
            (b"0\r\n" + b"X: y\r\n" * 2000, 431),
            (b"65\r\n" + b"b" * 101 + b"\r\n0\r\n\r\n", 413),
            (b"1\r\nb\r\n" * 101 + b"0\r\n\r\n", 413),
        ]
    ],
]


@pytest.mark.parametrize(("data", "status"), REFUSED, ids=lambda value: repr(value)[:80])
def test_one_refusal_and_nothing_behind_it(server: Inside, data: bytes, status: int) -> None:
    before = server.counter("requests")
    answer = server.talk(data)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close\r\n" in answer
    assert b"smuggled" not in answer
    assert server.counter("requests") == before


#: (what is sent, bodies of the responses): several messages in one packet, told apart exactly.
SERVED: list[tuple[bytes, list[bytes]]] = [
    (SECOND * 3, [b"GET /smuggled "] * 3),
    (POST + b"Content-Length: 5\r\n\r\nhello" + SECOND, [b"POST / hello", b"GET /smuggled "]),
    (POST + b"Content-Length: 0\r\n\r\n" + SECOND, [b"POST / ", b"GET /smuggled "]),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND, [b"POST / ", b"GET /smuggled "]),
    (
        POST + b"Transfer-Encoding: Chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nX: y\r\n\r\n" + SECOND,
        [b"POST / hello!", b"GET /smuggled "],
    ),
    (b"\r\n\r\n" + SECOND + b"\r\n" + SECOND, [b"GET /smuggled "] * 2),
    (b"GET http://there/abs HTTP/1.1\r\nHost: h\r\n\r\n" + SECOND, [b"GET /abs ", b"GET /smuggled "]),
    (POST + b"Content_Length: 9\r\n\r\n" + SECOND, [b"POST / ", b"GET /smuggled "]),
    (POST + b"Content-Length: 34\r\n\r\n" + SECOND[:34] + SECOND, [b"POST / " + SECOND[:34], b"GET /smuggled "]),
]


@pytest.mark.parametrize(("data", "bodies"), SERVED, ids=lambda value: repr(value)[:80])
def test_pipelined_requests_are_answered_in_order(server: Inside, data: bytes, bodies: list[bytes]) -> None:
    with server.connect() as client:
        client.send(data)
        assert [client.response()[1] for _ in bodies] == bodies


@pytest.mark.parametrize(("data", "bodies"), SERVED, ids=lambda value: repr(value)[:80])
def test_they_are_the_same_byte_by_byte(server: Inside, data: bytes, bodies: list[bytes]) -> None:
    with server.connect() as client:
        for at in range(len(data)):
            client.send(data[at : at + 1])
        assert [client.response()[1] for _ in bodies] == bodies


def test_a_hundred_requests_in_one_packet(server: Inside) -> None:
    with server.connect() as client:
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(100)))
        assert [client.response()[1] for _ in range(100)] == [b"GET /%d " % number for number in range(100)]


def test_nothing_is_read_behind_a_close(server: Inside) -> None:
    answer = server.talk(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + SECOND)
    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"Connection: close" in answer
    assert server.talk(b"GET / HTTP/1.0\r\n\r\n" + SECOND).count(b"HTTP/1.1 200") == 1


def test_http10_keeps_alive_on_request(server: Inside) -> None:
    with server.connect() as client:
        for _ in range(2):
            client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            head, body = client.response()
            assert b"Connection: keep-alive\r\n" in head
            assert body == b"GET / "
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert b"Connection: close\r\n" in client.response()[0]
        assert client.rest() == b""


@pytest.mark.parametrize("size", [1, 49, 50, 51, 99, 100])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_up_to_the_limit_in_memory_and_in_a_file(server: Inside, size: int, *, chunked: bool) -> None:
    body = bytes(itertools.islice(itertools.cycle(range(65, 91)), size))
    framed = (
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, body)
        if chunked
        else b"Content-Length: %d\r\n\r\n%b" % (size, body)
    )
    with server.connect() as client:
        client.send(POST + framed)
        assert client.response()[1] == b"POST / " + body


def test_expect_is_answered_before_the_body_is_sent(server: Inside) -> None:
    with server.connect() as client:
        client.send(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert client.response()[1] == b"POST / hello"
        client.send(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")  # it does not wait: no need to
        assert client.response()[0].startswith(b"HTTP/1.1 200")


def test_a_client_that_sends_on_after_a_refusal_still_reads_it(server: Inside) -> None:
    """Closing at once would reset the connection under the client's hands (RFC 9112 9.6)."""
    with server.connect() as client:
        client.send(POST + b"Content-Length: 5000000\r\n\r\n")
        for _ in range(50):
            client.send(b"b" * 100_000)
        client.end_sending()
        assert client.rest().startswith(b"HTTP/1.1 413 ")


def test_half_closed_clients_get_their_answer(server: Inside) -> None:
    with server.connect() as client:
        client.send(SECOND * 2)
        client.end_sending()
        assert client.rest().count(b"HTTP/1.1 200") == 2


def test_clients_that_go_cost_nothing(server: Inside) -> None:
    for data in (
        b"",
        b"GET",
        POST,
        POST + b"Content-Length: 9\r\n\r\nhe",
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
    ):
        with server.connect() as client:
            client.send(data)
            client.end_sending()
            assert client.rest() == b""
    with server.connect() as client:
        assert client.get()[1] == b"GET / "


@pytest.fixture
def inputs(tmp_path: Path) -> Iterator[tuple[Inside, list[Any]]]:
    seen: list[Any] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        stream = environ["wsgi.input"]
        ways: dict[str, Callable[[], Any]] = {
            "/read": lambda: [stream.read(2), stream.read(0), stream.read(), stream.read(), stream.read(5)],
            "/line": lambda: [stream.readline(), stream.readline(2), stream.readline(), stream.readline()],
            "/lines": stream.readlines,
            "/iter": lambda: list(stream),
            "/length": lambda: environ.get("CONTENT_LENGTH"),
            "/none": lambda: None,
        }
        seen.append(ways[environ["PATH_INFO"]]())
        start_response("200 OK", [])
        return [b"ok"]

    with inside(tmp_path, app, limits=Limits(body_memory_bytes=6)) as made:
        yield made, seen


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_wsgi_input_is_the_body_and_no_more(inputs: tuple[Inside, list[Any]], framing: str) -> None:
    """Also where the app asks for more than there is; read from memory, a file, and not at all."""
    server, seen = inputs
    body = b"one\ntwo\n3"
    data = (
        b"Content-Length: 9\r\n\r\none\ntwo\n3"
        if framing == "length"
        else b"Transfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n5\r\ntwo\n3\r\n0\r\n\r\n"
    )
    with server.connect() as client:
        for path in (b"/read", b"/line", b"/lines", b"/iter", b"/length", b"/none"):
            client.send(b"POST " + path + b" HTTP/1.1\r\nHost: h\r\n" + data)
            assert client.response()[1] == b"ok"
        client.get("/read")
    assert seen[0] == [body[:2], b"", body[2:], b"", b""]
    assert seen[1] == [b"one\n", b"tw", b"o\n", b"3"]
    assert seen[2] == seen[3] == [b"one\n", b"two\n", b"3"]
    assert seen[4] == "9"
    assert seen[6] == [b""] * 5


def test_a_request_line_counts_what_was_sent_whoever_has_counted_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Known header lines are counted but once; an app changes its own view of a request and not the line."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        environ.update(REQUEST_URI="/other", HTTP_X="y" * 100)
        return hello(environ, start_response)

    with inside(tmp_path, app, log_requests=True) as worker, worker.connect() as client:
        for _ in range(4):
            client.get("/a%20b?c", "X-One: 1")
        client.get("/a%20b?c", "X-Two: 12")
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("[pid: ")]
    found = [re.findall(r"127\.0\.0\.1 \(\) \{(\d+) vars in (\d+) bytes\} .* GET (\S+) =>", line) for line in lines]
    assert found == [[("22", "209", "/a%20b?c")]] * 4 + [[("22", "210", "/a%20b?c")]]
