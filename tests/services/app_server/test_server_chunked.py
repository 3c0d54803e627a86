"""Chunked bodies an app reads itself: as a file, slowly sent, too long, never read, and behind uwsgi's protocol."""

import pytest

from app_server import AppServer
from palatine.codec import uwsgi_packet
from running import Runner

APP = """
import uwsgi
plain = application
def application(environ, start_response):
    body = environ["wsgi.input"]
    path = environ["PATH_INFO"]
    if path == "/unread":
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]
    if path == "/lines":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [repr([body.readline(), body.read(3), list(body), body.read()]).encode()]
    if path == "/refused":
        try:
            while uwsgi.chunked_read(): pass
        except OSError as error:
            start_response("200 OK", [])
            return [str(error).encode()]
    if path == "/each":
        start_response("200 OK", [])
        return iter(uwsgi.chunked_read, b"")
    return plain(environ, start_response)
"""
HEAD = "POST {} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"


@pytest.fixture
def server(programs: Runner) -> AppServer:
    listen = ("--http-socket", "127.0.0.1:0", "--socket", "127.0.0.1:0")
    words = ["--chunked-input-limit", "1000", "--limit-post", "5000", "--chunked-input-timeout", "20"]
    return AppServer(programs, *words, app=APP, listen=listen)


def test_it_is_a_file_too(server: AppServer) -> None:
    with server.connect() as client:
        client.send(HEAD.format("/lines").encode() + b"\r\n4\r\na\nbc\r\n8\r\nd\nlast\nx\r\n0\r\n\r\n")
        head, body = client.response()
        assert b"\r\nConnection: close\r\n" in head
        assert body == b"[b'a\\n', b'bcd', [b'\\n', b'last\\n', b'x'], b'']"
        assert client.rest() == b""


def test_a_client_that_asks_first_is_told_to_go_on_when_the_app_reads(server: AppServer) -> None:
    with server.connect() as client:
        client.send(HEAD.format("/each").encode() + b"Expect: 100-continue\r\n\r\n")
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"2\r\nok\r\n0\r\n\r\n")
        assert client.response()[1] == b"ok"


def test_nobody_has_to_read_it(server: AppServer) -> None:
    """The answer arrives although its client is still sending, and what it sends is no request."""
    with server.connect() as client:
        client.send(HEAD.format("/unread").encode() + b"\r\n3\r\nabc\r\n")
        assert client.response()[1] == b"done"
        client.send(b"0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")
        client.end_sending()
        assert client.rest() == b""
    assert server.get() == b"ok"


@pytest.mark.parametrize(
    ("chunks", "why"),
    [
        (b"3e9\r\n" + b"x" * 1001, b"it is over chunked-input-limit (1000 bytes)"),
        (b"3e8\r\n%b\r\n" % (b"x" * 1000) * 6, b"the body is over limit-post (5000 bytes)"),
        (b"1\r\nxx", b"chunk without its line end"),
    ],
)
def test_what_is_too_much_is_refused(server: AppServer, chunks: bytes, why: bytes) -> None:
    with server.connect() as client:
        client.send(HEAD.format("/refused").encode() + b"\r\n" + chunks)
        assert client.response()[1] == b"unable to receive chunked part: " + why


def test_a_front_end_that_does_not_wait_passes_it_on(server: AppServer) -> None:
    variables = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/each",
        "HTTP_TRANSFER_ENCODING": "chunked",
        "CONTENT_LENGTH": "",
    }
    block = uwsgi_packet.encode_vars(variables)
    with server.connect(1) as client:
        client.send(uwsgi_packet.encode_header(uwsgi_packet.PacketHeader(0, len(block), 0)) + block + b"2\r\nab\r\n")
        assert client.until(b"ab").startswith(b"HTTP/1.0 200 OK\r\n")
        client.send(b"1\r\nc\r\n0\r\n\r\n")
        assert client.rest() == b"c"
