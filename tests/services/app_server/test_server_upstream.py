"""Routes of a running instance that answer from a cache, change bodies, or pass requests on to other servers."""

import contextlib
import gzip
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app_server import AppServer
from palatine import config
from palatine.codec import http_upstream
from palatine.errors import ConfigError, ProtocolError
from palatine_app_server.config import front_settings
from running import Runner, run

APP = """
import json
def more(environ):
    path = environ["PATH_INFO"]
    if path.startswith("/environ"):
        return json.dumps({k: v for k, v in environ.items() if isinstance(v, str)}).encode()
    if path.startswith("/big/"):
        return b"x" * int(path[5:])
plain = application
count = 0
def application(environ, start_response):
    global count
    path = environ["PATH_INFO"]
    if path.startswith("/count"):
        count += 1
        start_response("200 OK" if environ["QUERY_STRING"] != "404" else "404 Not Found", [("Content-Length", "1")])
        return [str(count).encode()]
    if path == "/nothing":
        start_response("200 OK", [("Content-Length", "1000")])
        return []
    if path == "/lazy":
        return lazy(start_response)
    if path == "/write":
        write = start_response("200 OK", [])
        write(b"abc")
        return [b"def"]
    return plain(environ, start_response)
def lazy(start_response):
    start_response("200 OK", [("X-App", "1")])
    yield b"hello "
    yield b"${HTTP_X_NAME}$1"
"""


def url(server: AppServer, path: str) -> str:
    host, port = server.address()
    return f"http://{host}:{port}{path}"


def curl(server: AppServer, path: str, *options: str) -> str:
    return run("curl", "-sS", *options, url(server, path)).stdout


def words(text: str) -> list[str]:
    return [f"--{name.strip()}={value.strip()}" for name, _, value in
            (line.partition("=") for line in text.split("\n")) if name.strip()]  # fmt: skip


def test_caches_and_bodies(programs: Runner) -> None:
    kept = programs.directory / "kept"
    server = AppServer(
        programs,
        *words(f"""
            cache2 = name=pages,items=10,bitmap=1,blocks=100
            route = ^/count/(.*) cache:key=$1,name=pages,content_type=text/cached
            route = ^/count/(.*) cachestore:key=$1,gzip=$1.gz,name=pages,expires=60
            route = ^/packed/(.*) cache:key=$1.gz,content_encoding=gzip
            route = ^/hits cacheinc:key=hits
            route = ^/hits cachevar:key=hits,var=HTTP_X_HITS,num=1
            route = ^/hits rewrite:/environ
            route-if = incache:key=a addvar:HAS=yes
            route = ^/(l)azy template:
            route = ^/write toupper:
            route = ^/environ tofile:filename={kept}
            response-route-if = equal:${{qs[z]}};1 gzip:
            route = ^/hash hash:key=${{PATH_INFO}},var=NODE,items=a;b
            route = ^/hash rewrite:/environ
            route = ^/old expires:unix=0,value=86400
        """),
        app=APP,
    )
    assert curl(server, "/count/a?404") == "1"
    assert curl(server, "/count/a") == "2"
    seen = curl(server, "/count/a", "-i")
    assert "Content-Type: text/cached\n" in seen
    assert seen.endswith("\n\n2")
    assert curl(server, "/packed/a", "--compressed") == "2"
    assert json.loads(curl(server, "/hits"))["HTTP_X_HITS"] == "1"
    found = json.loads(curl(server, "/hits"))
    assert (found["HTTP_X_HITS"], found["HAS"]) == ("2", "yes")
    assert json.loads(kept.read_text()) == found
    assert curl(server, "/lazy", "-H", "X-Name: ${HTTP_HOST}") == "hello ${HTTP_HOST}l"
    assert curl(server, "/write") == "ABCDEF"
    for path in ("/big/5000?z=1", "/lazy?z=1", "/write?z=1"):
        packed = run("curl", "-sS", url(server, path), "-o", str(kept), "-w%header{content-encoding}").stdout
        assert packed == "gzip"
        assert gzip.decompress(kept.read_bytes())
    assert curl(server, "/big/70000?z=1", "--compressed") == "x" * 70000
    assert curl(server, "/big/9", "-I").startswith("HTTP/1.1 200")
    nothing = curl(server, "/nothing?z=1", "-I")
    assert "Content-Encoding: gzip\n" in nothing
    assert "Content-Length" not in nothing  # of what GET gets
    assert json.loads(curl(server, "/hash"))["NODE"] in {"a", "b"}
    assert "Expires: Fri, 02 Jan 1970 00:00:00 GMT\n" in curl(server, "/old", "-i")
    assert server.read("slots")[0]["respawn_count"] == 1


