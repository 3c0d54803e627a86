"""Options about responses and about loading that few configs have: on running instances, a few of them at once."""

import os
import socket
import textwrap
import zlib

import pytest

from app_server import AppServer
from palatine import config
from palatine.errors import ConfigError
from palatine_app_server.config import settings
from running import Runner, run
from worker_inside import packet

APP = """
import io
plain = application
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/headers":
        start_response("200 OK", [("X-Kept", "one"), ("X-Pulled", "two"), ("Content-Length", "2")])
        return [memoryview(b"ok")]
    if path == "/number":
        start_response("200 OK", [("X-Kept", 1)])
    if path == "/long":
        start_response("200 OK", [("X-Long", "x" * 2000)])
        return [b"long"]
    if path == "/buffers":
        write = start_response("200 OK", [("Content-Length", "9")])
        return (bytearray(b"abc") for _ in range(3))
    if path == "/wrapper":
        start_response("200 OK", [])
        return [str(environ.get("wsgi.file_wrapper", "none")).encode()]
    if path == "/file":
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    if path == "/early":
        start_response("200 OK", [("X-App", "1")])
        return early()
    if path == "/flood":
        write = start_response("200 OK", [])
        done = 0
        for _ in range(200):
            write(b"x" * 1000000)
            done += 1
        print("wrote", done, flush=True)
        return []
    return plain(environ, start_response)
def early():
    while not os.path.exists(os.path.join(HERE, "body.go")):
        time.sleep(0.01)
    yield b"later"
def more(environ):
    if environ["PATH_INFO"] == "/vars":
        return repr(sorted(key for key in environ if key.startswith("UWSGI_"))).encode()
"""


def body(server: AppServer, path: str, *options: str) -> str:
    host, port = server.address()
    return run("curl", "-sS", *options, f"http://{host}:{port}{path}").stdout


def test_responses(programs: Runner) -> None:
    server = AppServer(
        programs, "--collect-header", "X-Kept KEPT", "--pull-header", "x-pulled PULLED", "--wsgi-accept-buffer",
        "--response-headers-limit", "1000", "--disable-sendfile", "--start_response-nodelay",
        "--disable-write-exception", "--log-format", "%(uri) %(var.KEPT) %(var.PULLED)", app=APP,
        listen=("--http-socket", "127.0.0.1:0", "--socket", "127.0.0.1:0", "--allow-uwsgi-variables"),
    )  # fmt: skip
    with server.connect() as client:
        head, data = client.get("/headers")
        assert data == b"ok"
        assert b"X-Kept: one\r\n" in head
        assert b"Pulled" not in head
        assert client.get("/buffers")[1] == b"abcabcabc"
        assert client.get("/long")[0].startswith(b"HTTP/1.1 500 ")
        assert client.get("/number")[0].startswith(b"HTTP/1.1 500 ")
    server.running.wait_for("/headers one two")
    server.running.wait_for("/number - -")
    assert server.read("slots")[0]["respawn_count"] == 1
    assert "ReadingFileWrapper" in body(server, "/wrapper")
    assert body(server, "/file") == (server.home / "app.py").read_text()
    server.running.wait_for("/file - -\n")
    with server.connect() as client:
        client.send(b"GET /early HTTP/1.1\r\nHost: h\r\n\r\n")
        head = client.until(b"\r\n\r\n")  # before there is a body
        assert b"X-App: 1" in head
        server.let("body")
        assert b"later" in client.until(b"0\r\n\r\n")
    with server.connect() as client:
        client.send(b"GET /flood HTTP/1.0\r\n\r\n")
        client.until(b"\r\n\r\n")
    server.running.wait_for("wrote 200")
    with server.connect(1) as client:
        client.send(packet({"PATH_INFO": "/vars", "UWSGI_FILE": "/etc/passwd", "UWSGI_SCHEME": "https"}))
        assert b"['UWSGI_FILE', 'UWSGI_SCHEME']" in client.rest()
    with server.connect(1) as client:
        client.send(packet({"PATH_INFO": "/file", "wsgi.version": "1", "wsgi.file_wrapper": "none"}))
        assert b"import" in client.rest()


