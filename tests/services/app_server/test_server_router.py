"""What uWSGI's http router does, done by the workers: error pages, gzip, variables, redirects, PROXY headers."""

import gzip
import json
import socket

import pytest

from app_server import AppServer
from palatine import config
from palatine.errors import ConfigError
from palatine_app_server.config import settings
from palatine_app_server.config.tls_settings import NamedCertificate
from running import Runner, free_port, run
from secure import PROXY_V2, Certificates, wrapped

APP = """
import json
def more(environ):
    path = environ["PATH_INFO"]
    if path == "/environ":
        return json.dumps({k: v for k, v in environ.items() if isinstance(v, str)}).encode()
    if path == "/raise":
        raise ValueError("in the app")
    return None
plain = application
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path in ("/pack", "/lazy"):
        headers = [("Content-Type", "text/plain"), ("uWSGI-Encoding", "gzip")]
        if environ["QUERY_STRING"]:
            headers.append(("Content-Length", "3000"))
        if path == "/lazy":
            return lazy(start_response, headers)
        start_response("200 OK", headers)
        return [b"abc" * 1000]
    return plain(environ, start_response)
def lazy(start_response, headers):
    start_response("200 OK", headers)
    for _ in range(1000):
        yield b"abc"
"""


def environ(client_reply: bytes) -> dict[str, str]:
    found: dict[str, str] = json.loads(client_reply)
    return found


def test_pages_gzip_and_variables(programs: Runner) -> None:
    (programs.directory / "500.html").write_text("<sorry>")
    server = AppServer(
        programs, "--error-page-500", "/nonexistent", "--error-page-500", str(programs.directory / "500.html"),
        "--error-page-404", str(programs.directory / "500.html"), "--route", "^/gone static:/nonexistent/file",
        "--http-auto-gzip", "--http-var", "COLOUR=blue=green", "--http-server-name-as-http-host", "1",
        "--http-manage-expect=10", "--http-keepalive=5", "--http-modifier1", "0", app=APP,
    )  # fmt: skip
    with server.connect() as client:
        head, body = client.get("/raise")
        assert (head[:12], body) == (b"HTTP/1.1 500", b"<sorry>")
        assert b"Content-Type: text/html" in head
        head, body = client.get("/gone")
        assert (head[:12], body) == (b"HTTP/1.1 404", b"<sorry>")
        for path in ("/pack", "/lazy"):
            head, body = client.get(path, "Accept-Encoding: gzip")
            assert b"Content-Encoding: gzip" in head
            assert gzip.decompress(body) == b"abc" * 1000
            head, body = client.get(path)
            assert b"Content-Encoding" not in head
            assert body == b"abc" * 1000
        head, body = client.get("/pack?length", "Accept-Encoding: gzip")
        assert b"Content-Encoding" not in head
        seen = environ(client.get("/environ")[1])
        assert (seen["COLOUR"], seen["SERVER_NAME"]) == ("blue=green", "h")
        client.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n")
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"0123456789")
        assert client.response()[1] == b"0123456789"
        client.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n")
        assert client.rest().startswith(b"HTTP/1.1 413 ")


def test_redirects_to_https(programs: Runner) -> None:
    secure = Certificates(programs)
    https, port = free_port(), free_port()
    value = secure.value.replace(":0,", f":{https},")
    server = AppServer(programs, listen=("--https", value, "--http-to-https", f"127.0.0.1:{port},{https}"))
    ca = str(secure.authority.pair.certificate)
    location = run("curl", "-sS", "-o/dev/null", "-w%{redirect_url}", f"http://localhost:{port}/pid?x=%20").stdout
    assert location.endswith("/pid?x=%20")
    assert location.startswith(f"https://localhost:{https}/")
    with server.connect(1) as client:
        client.send(b"GET http://other:1/a HTTP/1.1\r\nHost: here:80\r\n\r\nGET /pid HTTP/1.1\r\nHost: h\r\n\r\n")
        answer = client.rest()
    assert answer.count(b"HTTP/1.1 ") == 1
    assert f"Location: https://other:{https}/a\r\n".encode() in answer
    with server.connect(1) as client:  # nobody waits for a body
        client.send(b"POST /a HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000\r\n\r\nbegin")
        assert b"Location: https://here:" in client.until(b"\r\n\r\n")
    with server.connect(1) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a b@c\r\n\r\n")
        assert client.rest().startswith(b"HTTP/1.1 400 ")
    assert server.requests() == 0
    assert run("curl", "-sS", "-L", "--cacert", ca, f"http://localhost:{port}/").stdout == "ok"


