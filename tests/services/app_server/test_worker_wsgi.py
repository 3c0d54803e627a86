"""PEP 3333 through the real worker, and what an app may do to itself but to nobody else."""

import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

from running import wait_until
from worker_inside import Inside, echo, hello, inside, packet

App = Callable[[dict[str, Any], Callable[..., Any]], Any]
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


class Closing:
    """An iterable that knows whether it was closed."""

    def __init__(self, *pieces: bytes | BaseException, on_close: BaseException | None = None) -> None:
        self.pieces = list(pieces)
        self.closed = threading.Event()
        self.on_close = on_close

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def close(self) -> None:
        self.closed.set()
        if self.on_close is not None:
            raise self.on_close


def returning(result: Any, status: str = "200 OK", headers: list[tuple[str, str]] | None = None) -> App:
    def app(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response(status, headers or [("Content-Type", "text/plain")])
        return result

    return app


@pytest.mark.parametrize(
    "request_bytes",
    [
        GET,
        b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /%e4?q HTTP/1.0\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_the_validator_has_nothing_to_say(tmp_path: Path, request_bytes: bytes) -> None:
    """wsgiref's validator checks the environ, the input, start_response and the iteration, and close()."""
    faults: list[BaseException] = []

    @validator
    def checked(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        environ["wsgi.input"].read(2)
        for line in environ["wsgi.input"]:
            assert isinstance(line, bytes)
        environ["wsgi.errors"].write("")
        environ["wsgi.errors"].flush()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else b"answer"]

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return checked(environ, start_response)
        except BaseException as error:
            faults.append(error)
            raise

    with inside(tmp_path, app) as server, server.connect() as client:
        client.send(request_bytes)
        client.end_sending()
        answer = client.rest()
    assert not faults
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length: 6\r\n" in answer
    assert answer.endswith(b"answer") == (not request_bytes.startswith(b"HEAD"))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_environ_is_what_uwsgi_apps_know(tmp_path: Path, threads: int) -> None:
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.update(environ)
        return hello(environ, start_response)

    with inside(tmp_path, app, threads=threads, multiprocess=True) as server, server.connect() as client:
        client.get("/a%20b?c=d", "X-Own: 1", "Content-Type: text/x")
    expected = {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/a b", "QUERY_STRING": "c=d",
        "REQUEST_URI": "/a%20b?c=d", "SERVER_NAME": "here", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "h", "HTTP_X_OWN": "1", "CONTENT_TYPE": "text/x",
        "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.multithread": threads > 1,
        "wsgi.multiprocess": True, "wsgi.run_once": False, "uwsgi.version": b"2.0.31",
        "uwsgi.node": os.uname().nodename.encode(),
    }  # fmt: skip
    assert {key: seen[key] for key in expected} == expected
    assert ("uwsgi.core" in seen) == (threads > 1)
    assert callable(seen["wsgi.file_wrapper"])
    assert "CONTENT_LENGTH" not in seen


def test_a_generator_is_streamed_and_closed(tmp_path: Path) -> None:
    go, closed = threading.Event(), threading.Event()

    def pieces() -> Iterator[bytes]:
        try:
            yield b"first"
            assert go.wait(10)
            yield b"second"
        finally:
            closed.set()

    with inside(tmp_path, returning(pieces())) as server, server.connect() as client:
        client.send(GET)
        assert client.until(b"first").endswith(b"\r\n\r\n5\r\nfirst")  # before the second exists
        go.set()
        assert client.until(b"0\r\n\r\n") == b"\r\n6\r\nsecond\r\n0\r\n\r\n"
        assert closed.wait(10)


@pytest.mark.parametrize("pieces", [(), (b"a",), (b"a", b"b"), (ValueError("x"),), (b"a", ValueError("x"))])
def test_close_is_called_whatever_happened(tmp_path: Path, pieces: tuple[Any, ...]) -> None:
    result = Closing(*pieces)
    with inside(tmp_path, returning(result)) as server:
        server.talk(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert result.closed.wait(10)


def test_close_is_called_when_the_client_has_gone(tmp_path: Path) -> None:
    asked, gone = threading.Event(), threading.Event()

    class Endless(Closing):
        def __iter__(self) -> Iterator[bytes]:
            asked.set()
            assert gone.wait(10)
            while True:
                yield b"x" * 65536

    result = Endless()
    with inside(tmp_path, returning(result)) as server:
        with server.connect() as client:
            client.send(GET)
            assert asked.wait(10)
        gone.set()
        assert result.closed.wait(10)
        wait_until(lambda: server.counter("requests") == 1, "the end of the request")
        assert server.counter("write_errors") == 1
        assert server.counter("exceptions") == 0


def test_a_close_that_raises_harms_nobody(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with (
        inside(tmp_path, returning(Closing(b"a", on_close=OSError("close failed")))) as server,
        server.connect() as client,
    ):
        for _ in range(2):
            client.send(GET)
            assert client.response()[1] == b"a"
        assert server.counter("exceptions") == 2
    assert "close failed" in capfd.readouterr().err


#: What apps raise; several of these are what a server's own sockets raise too, and must not be mistaken for that.
RAISED = [
    ValueError("boom"),
    ConnectionResetError("my database"),
    BrokenPipeError("my database"),
    TimeoutError("my database"),
    OSError(9, "my file"),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    RecursionError(),
    MemoryError(),
]


@pytest.mark.parametrize("error", RAISED, ids=repr)
@pytest.mark.parametrize("after", [False, True], ids=["before start_response", "after"])
def test_an_exception_is_a_plain_500_and_the_worker_goes_on(
    tmp_path: Path, error: BaseException, *, after: bool
) -> None:
    failing = True

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if not failing:
            return hello(environ, start_response)
        if after:
            start_response("200 OK", [("X-Secret", "1")])
        raise error

    with inside(tmp_path, app) as server, server.connect() as client:
        client.send(GET)
        head, body = client.response()
        assert head.startswith(b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\n")
        assert b"X-Secret" not in head
        assert body == b"Internal Server Error"
        failing = False
        assert client.get()[1] == b"hello"  # on the same connection
        assert server.counter("exceptions") == 1
        wait_until(lambda: server.counter("requests") == 2, "two requests counted")
        assert server.counter("write_errors") == 0


@pytest.mark.parametrize("error", RAISED, ids=repr)
def test_an_exception_within_the_body_ends_the_connection(tmp_path: Path, error: BaseException) -> None:
    """The client must not take the part for the whole: no last chunk."""
    with inside(tmp_path, returning(Closing(b"part", error))) as server:
        answer = server.talk(GET)
        assert answer.endswith(b"4\r\npart\r\n")
        assert server.counter("exceptions") == 1
        server.talk(GET)


@pytest.mark.parametrize(
    "app",
    [
        returning(["text"]),
        lambda _environ, start_response: (start_response("200 OK", []), iter(["text"]))[1],
        returning([5]),
        returning(None),
        returning(5),
        returning([b"x"], "200 OK\r\nX: y"),
        returning([b"x"], "200 OK", [("X", "a\r\nSet-Cookie: stolen")]),
        returning([b"x"], "200 OK", [("X", "a\r\n\r\n<script>")]),
        returning([b"x"], "200 OK", [("X", "\u20ac")]),
        returning([b"x"], "200 OK", [("Transfer-Encoding", "chunked")]),
        lambda _environ, _start_response: [b"x"],
        lambda _environ, _start_response: None,
        lambda: None,
        lambda _environ, start_response: start_response("200 OK", [], None, None),
        lambda _environ, start_response: [start_response("200 OK", []), start_response("200 OK", [])],
    ],
)
def test_an_app_that_breaks_the_rules_gets_a_500(tmp_path: Path, app: Any) -> None:
    with inside(tmp_path, app) as server, server.connect() as client:
        for _ in range(2):
            client.send(GET)
            head, body = client.response()
            assert head.startswith(b"HTTP/1.1 500 ")
            assert b"stolen" not in head
            assert body == b"Internal Server Error"


def test_no_app_is_a_500_and_uwsgis_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with inside(tmp_path, None) as server:
        answer = server.talk(GET)
    assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\n")
    assert answer.endswith(b"\r\n\r\nInternal Server Error")
    assert "--- no python application found, check your startup logs for errors ---\n" in capfd.readouterr().err


def test_more_than_the_declared_length_never_becomes_a_second_response(tmp_path: Path) -> None:
    attack = b"hello" + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"
    for result in ([attack], Closing(attack[:7], attack[7:])):
        directory = tmp_path / str(id(result))
        directory.mkdir()
        with inside(directory, returning(result, "200 OK", [("Content-Length", "5")])) as server:
            answer = server.talk(GET)
            assert answer.endswith(b"\r\n\r\nhello")


def test_less_than_the_declared_length_ends_the_connection(tmp_path: Path) -> None:
    with inside(tmp_path, returning([b"he"], "200 OK", [("Content-Length", "5")])) as server:
        answer = server.talk(GET + GET)
    assert answer.endswith(b"\r\n\r\nhe")
    assert b"Connection: close\r\n" in answer
    assert answer.count(b"HTTP/1.1") == 1


def test_the_file_wrapper_serves_a_file(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    (tmp_path / "file").write_bytes(content)
    files = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        files.append((tmp_path / "file").open("rb"))
        start_response("200 OK", [("Content-Length", str(len(content)))] if environ["PATH_INFO"] == "/known" else [])
        return environ["wsgi.file_wrapper"](files[-1], 100_000)

    with inside(tmp_path, app) as server, server.connect() as client:
        for path in ("/known", "/chunked"):
            assert client.get(path)[1] == content
        client.get("/known")  # the one before is certainly over now
        assert files[0].closed
        assert files[1].closed


def test_the_uwsgi_protocol(tmp_path: Path) -> None:
    """As uWSGI 2.0.31 answers it: no framing of ours, the connection closed behind the response."""
    seen: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.append(dict(environ))
        return echo(environ, start_response)

    base = {
        "REQUEST_METHOD": "POST", "PATH_INFO": "/app/x", "SCRIPT_NAME": "/app", "REQUEST_URI": "/app/x?q",
        "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "10.0.0.9", "HTTP_HOST": "h", "CONTENT_LENGTH": "5",
    }  # fmt: skip
    with inside(tmp_path, app, protocol="uwsgi") as server:
        assert server.talk(packet(base, body=b"hello")) == (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nPOST /app/x hello"
        )
        assert server.talk(packet(base, 30, body=b"hello")).endswith(b"POST /x hello")
        assert server.talk(packet(base | {"SCRIPT_NAME": "/other"}, 30, body=b"hello")).endswith(b"POST /app/x hello")
        for extra in ({"HTTPS": "on"}, {"HTTPS": "1"}, {"UWSGI_SCHEME": "https"}, {"HTTPS": "off"}, {"HTTPS": ""}):
            server.talk(packet(base | {"CONTENT_LENGTH": ""} | extra))
        server.talk(packet(base | {"CONTENT_LENGTH": "9" * 3000, "UWSGI_FILE": "/etc/passwd", "UWSGI_SETENV": "A=b"}))
        assert server.talk(packet(base | {"REQUEST_METHOD": "HEAD", "CONTENT_LENGTH": "0"})).endswith(b"HEAD /app/x ")
    assert [environ["wsgi.url_scheme"] for environ in seen[3:8]] == ["https", "https", "https", "http", "http"]
    assert not any(key in seen[8] for key in ("UWSGI_FILE", "UWSGI_SETENV"))
    assert seen[0]["REMOTE_ADDR"] == "10.0.0.9"


@pytest.mark.parametrize(
    ("data", "answer", "line"),
    [
        (b"d\0\0\0", b"d\0\0\1", "PING"),
        (b"d\5\0\0\1\0A\1\0b", b"d\0\0\1", "PING"),
        (packet({"A": "b"}, 7), b"", "-- unavailable modifier requested: 7 --"),
        (b"\0\0\0\0", b"", "Empty python request. skip."),
        (b"\0\5\0\0\0\0\1\0b", b"", "beyond its block"),
        (b"\0\4\0\0\5\0AB", b"", "cut short"),
        (b"GET / HTTP/1.1\r\n\r\n", b"", "invalid request block size: 21573 (max 4096)...skip"),
        (b"\0\1\x10\0", b"", "invalid request block size: 4097 (max 4096)...skip"),
    ],
)
def test_packets_that_are_no_request(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], data: bytes, answer: bytes, line: str
) -> None:
    with inside(tmp_path, hello, protocol="uwsgi") as server:
        assert server.talk(data) == answer
        assert server.counter("requests") == 0
    assert line in capfd.readouterr().err


def test_a_packet_is_the_same_byte_by_byte(tmp_path: Path) -> None:
    data = packet({"REQUEST_METHOD": "POST", "PATH_INFO": "/", "CONTENT_LENGTH": "5"}, body=b"hello")
    with inside(tmp_path, echo, protocol="uwsgi") as server, server.connect() as client:
        for at in range(len(data)):
            client.send(data[at : at + 1])
        assert client.rest().endswith(b"POST / hello")


def test_a_whole_body_by_itself_is_taken_as_uwsgi_takes_it(tmp_path: Path) -> None:
    with inside(tmp_path, returning(b"hello")) as server, server.connect() as client:
        assert client.get()[1] == b"hello"


def test_the_request_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with inside(tmp_path, returning([b"x" * 7], "404 Gone", [("A", "b")]), log_requests=True) as server:
        with server.connect() as client:
            client.get("/a?b=\x1b[31m".replace("\x1b", "%1b"))
        server.talk(b"GET /\r\nEVIL HTTP/1.1\r\n\r\n")
    lines = capfd.readouterr().err.splitlines()
    assert lines[1:] == ["invalid HTTP request: malformed request line (400 to 127.0.0.1)"]
    assert re.fullmatch(
        r"\[pid: \d+\|app: 0\|req: 1/0\] 127\.0\.0\.1 \(\) \{20 vars in \d+ bytes\} \[.*\] GET /a\?b=%1b\[31m => "
        r"generated 7 bytes in \d+ msecs \(HTTP/1\.1 404\) 1 headers in 27 bytes \(1 switches on core 0\)",
        lines[0],
    )


def test_the_request_line_counts_what_the_front_end_sent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """nginx sends no SCRIPT_NAME: the app has one, uWSGI's line does not count it."""
    seen: list[str] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.append(environ["SCRIPT_NAME"])
        return hello(environ, start_response)

    variables = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "REQUEST_URI": "/", "REMOTE_ADDR": "10.0.0.1"}
    with inside(tmp_path, app, protocol="uwsgi", log_requests=True) as server:
        server.talk(packet(variables))
    size = sum(len(name) + len(value) + 4 for name, value in variables.items())
    assert f" 10.0.0.1 () {{8 vars in {size} bytes}} " in capfd.readouterr().err
    assert seen == [""]


@pytest.fixture
def closed_stderr() -> Iterator[None]:
    """A log whose reader is gone."""
    kept = os.dup(2)
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 2)
    os.close(writer)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@pytest.mark.usefixtures("closed_stderr")
def test_a_log_that_is_gone_costs_no_client_its_answer(tmp_path: Path) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["PATH_INFO"] == "/fail":
            raise ValueError
        return hello(environ, start_response)

    with inside(tmp_path, app, log_requests=True) as server, server.connect() as client:
        assert client.get("/")[1] == b"hello"
        assert client.get("/fail")[0].startswith(b"HTTP/1.1 500 ")
        assert client.get("/")[1] == b"hello"


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[Inside]:
    with inside(tmp_path, echo) as made:
        yield made


def test_what_is_counted(counted: Inside) -> None:
    with counted.connect() as client:
        head, body = client.get("/four")
        client.get("/")
    wait_until(lambda: counted.counter("requests") == 2, "two requests counted")
    assert counted.counter("in_request") == 0
    assert counted.counter("running_time") > 0
    wire = len(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    assert counted.counter("tx") == 2 * wire + len(body) + len(b"GET / ")
    assert head.startswith(b"HTTP/1.1 200")
