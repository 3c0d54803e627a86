"""`uwsgi.chunked_read()` as the chunks come: the real uWSGI's http-socket and http11-socket, and ours, told it."""

from collections.abc import Iterator
from typing import Any

import pytest

from running import Runner, free_port, runner, wait_until
from worker_inside import Client

pytestmark = pytest.mark.interop

#: Every chunk is answered at once by its repr; an error by its class, and that is the end. /nb asks without waiting.
APP = """
import time
import uwsgi
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return answers(environ["PATH_INFO"])
def answers(path):
    while True:
        try:
            chunk = uwsgi.chunked_read_nb() if path == "/nb" else uwsgi.chunked_read(1)
        except OSError:
            yield b"<OSError>"
            return
        if chunk is None:
            time.sleep(0.01)
            continue
        yield repr(chunk).encode() + b"\\n"
        if not chunk:
            return
"""
HEAD = b"POST %b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
SERVERS = {
    "uWSGI http-socket": (("uwsgi-core", "--plugins", "python3"), "http-socket"),
    "uWSGI http11-socket": (("uwsgi-core", "--plugins", "python3"), "http11-socket"),
    "palatine": (("palatine-app-server", "--http-raw-body"), "http-socket"),
}


@pytest.fixture(scope="module", params=SERVERS)
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    directory = tmp_path_factory.mktemp("chunked")
    with runner(directory) as programs:
        yield started(programs, *SERVERS[request.param])


def started(programs: Runner, words: tuple[str, ...], option: str) -> Any:
    app = programs.directory / "app.py"
    app.write_text(APP)
    port = free_port()
    where = ("127.0.0.1", port)
    running = programs.start(*words, "--master", "--wsgi-file", str(app), f"--{option}", f"127.0.0.1:{port}")

    def up() -> bool:
        try:
            Client(where).socket.close()
        except OSError:
            return False
        return True

    wait_until(up, f"the server: {running.output()}", 30)
    return where


@pytest.mark.parametrize("path", [b"/", b"/nb"])
def test_a_chunk_is_read_when_it_comes(address: Any, path: bytes) -> None:
    """The client waits for each answer before it sends the next: nobody waits for all of the body."""
    with Client(address) as client:
        client.send(HEAD % path)
        for sent, seen in (
            ([b"5\r\nhello\r\n"], b"b'hello'\n"),
            ([b"3\r\nab", b"c\r\n"], b"b'abc'\n"),  # in two pieces
            ([b"1\r\nx\r\n2\r\nyz\r\n"], b"b'x'\n"),  # two at once stay two
            ([], b"b'yz'\n"),
            ([b"a\r\n0123456789\r\n"], b"b'0123456789'\n"),
            ([b"0\r\n\r\n"], b"b''\n"),
        ):
            for piece in sent:
                client.send(piece)
            client.until(seen)


@pytest.mark.parametrize("what", [b"!\r\n", b"5\r\nhel", b""], ids=["no chunk", "part of one", "nothing"])
def test_what_does_not_come_is_an_error(address: Any, what: bytes) -> None:
    with Client(address) as client:
        client.send(HEAD % b"/" + what)
        client.until(b"<OSError>")
