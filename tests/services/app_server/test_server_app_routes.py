"""`uwsgi.route()`: actions of the routing's an app asks for itself, with routes in the config or without; and files."""

import pytest

from app_server import AppServer
from running import Runner

#: /ROUTER/ARGUMENT does that and says what came of it; with ?late only once the response has begun.
APP = """
import uwsgi
plain = application
def application(environ, start_response):
    _, router, argument = environ["PATH_INFO"].split("/", 2)
    if router == "plain":
        return plain(environ, start_response)
    if environ["QUERY_STRING"] == "late":
        start_response("200 OK", [])
    code = uwsgi.route(router, argument.replace("HERE", HERE))
    if code == 2:
        return [b"", b"more"] if environ["QUERY_STRING"] == "more" else [b""]
    if environ["QUERY_STRING"] != "late":
        start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d %s" % (code, environ.get("REMOTE_USER", "").encode())]
"""
ROUTED = ["--route", "^/never break:"]


@pytest.mark.parametrize("words", [[], ROUTED], ids=["plain", "routed"])
def test_an_app_asks_for_an_answer(programs: Runner, words: list[str]) -> None:
    """On one connection: what is answered so is framed, and the next request finds its place."""
    server = AppServer(programs, *words, app=APP)
    (server.home / "a.txt").write_text("a file")
    with server.connect() as client:

        def ask(path: str, method: str = "GET") -> tuple[bytes, bytes]:
            client.send(f"{method} {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            return client.response()

        head, body = ask("/redirect/https://${HTTP_HOST}/x")
        assert head.startswith(b"HTTP/1.1 302 Found\r\nLocation: https://h/x\r\n")
        assert body == b"Moved"
        head, body = ask("/static/HERE/a.txt")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body == b"a file"
        assert ask("/file/filename=HERE/a.txt,status=503%20Down")[1] == b"a file"
        assert ask("/return/403?more")[1] == b"Forbiddenmore"[:9]  # of the length that was declared
    for path, body in (
        ("/continue/", b"1 "), ("/last/", b"1 "), ("/log/hello", b"0 "), ("/donotlog/", b"0 "), ("/nothing/x", b"-1 "),
        ("/addvar/wrong", b"-1 "), ("/static-next/HERE/none", b"0 "), ("/redirect/x?late", b"-1 "),
        ("/gzip/?late", b"-1 "),
    ):  # fmt: skip
        assert server.get(path) == body, path
    output = server.running.wait_for("[uwsgi-route] gzip: the response has begun")
    assert "hello\n" in output
    assert "GET /donotlog/ " not in output
    assert "[uwsgi-route] addvar: 'addvar:wrong': addvar takes key=value" in output


def test_headers_and_bodies_take_a_route_in_the_configuration(programs: Runner) -> None:
    server = AppServer(programs, *ROUTED, app=APP)
    with server.connect() as client:
        client.send(b"GET /addheader/X-More:%201 HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b"\r\nX-More: 1\r\n" in client.response()[0]
        client.send(b"GET /toupper/ HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.response()[1] == b"0 "
    plain = AppServer(programs, app=APP, name="plain")
    assert plain.get("/addheader/X-More:%201") == b"-1 "
    plain.running.wait_for("[uwsgi-route] addheader: only with a route in the configuration")


def test_another_server_answers_for_the_app(programs: Runner) -> None:
    behind = AppServer(programs, name="behind")
    host, port = behind.address()
    server = AppServer(programs, app=APP)
    with server.connect() as client:
        for _ in range(2):
            client.send(f"GET /http/{host}:{port},,/ HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            head, body = client.response()
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert body == b"ok"


def test_files_of_routes_are_read_where_sendfile_is_not_wanted(programs: Runner) -> None:
    page = programs.directory / "page"
    page.write_text("a page")
    route = ["--route", f"^/file file:filename={page}", "--route", f"^/static static:{page}"]
    server = AppServer(programs, *route)
    reading = AppServer(programs, *route, "--disable-sendfile", name="reading")
    for path in ("/file", "/static"):
        assert server.get(path) == reading.get(path) == b"a page"
    server.wait_log("via sendfile() ", 2)
    reading.wait_log("GET /static ", 1)
    assert "via sendfile()" not in reading.running.output()
