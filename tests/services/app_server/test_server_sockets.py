"""Every kind of socket and protocol of one running instance, and nginx in front of it."""

import json
import os
import re
import socket
import urllib.request
from pathlib import Path

import pytest

from app_server import AppServer, alive
from running import Runner, children, free_port, get, run, wait_until
from worker_inside import Client, packet

ENVIRON_APP = """
import json
def more(environ):
    if environ["PATH_INFO"].startswith("/environ"):
        return json.dumps({k: v for k, v in environ.items() if isinstance(v, str)}).encode()
"""

NGINX = """
{user} daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off; client_max_body_size 10m; client_body_buffer_size 1m;
    client_body_temp_path {directory}/b; uwsgi_temp_path {directory}/u; proxy_temp_path {directory}/p;
    fastcgi_temp_path {directory}/f; scgi_temp_path {directory}/s;
    upstream kept {{ server 127.0.0.1:{http}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port};
        location /tcp/ {{ rewrite ^/tcp(.*) $1 break; include /etc/nginx/uwsgi_params; uwsgi_pass 127.0.0.1:{uwsgi}; }}
        location /unix/ {{
            rewrite ^/unix(.*) $1 break; include /etc/nginx/uwsgi_params; uwsgi_param UWSGI_SCHEME https;
            uwsgi_pass unix:{path};
        }}
        location /http/ {{
            rewrite ^/http(.*) $1 break; proxy_pass http://kept; proxy_http_version 1.1; proxy_set_header Connection "";
        }}
    }}
}}
"""


def test_all_kinds_of_sockets_at_once(programs: Runner) -> None:
    inherited = socket.socket()
    inherited.bind(("127.0.0.1", 0))
    fd = inherited.fileno()
    name = f"palatine-{os.getpid()}"
    server = AppServer(
        programs,
        app=ENVIRON_APP,
        listen=(
            "--http-socket", "127.0.0.1:0", "--http-socket", "[::1]:0", "--http-socket", "http.sock",
            "--http-socket", f"@{name}-http", "--http-socket", f"fd://{fd}",
            "--socket", "127.0.0.1:0", "--uwsgi-socket", "uwsgi.sock", "--socket", f"@{name}-uwsgi",
            "--chmod-socket=600", "--vacuum",
        ),
        pass_fds=[fd],
    )  # fmt: skip
    port = inherited.getsockname()[1]
    inherited.close()
    for number in range(5):
        assert server.get(number=number) == b"ok"
        environ = json.loads(server.get("/environ", number))
        tcp = number in {0, 1, 4}
        address = server.address(number)
        assert environ["SERVER_PORT"] == (str(address[1]) if tcp else "80")
        assert environ["REMOTE_ADDR"] == ("::1" if number == 1 else "127.0.0.1" if tcp else "0.0.0.0")
    assert server.address(4) == ("127.0.0.1", port)
    for number in range(5, 8):
        with server.connect(number) as client:
            client.send(packet({"REQUEST_METHOD": "GET", "PATH_INFO": "/", "REQUEST_URI": "/"}))
            assert client.rest() == b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nok"
        with server.connect(number) as client:
            client.send(b"d\0\0\0")
            assert client.rest() == b"d\0\0\1"
    assert (server.home / "http.sock").stat().st_mode & 0o777 == 0o600
    assert len(server.read("sockets")) == 8
    assert f"uwsgi socket 3 bound to UNIX address @{name}-http fd " in server.running.output()
    assert server.running.stop() == 0
    assert not list(server.home.glob("*.sock"))
    for address in (("127.0.0.1", port), "\0" + f"{name}-http"):
        with pytest.raises(ConnectionRefusedError):
            Client(address)


def test_a_link_does_not_hold_the_sockets(programs: Runner) -> None:
    """What is inherited (systemd, an outer fd) is inherited by the master and its workers only."""
    inherited = socket.socket()
    inherited.bind(("127.0.0.1", 0))
    inherited.listen(10)
    fd = inherited.fileno()
    server = AppServer(programs, listen=("--http-socket", f"fd://{fd}"), pass_fds=[fd])
    wait_until(lambda: server.link() and alive(server.link()), "the link")
    inode = os.stat(f"/proc/{server.pid}/fd/{fd}").st_ino
    inherited.close()

    def holders() -> set[int]:
        found = set()
        for pid in [server.pid, *children(server.pid)]:
            entries = Path(f"/proc/{pid}/fd").iterdir()
            if any(os.stat(entry).st_ino == inode for entry in entries if entry.exists()):
                found.add(pid)
        return found

    wait_until(lambda: holders() == {server.pid, server.zygote(), *server.pids()}, "the holders")


