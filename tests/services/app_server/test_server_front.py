"""Several apps, static files and headers of a running instance, over HTTP and behind the uwsgi protocol."""

import os

from app_server import AppServer
from running import Runner, get, run, wait_until
from worker_inside import packet

OTHER = """
def application(environ, start_response):
    start_response("200 OK", [("Server", "mine")])
    return [("%s|%s|" % (environ["SCRIPT_NAME"], environ["PATH_INFO"])).encode() + NAME]
NAME = b"other"
class Holder:
    pass
def make():
    return application
def broken(environ, start_response):
    raise ValueError("in the app")
"""


def other(programs: Runner, name: str = "other.py") -> str:
    path = programs.directory / "app" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(OTHER)
    return path.stem


def url(server: AppServer, path: str) -> str:
    host, port = server.address()
    return f"http://{host}:{port}{path}"


def test_several_apps(programs: Runner) -> None:
    other(programs)
    other(programs, "third.wsgi")
    server = AppServer(
        programs, "--mount", "/a=other.py", "--mount", "/b=other:make()", "--mount", "/c=third.wsgi",
        "--mount", "/d=other:broken", "--manage-script-name", "--add-header", "X-All: yes", "--del-header", "Server",
        "--catch-exceptions", threads=2,
    )  # fmt: skip
    assert get(url(server, "/")) == "ok"
    assert get(url(server, "/a")) == "/a||other"
    assert get(url(server, "/b/x/y")) == "/b|/x/y|other"
    assert get(url(server, "/c/")) == "/c|/|other"
    seen = run("curl", "-sSi", url(server, "/a")).stdout
    assert "X-All: yes" in seen
    assert "Server:" not in seen
    assert "ValueError: in the app\n" in run("curl", "-sS", url(server, "/d")).stdout
    output = server.running.wait_for("GET /d")
    assert "mounting other:make() on /b\n" in output
    assert "WSGI app 0 (mountpoint='') ready in 0 seconds" in output
    assert "WSGI app 3 (mountpoint='/c') ready in 0 seconds" in output
    assert "|app: 1|req: 2/" in output
    by_app = [sum(row["requests"] for row in server.read("apps")[app::5]) for app in range(5)]
    assert by_app == [1, 2, 1, 1, 1]
    assert sum(row["exceptions"] for row in server.read("apps")[4::5]) == 1


def test_no_default_app_and_eval(programs: Runner) -> None:
    other(programs)
    code = "application = lambda environ, start: start('200 OK', []) and () or [b'evaluated']"
    server = AppServer(programs, "--wsgi-file=", "--eval", code, "--mount", "/a=other.py", "--manage-script-name")
    assert get(url(server, "/")) == "evaluated"
    assert get(url(server, "/a")) == "/a||other"
    with server.connect() as client:
        assert client.get("/nobody")[1] == b"evaluated"


def test_the_first_app_is_the_default_and_a_broken_one_spares_the_others(programs: Runner) -> None:
    other(programs)
    server = AppServer(programs, "--mount", "/a=other.py", "--manage-script-name", app="raise ValueError('broken')")
    assert get(url(server, "/a/x")) == "/a|/x|other"
    assert get(url(server, "/x")) == "|/x|other"
    output = server.running.output()
    assert "WSGI app 0 (mountpoint='/a') ready in 0 seconds on interpreter" in output
    assert "(default app)\n" in output
    # the app's error, and nothing of how it was found
    begun = 'Traceback (most recent call last):\n  File "' + str(server.home / "app.py")
    assert begun in output
    assert "unable to load app 0 (mountpoint='') (ValueError: broken)\n" in output


def test_where_no_app_is_at_home(programs: Runner) -> None:
    other(programs)
    server = AppServer(programs, "--wsgi-file=", "--mount", "/a=other.py", "--manage-script-name", "--no-default-app")
    assert get(url(server, "/a")) == "/a||other"
    seen = run("curl", "-sSi", url(server, "/x")).stdout
    assert seen.startswith("HTTP/1.1 500 Internal Server Error\nContent-Type: text/plain\n")
    assert seen.endswith("\n\nInternal Server Error")
    server.running.wait_for("--- no python application found, check your startup logs for errors ---")
    assert "|app: -1|req: -1/2]" in server.running.wait_for("GET /x")


def test_static_files(programs: Runner) -> None:
    www = programs.directory / "www"
    (www / "sub").mkdir(parents=True)
    (www / "a.css").write_text("0123456789")
    (www / "sub" / "index.html").write_text("<index>")
    (programs.directory / "secret").write_text("secret")
    big = os.urandom(3_000_000)
    (www / "big.bin").write_bytes(big)
    server = AppServer(
        programs, "--static-map", f"/static={www}", "--static-index", "index.html", "--static-expires-type",
        "text/css=60", "--add-header", "X-All: yes", "--threads", "2",
        listen=("--http-socket", "127.0.0.1:0", "--socket", "127.0.0.1:0"),
    )  # fmt: skip
    assert get(url(server, "/static/a.css")) == "0123456789"
    assert get(url(server, "/static/a.css"), "-r", "2-4") == "234"
    assert get(url(server, "/static/sub/")) == "<index>"
    assert get(url(server, "/elsewhere")) == "ok"
    for path in ("/static/../secret", "/static/%2e%2e/secret", "/static/sub/..%2f../../secret"):
        assert run("curl", "-sS", "--path-as-is", url(server, path)).stdout == "ok"  # the app's
    seen = run("curl", "-sSI", url(server, "/static/a.css")).stdout
    assert seen.startswith("HTTP/1.1 200 OK\n")
    for header in ("Content-Length: 10", "Content-Type: text/css", "Last-Modified: ", "Expires: ", "X-All: yes"):
        assert header in seen
    assert (
        run(
            "curl", "-sS", "-z", str(www / "a.css"), "-o/dev/null", "-w%{http_code}", url(server, "/static/a.css")
        ).stdout
        == "304"
    )
    received = programs.directory / "received"
    run("curl", "-sS", "-o", str(received), url(server, "/static/big.bin"))
    assert received.read_bytes() == big
    for method in ("GET", "HEAD"):
        with server.connect(1) as client:
            variables = {"REQUEST_METHOD": method, "PATH_INFO": "/static/a.css", "REQUEST_URI": "/static/a.css"}
            client.send(packet(variables))
            head, _, body = client.rest().partition(b"\r\n\r\n")
            assert b"Content-Length: 10" in head
            assert body == (b"0123456789" if method == "GET" else b"")
    output = server.running.wait_for("HEAD /static/a.css")
    assert f"security error: {programs.directory}/secret is not under {www}" in output
    assert "|app: -1|req: -1/" in output
    assert sum(row["static_requests"] for row in server.read("cores")) >= 8
    assert sum(row["requests"] for row in server.read("apps")) == 4


def test_slow_readers_of_files_hold_no_thread(programs: Runner) -> None:
    www = programs.directory / "www"
    www.mkdir()
    (www / "big.bin").write_bytes(bytes(20_000_000))
    server = AppServer(programs, "--static-map", f"/static={www}", "--socket-timeout", "30")
    slow = [server.connect() for _ in range(3)]
    try:
        for client in slow:
            client.send(b"GET /static/big.bin HTTP/1.1\r\nHost: h\r\n\r\n")
            client.until(b"\r\n\r\n")
        assert server.get("/") == b"ok"
        for client in slow:
            assert len(client.until_length(20_000_000)) == 20_000_000
    finally:
        for client in slow:
            client.socket.close()
    wait_until(lambda: server.requests() == 4, "all counted")