def test_other_servers(programs: Runner) -> None:
    back = AppServer(
        programs, name="back", app=APP,
        listen=("--http-socket", "127.0.0.1:0", "--socket", "back.sock"),
    )  # fmt: skip
    host, port = back.address()
    server = AppServer(
        programs,
        *words(f"""
            route = ^/u(/.*) rewrite:$1
            route-if = startswith:${{REQUEST_URI}};/u/ uwsgi:{back.home}/back.sock,0,0
            route = ^/h(/.*) http:{host}:{port},other.example,$1?${{QUERY_STRING}}
            route = ^/gone http:127.0.0.1:1
            route = ^/line log:${{PATH_INFO}}
            route = ^/named/(.*) http:$1:80
            response-route-status = 404 addheader:X-Seen: 404
        """),
        name="front", app=APP,
    )  # fmt: skip
    for prefix in ("/u", "/h"):
        seen = json.loads(curl(server, f"{prefix}/environ", "-H", "X-Other: 1", "-H", "Connection: x-other"))
        assert seen["PATH_INFO"] == "/environ"
        assert seen.get("HTTP_X_OTHER") == ("1" if prefix == "/u" else None)  # about this connection: RFC 9110 7.6.1
        assert curl(server, f"{prefix}/echo", "-d", "x" * 100000) == "x" * 100000
        chunked = curl(server, f"{prefix}/echo", "-H", "Transfer-Encoding: chunked", "-d", "pieces")
        assert chunked == "pieces"
        assert len(curl(server, f"{prefix}/big/3000000")) == 3_000_000
        assert curl(server, f"{prefix}/count?404", "-i").startswith("HTTP/1.1 404 ")
        with server.connect() as client:  # the connection is kept
            for _ in range(2):
                assert client.get(f"{prefix}/pid")[1] == str(back.pids()[0]).encode()
    seen = json.loads(curl(server, "/h/environ", "-H", "X-Forwarded-For: 1.2.3.4", "-H", "X-Other: 1"))
    assert seen["HTTP_X_OTHER"] == "1"
    assert (seen["HTTP_HOST"], seen["HTTP_X_FORWARDED_FOR"]) == ("other.example", "1.2.3.4, 127.0.0.1")
    assert "X-Seen: 404\n" in curl(server, "/u/count?404", "-i")
    assert curl(server, "/gone", "-w%{http_code}") == "Bad Gateway502"
    server.running.wait_for("error routing request to http server 127.0.0.1:1: ")
    for name in ("a..b", "x" * 64):
        assert curl(server, f"/named/{name}", "-w%{http_code}") == "Bad Gateway502"
    assert curl(server, "/line%0Atwo") == "ok"
    server.running.wait_for("\n/line\\ntwo\n")


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """A server that says `answers`, one a connection, and nothing to those that come later."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        held: list[socket.socket] = []

        def serve() -> None:
            for answer in answers:
                peer, _ = listener.accept()
                peer.recv(65536)
                peer.sendall(answer)
                if answer:
                    peer.close()
                else:
                    held.append(peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(30)
            for peer in held:
                peer.close()


def test_servers_that_answer_badly(programs: Runner) -> None:
    answers = (
        b"HTTP/1.0 100 Continue\r\n\r\nHTTP/1.0 200 Fine\r\nConnection: x\r\n\r\nto the end", b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000,
        b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nshort", b"",
    )  # fmt: skip
    with answering(*answers) as port:
        server = AppServer(programs, f"--route-run=http:127.0.0.1:{port}", "--socket-timeout", "1", app=APP)
        assert curl(server, "/") == "to the end"
        for _ in range(3):
            assert curl(server, "/", "-w%{http_code}") == "Bad Gateway502"
        assert run("curl", "-sS", url(server, "/"), check=False).returncode == 18  # a part of it
        assert curl(server, "/", "-w%{http_code}") == "Gateway Timeout504"
    assert "Traceback" not in server.running.output()


def test_a_head_without_end(programs: Runner) -> None:
    """It ends with the deadline, however steadily it comes."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)

        def serve() -> None:
            with listener.accept()[0] as peer, contextlib.suppress(OSError):
                while not over.wait(0.05):
                    peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            route = f"--route=^/never http:127.0.0.1:{listener.getsockname()[1]}"
            server = AppServer(programs, route, "--socket-timeout", "1", app=APP)
            assert curl(server, "/never", "-w%{http_code}", "-m", "30") == "Gateway Timeout504"
        finally:
            over.set()
            thread.join(30)