@pytest.mark.interop
def test_nginx_in_front(programs: Runner) -> None:
    server = AppServer(
        programs, "--harakiri", "1", "--post-buffering", "4096", app=ENVIRON_APP, processes=2,
        listen=("--http-socket", "127.0.0.1:0", "--socket", "127.0.0.1:0", "--socket", "uwsgi.sock", "--chmod-socket"),
    )  # fmt: skip
    directory = programs.directory / "nginx"
    directory.mkdir()
    port = free_port()
    (directory / "nginx.conf").write_text(
        NGINX.format(
            directory=directory, port=port, http=server.address(0)[1], uwsgi=server.address(1)[1],
            path=server.home / "uwsgi.sock", user="" if os.geteuid() else "user root;",
        )
    )  # fmt: skip
    programs.start("nginx", "-p", str(directory), "-c", str(directory / "nginx.conf"))
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: get(f"{url}/tcp/") == "ok", "nginx")
    body = os.urandom(300_000)
    for way in ("tcp", "unix", "http"):
        for _ in range(3):
            assert get(f"{url}/{way}/") == "ok"
        request = urllib.request.Request(f"{url}/{way}/echo", data=body, headers={"Content-Type": "x/y"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.read() == body
        environ = json.loads(get(f"{url}/{way}/environ/a%20b?c=d", "-H", "X-Own: 1"))
        assert environ["PATH_INFO"] == "/environ/a b"
        assert environ["QUERY_STRING"] == "c=d"
        assert environ["HTTP_X_OWN"] == "1"
        assert environ["REMOTE_ADDR"] == "127.0.0.1"
        head = run("curl", "-sS", "-I", f"{url}/{way}/").stdout
        assert head.startswith("HTTP/1.1 200 OK")
        slow = run("curl", "-sS", "-i", "-m", "10", f"{url}/{way}/wait/never").stdout
        assert slow.startswith("HTTP/1.1 504 ")
        server.wait_ready()
    assert '"UWSGI_SCHEME": "https"' in get(f"{url}/unix/environ")


@pytest.mark.interop
def test_the_protocol_is_answered_as_uwsgi_answers_it(programs: Runner) -> None:
    """Packets to a real uWSGI and to us: the same bytes back, and the same lines in the log."""
    (programs.directory / "app").mkdir()
    ours = AppServer(programs, listen=("--socket", "127.0.0.1:0"))
    port = free_port()
    theirs = programs.start(
        "uwsgi-core", "--plugin", "python3", "--master", "--socket", f"127.0.0.1:{port}",
        "--wsgi-file", str(ours.home / "app.py"),
    )  # fmt: skip
    get_ok = packet({"REQUEST_METHOD": "GET", "PATH_INFO": "/", "REQUEST_URI": "/", "SERVER_PROTOCOL": "HTTP/1.1"})
    wait_until(lambda: talk(("127.0.0.1", port), get_ok), "the real uwsgi")
    for data in (
        get_ok,
        packet({"REQUEST_METHOD": "HEAD", "PATH_INFO": "/", "REQUEST_URI": "/", "SERVER_PROTOCOL": "HTTP/1.1"}),
        packet({"REQUEST_METHOD": "POST", "PATH_INFO": "/echo", "CONTENT_LENGTH": "5"}, body=b"hello"),
        packet({"REQUEST_METHOD": "POST", "PATH_INFO": "/echo", "CONTENT_LENGTH": "5"}, body=b"hello and more"),
        packet({"REQUEST_METHOD": "GET", "PATH_INFO": "/", "CONTENT_LENGTH": ""}),
        packet({}),
        packet({"A": "b"}, 7),
        b"\0\5\0\0\0\0\1\0b",
    ):
        assert talk(ours.address(), data) == talk(("127.0.0.1", port), data), data
    for line in ("Empty python request. skip.", "-- unavailable modifier requested: 7 --"):
        for log in (ours.running, theirs):
            assert re.search(f"^{re.escape(line)}$", log.output(), re.MULTILINE), line


def talk(address: tuple[str, int], data: bytes) -> bytes:
    with Client(address) as client:
        client.send(data)
        return client.rest()


def slow_clients(server: AppServer, count: int, data: bytes) -> list[Client]:
    clients = [server.connect() for _ in range(count)]
    for client in clients:
        client.send(data)
    return clients


@pytest.mark.parametrize(("processes", "threads"), [(1, 1), (2, 2)])
def test_slowloris(programs: Runner, processes: int, threads: int) -> None:
    """Hundreds of half requests; whoever asks a whole one is served as if they were not there."""
    server = AppServer(programs, "--http-timeout", "1", processes=processes, threads=threads)
    slow = slow_clients(server, 300, b"GET / HTTP/1.1\r\nHost: h\r\nX-")
    slow += slow_clients(server, 100, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nx")
    for _ in range(40):
        assert server.get() == b"ok"
    for client in slow[:3]:
        assert client.rest() == b""  # their time is over
    for client in slow:
        client.socket.close()


def test_more_clients_than_descriptors(programs: Runner) -> None:
    """A worker that runs out gives up the idle for who comes, and does not spin."""
    app = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))"
    server = AppServer(programs, app=app)
    idle = [server.connect() for _ in range(60)]
    for client in idle:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.response()[1] == b"ok"
    for _ in range(10):
        assert server.get() == b"ok"
    for client in idle:
        client.socket.close()
    silent = [server.connect() for _ in range(60)]
    for client in silent:
        client.send(b"G")
    assert server.get() == b"ok"
    for client in silent:
        client.socket.close()
    assert server.running.process.poll() is None


def test_kept_connections_come_to_workers_with_time(programs: Runner) -> None:
    """More kept connections than threads, and a request that lasts: nobody waits behind it."""
    server = AppServer(programs, processes=2, threads=1)
    kept = [server.connect() for _ in range(6)]
    for client in kept:
        client.get()
    with server.connect() as busy:
        busy.send(b"GET /wait/it HTTP/1.1\r\nHost: h\r\n\r\n")
        server.entered("it")
        stuck = 0
        for client in kept:
            client.send(b"GET /pid HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        for _ in range(10):  # new ones are taken by the other worker at once
            assert server.get() == b"ok"
        server.let("it")
        for client in kept:
            assert client.response()[1].isdigit()
            client.socket.close()
            stuck += 1
        assert stuck == 6
        assert busy.response()[1] == b"ok"


def test_a_full_listen_queue_is_the_kernels(programs: Runner) -> None:
    """A worker accepts only what it can serve, so that `listen_queue` means what it says."""
    server = AppServer(programs, "--listen", "50")
    with server.connect() as busy:
        busy.send(b"GET /wait/it HTTP/1.1\r\nHost: h\r\n\r\n")
        server.entered("it")
        waiting = slow_clients(server, 10, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until(lambda: server.read("sockets")[0]["queue"] == 10, "ten in the queue")
        assert server.server()["listen_queue"] == 10
        wait_until(lambda: server.read("sockets")[0]["queued_time"] >= 10_000_000, "ten seconds waited, one by each")
        server.let("it")
        for client in waiting:
            assert client.response()[1] == b"ok"
            client.socket.close()
        wait_until(lambda: server.read("sockets")[0]["queue"] == 0, "an empty queue")


def test_early_disconnects(programs: Runner) -> None:
    app = """
    def application(environ, start_response):
        if environ["PATH_INFO"] == "/stream":
            start_response("200 OK", [])
            return (b"x" * 65536 for _ in range(10_000))
        start_response("200 OK", [])
        return [b"ok"]
    """
    server = AppServer(programs, app=app, threads=2)
    for _ in range(5):
        with server.connect() as client:
            client.send(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
            client.until(b"xxxx")
    assert server.get() == b"ok"
    wait_until(lambda: sum(row["write_errors"] for row in server.read("cores")) == 5, "five write errors")
    assert sum(row["exceptions"] for row in server.read("cores")) == 0
    assert server.get() == b"ok"