def test_proxy_headers(programs: Runner) -> None:
    secure = Certificates(programs)
    server = AppServer(
        programs, "--http-enable-proxy-protocol", "--socket-timeout", "30", app=APP,
        listen=("--https", secure.value, "--http", "127.0.0.1:0", "--http-socket", "127.0.0.1:0"),
    )  # fmt: skip
    request = b"GET /environ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    line = b"PROXY TCP4 192.0.2.7 192.0.2.8 999 80\r\n"
    for introduction in (line, PROXY_V2):
        with server.connect(1) as client:
            client.send(introduction + request)
            seen = environ(client.response()[1])
        assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"]) == ("192.0.2.7", "999")
        with server.connect(1) as client:
            for byte in introduction + request:
                client.send(bytes([byte]))
            assert environ(client.response()[1])["REMOTE_ADDR"] == "192.0.2.7"
    with server.connect(1) as client:
        client.send(request)
        assert environ(client.response()[1])["REMOTE_ADDR"] == "127.0.0.1"
    with server.connect(1) as client:
        client.send(b"PROXY TCP4 nobody 192.0.2.8 999 80\r\n" + request)
        assert client.rest().startswith(b"HTTP/1.1 400 ")
    with server.connect(2) as client:  # a socket of its own, not the router's
        client.send(line + request)
        assert client.rest().startswith(b"HTTP/1.1 400 ")
    server.running.wait_for("192.0.2.7 ()")
    with wrapped(server.address(0), line, secure.context()) as tls:
        tls.sendall(request)
        data = b""
        while piece := tls.recv(65536):
            data += piece
    assert environ(data.partition(b"\r\n\r\n")[2])["REMOTE_ADDR"] == "192.0.2.7"
    with server.connect(0) as client:
        client.send(b"PROXY TCP4 nobody\r\n")
        assert client.rest() == b""


def read(*words: str) -> settings.AppSettings:
    return settings.read(config.load(("--http-socket", ":0", *words), {}, cwd="/"))


def test_times_buffers_and_maps() -> None:
    found = read(
        "--http-timeout", "9", "--http-headers-timeout", "3", "--set", "so-send-timeout=7", "--http-keepalive",
        "--socket-sndbuf", "1000", "--socket-rcvbuf", "2000", "--tcp-fast-open", "5", "--map-socket", "0:1,3",
    )  # fmt: skip
    limits = found.limits
    assert (limits.head_seconds, limits.read_seconds, limits.write_seconds, limits.idle_seconds) == (3, 9, 7, 30)
    assert found.binding.buffers == ((socket.SO_SNDBUF, 1000), (socket.SO_RCVBUF, 2000))
    assert found.binding.flags == ((socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5),)
    assert found.traits[0].workers == (1, 3)
    assert read("--http-keepalive=12").limits.idle_seconds == 12


def test_a_mapped_socket_is_some_workers(programs: Runner) -> None:
    server = AppServer(
        programs, "--map-socket", "0:2", "--map-socket", "1:1", processes=2, listen=("--http-socket", "127.0.0.1:0") * 2
    )
    assert {server.get("/pid", 0) for _ in range(5)} == {str(server.pids()[1]).encode()}
    assert {server.get("/pid", 1) for _ in range(5)} == {str(server.pids()[0]).encode()}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--http-modifier1", "5"), "only Python apps"),
        (("--http-var", "novalue"), "KEY=VALUE"),
        (("--http-var", "wsgi.input=x"), "no name of a request variable"),
        (("--http-to-https", ":80,x"), "an address and perhaps a port"),
        (("--map-socket", "0:a"), "a socket, a colon and workers"),
        (("--https", ":1,c,k", "--set", "ssl-option=x"), "a number"),
        (("--https", ":1,c,k", "--sni", "name"), "certificate,key"),
        (("--https", ":1,c,k", "--sni", "name c,k,ciphers,!ca"), "belongs to the socket"),
        (("--https", ":1,c,k", "--sni-regexp", "( c,k"), "no.* regular expression|not a regular expression"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read(*words)


def test_names_of_certificates() -> None:
    words = ("--https", ":1,c,k", "--sni", "A.example c,k,HIGH", "--sni-dir", "/d", "--ssl-enable-tlsv1")
    extras = read(*words).tls[0].extras
    assert extras.names == (NamedCertificate("a.example", "c", "k", "HIGH"),)
    assert (extras.directory, extras.old_versions) == ("/d", True)