def test_a_router(programs: Runner) -> None:
    back = AppServer(programs, name="back", app=APP, listen=("--socket", "127.0.0.1:0"))
    host, port = back.address()
    server = AppServer(
        programs, "--http-to", "/nonexistent", "--http-fallback", f"{host}:{port}", name="router",
        listen=("--http", "127.0.0.1:0"), app=APP,
    )  # fmt: skip
    assert curl(server, "/pid") == str(back.pids()[0])
    assert curl(server, "/echo", "-d", "body") == "body"
    assert os.fspath("/nonexistent") in server.running.output()


def forward(*more: str) -> front_settings.FrontSettings:
    return front_settings.read(config.load(more, {}, cwd="/"))


def test_where_a_router_leads() -> None:
    assert forward("--http", ":1", "--http-to", "/a", "--http-to", "/b").forward == ("/a", "/b")
    assert forward("--http", ":1", "--http-to", "/a", "--socket", "/a").forward == ()
    with pytest.raises(ConfigError, match="uwsgi:/b,0,0"):
        forward("--http", ":1", "--http-to", "/b", "--socket", "/a")


@pytest.mark.parametrize(
    "environ",
    [
        {"REQUEST_URI": "/ HTTP/1.1\r\nX: y\r\n\r\n"},
        {"REQUEST_METHOD": "GET /\r\n\r\n"},
        {"HTTP_X": "a\r\nContent-Length: 5"},
        {"CONTENT_TYPE": "a\nb"},
        {"REMOTE_ADDR": "a\r\n\r\nGET / HTTP/1.1"},
        {"HTTP_HOST": "h\0"},
    ],
)
def test_nothing_is_smuggled(environ: dict[str, str]) -> None:
    with pytest.raises(ProtocolError):
        http_upstream.request(environ, 0)


def test_heads() -> None:
    head = http_upstream.request(
        {"REQUEST_METHOD": "POST", "REQUEST_URI": "/a?b", "HTTP_HOST": "h", "HTTP_X_Y": "z", "HTTP_TE": "trailers",
         "HTTP_CONTENT_LENGTH": "5", "HTTP_CONTENT_TYPE": "t/y",
         "CONTENT_TYPE": "t/x", "REMOTE_ADDR": "1.2.3.4", "wsgi.input": object()}, 3,
    )  # fmt: skip
    assert head.decode().split("\r\n") == [
        "POST /a?b HTTP/1.0", "X-Y: z", "Host: h", "Content-Type: t/x", "Content-Length: 3", "Connection: close",
        "X-Forwarded-For: 1.2.3.4", "", "",
    ]  # fmt: skip
    parsed = http_upstream.parse_head(b"HTTP/1.1 204\r\nContent-Length: 5\r\nContent-Length: 5\r\nUpgrade: x\r\nA: b ")
    assert parsed == ("204 ", [("Content-Length", "5"), ("A", "b")], 5)
    for wrong in (
        b"HTTP/2 200",
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nContent-Length: 2",
        b"HTTP/1.0 200 OK\r\n x",
    ):
        with pytest.raises(ProtocolError):
            http_upstream.parse_head(wrong)