def test_caches_filled_from_the_start(programs: Runner) -> None:
    (programs.directory / "page").write_text("a page")
    page = programs.directory / "page"
    server = AppServer(
        programs, "--cache2", "name=one,items=10", "--cache2", "name=two,items=10", "--check-cache=one",
        "--add-cache-item", "two greeting=hello=you", "--add-cache-item", "both=here",
        "--add-cache-item", "two nothing",
        "--load-file-in-cache", f"two {page}", "--load-file-in-cache-gzip", f"one {page}",
        "--load-file-in-cache", "two /nonexistent", "--wsgi-disable-file-wrapper", "--py-sharedarea", "5000",
        "--add-cache-item", "one /kept?a=HTTP/1.0 200 Fine\r\nX-Kept: 1\r\n\r\nkept", app=APP + textwrap.dedent("""
            asked = more
            def more(environ):
                path = environ["PATH_INFO"]
                if path.startswith("/cached/"):
                    key, name = environ["QUERY_STRING"].split("&")
                    return uwsgi.cache_get(key, name) or b"nothing"
                if path == "/area":
                    return str(len(uwsgi.sharedarea_memoryview(0))).encode()
                return asked(environ)
        """),
    )  # fmt: skip
    output = server.running.output()
    for line in (
        '[cache] stored "greeting" in "two"', '[cache] stored "both" in "one"', "[cache] unable to store item nothing",
        '[cache-error] unable to read file "/nonexistent"',
    ):  # fmt: skip
        assert line in output
    assert body(server, "/cached/?greeting&two") == "hello=you"
    assert body(server, "/cached/?both&one") == body(server, "/cached/?both&two") == "here"
    assert body(server, f"/cached/?{page}&two") == "a page"
    host, port = server.address()
    packed = programs.directory / "packed"
    run("curl", "-sS", f"http://{host}:{port}/cached/?{page}&one", "-o", str(packed))
    assert zlib.decompress(packed.read_bytes(), 31) == b"a page"
    kept = body(server, "/kept?a", "-i")
    assert kept.startswith("HTTP/1.1 200 Fine\nX-Kept: 1\n")
    assert kept.endswith("\n\nkept")
    assert body(server, "/kept?a", "-d", "x") == "ok"  # of a GET only
    assert body(server, "/wrapper") == "none"
    assert body(server, "/area") == "5000"


def test_the_threads_of_a_worker(programs: Runner) -> None:
    server = AppServer(programs, "--py-tracebacker", "tb", threads=2, app=APP)
    server.running.wait_for("python tracebacker for worker 1 available on tb1")
    with server.connect() as client:
        client.send(b"GET /wait/here HTTP/1.1\r\nHost: h\r\n\r\n")
        server.entered("here")
        told = run("palatine", "--connect-and-read", str(server.home / "tb1")).stdout
        server.let("here")
        client.response()
    assert told.startswith("*** uWSGI Python tracebacker output ***\n\nthread_id = ")
    assert "function = application line = time.sleep(0.01)" in told
    assert os.stat(server.home / "tb1").st_mode & 0o777 == 0o600


def test_a_script_in_place_of_the_worker(programs: Runner) -> None:
    (programs.directory / "worker.py").write_text("""
import socket, uwsgi
listener = socket.socket(fileno=uwsgi.sockets[0])
listener.setblocking(True)
while True:
    peer, _ = listener.accept()
    peer.recv(1000)
    peer.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nscript " + str(uwsgi.worker_id()).encode())
    peer.close()
""")
    server = AppServer(programs, "--python-worker-override", str(programs.directory / "worker.py"))
    assert body(server, "/") == "script 1"


PASTE = """
[loggers]
keys = root
[handlers]
keys = err
[formatters]
keys = form
[logger_root]
level = INFO
handlers = err
[handler_err]
class = StreamHandler
args = (sys.stderr,)
formatter = form
[formatter_form]
format = LOGGED %(message)s
"""


def test_logging_of_a_paste_file_comes_first(programs: Runner) -> None:
    (programs.directory / "paste.ini").write_text(PASTE)
    fake = programs.directory / "paste"
    fake.mkdir()
    (fake / "__init__.py").write_text("")
    (fake / "deploy.py").write_text(
        "import logging\ndef loadapp(uri):\n    logging.getLogger('x').info('from %s', uri)\n"
        "    return lambda e, s: (s('200 OK', []), [b'pasted'])[1]\n"
    )
    late = programs.directory / "late.py"
    late.write_text("VALUE = 7\n")
    running = programs.start(
        "palatine-app-server", "--master", "--name", "app", "--http-socket", "127.0.0.1:0", "--ini-paste-logged",
        "paste.ini", "--pythonpath", str(programs.directory), "--post-pymodule-alias", f"aliased={late}",
        cwd=programs.directory,
    )  # fmt: skip
    running.wait_for("LOGGED from config:paste.ini")


def test_trying_an_import(programs: Runner) -> None:
    (programs.directory / "good.py").write_text("import json\n")
    (programs.directory / "bad.py").write_text("import no_such_module\n")
    words = ("--pythonpath", str(programs.directory), "--test")
    assert run("palatine-app-server", *words, "good").returncode == 0
    failed = run("palatine-app-server", *words, "bad", check=False)
    assert failed.returncode == 1
    assert "No module named 'no_such_module'" in failed.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--collect-header", "X-Only"), "a header, a space and a variable's name"),
        (("--pull-header", "X a.b"), "a header, a space and a variable's name"),
        (("--check-cache=none",), 'unable to find cache "none"'),
    ],
)
def test_what_is_refused(words: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        settings.read(config.load(("--http-socket", ":0", *words), {}, cwd="/"))


def test_uwsgi_variables_are_not_taken_unasked(programs: Runner) -> None:
    server = AppServer(programs, app=APP, listen=("--socket", "127.0.0.1:0"))
    with socket.create_connection(server.address(), 30) as client:
        client.sendall(packet({"PATH_INFO": "/vars", "UWSGI_FILE": "/etc/passwd", "UWSGI_SCHEME": "https"}))
        data = b""
        while piece := client.recv(65536):
            data += piece
    assert data.endswith(b"['UWSGI_SCHEME']")
