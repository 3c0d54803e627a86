"""FastCGI and SCGI sockets of a running instance: behind nginx, and by hand where a front end would not go."""

import json
import os

from app_server import AppServer
from palatine.codec import fastcgi
from running import Runner, free_port, run, wait_until

APP = """
import json
def more(environ):
    path = environ["PATH_INFO"]
    if path == "/environ":
        return json.dumps({k: v for k, v in environ.items() if isinstance(v, str)}).encode()
    if path.startswith("/big/"):
        return b"x" * int(path[5:])
plain = application
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/file":
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    if path == "/stream":
        start_response("201 Made", [])
        return (b"piece" for _ in range(3))
    if path == "/raise":
        raise ValueError
    return plain(environ, start_response)
"""
NGINX = """
{user} daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off; client_max_body_size 10m; client_body_buffer_size 1m;
    client_body_temp_path {directory}/b; uwsgi_temp_path {directory}/u; proxy_temp_path {directory}/p;
    fastcgi_temp_path {directory}/f; scgi_temp_path {directory}/s;
    server {{
        listen 127.0.0.1:{port};
        location /f/ {{
            rewrite ^/f(.*) $1 break; include /etc/nginx/fastcgi_params;
            fastcgi_param PATH_INFO $fastcgi_script_name; fastcgi_param SCRIPT_NAME ""; fastcgi_keep_conn on;
            fastcgi_pass 127.0.0.1:{fastcgi};
        }}
        location /s/ {{ rewrite ^/s(.*) $1 break; include /etc/nginx/scgi_params; scgi_pass unix:{scgi}; }}
    }}
}}
"""


def test_behind_nginx(programs: Runner) -> None:
    server = AppServer(
        programs, "--limit-post", "200000", app=APP,
        listen=("--fastcgi-socket", "127.0.0.1:0", "--scgi-socket", "scgi.sock"),
    )  # fmt: skip
    port = free_port()
    directory = programs.directory
    (directory / "nginx.conf").write_text(
        NGINX.format(
            user="user root;" if os.geteuid() == 0 else "", directory=directory, port=port,
            fastcgi=server.address()[1], scgi=server.address(1),
        )
    )  # fmt: skip
    nginx = programs.start("nginx", "-p", str(directory), "-c", str(directory / "nginx.conf"))

    def curl(path: str, *options: str) -> str:
        return run("curl", "-sS", *options, f"http://127.0.0.1:{port}{path}").stdout

    wait_until(lambda: "ok" in curl("/f/"), f"nginx: {nginx.output()}")
    (directory / "long").write_text("x" * 150000)
    (directory / "longer").write_text("x" * 200001)
    source = (server.home / "app.py").read_text()
    for where in ("/f", "/s"):
        seen = json.loads(curl(f"{where}/environ?a=1", "-H", "X-Other: 1"))
        assert (seen["PATH_INFO"], seen["QUERY_STRING"], seen["HTTP_X_OTHER"]) == ("/environ", "a=1", "1")
        assert (seen["SCRIPT_NAME"], seen["REMOTE_ADDR"]) == ("", "127.0.0.1")
        assert curl(f"{where}/echo", "--data-binary", f"@{directory}/long") == "x" * 150000
        assert curl(f"{where}/echo", "-H", "Transfer-Encoding: chunked", "-d", "pieces") == "pieces"
        assert len(curl(f"{where}/big/3000000")) == 3_000_000
        assert curl(f"{where}/file") == source
        assert curl(f"{where}/stream", "-w%{http_code}") == "piecepiecepiece201"
        assert curl(f"{where}/raise", "-w%{http_code}") == "Internal Server Error500"
        assert curl(f"{where}/", "-I").startswith("HTTP/1.1 200")
        assert curl(f"{where}/echo", "--data-binary", f"@{directory}/longer", "-w%{http_code}").endswith("413")
    assert "upstream" not in nginx.output()


def test_by_hand(programs: Runner) -> None:
    server = AppServer(
        programs, "--harakiri", "1", app=APP,
        listen=("--fastcgi-socket", "127.0.0.1:0", "--socket", "127.0.0.1:0", "--protocol", "scgi",
                "--scgi-nph-socket", "127.0.0.1:0"),
    )  # fmt: skip

    def begun(path: str, length: str = "") -> bytes:
        pairs = [("PATH_INFO", path), ("CONTENT_LENGTH", length), ("UWSGI_FILE", "/x"), ("wsgi.version", "1")]
        block = b"".join(bytes([len(name), len(value)]) + (name + value).encode() for name, value in pairs)
        records = (fastcgi.record(1, 1, b"\0\1\0\0\0\0\0\0"), fastcgi.record(4, 1, block), fastcgi.record(4, 1, b""))
        return b"".join(records)

    done = fastcgi.end(1)
    with server.connect(0) as client:
        client.send(begun("/environ") + fastcgi.record(5, 1, b""))
        answer = client.rest()
    assert answer.endswith(done)
    assert b"UWSGI_FILE" not in answer
    assert b"wsgi.version" not in answer  # as text
    with server.connect(0) as client:  # it never says so much
        client.send(begun("/echo", "5") + fastcgi.record(5, 1, b"four") + fastcgi.record(5, 1, b""))
        assert b"Status: 400 Bad Request\r\n" in client.until(done)
    with server.connect(0) as client:
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert client.rest() == b""
    with server.connect(1) as client:
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert client.rest() == b""
    with server.connect(1) as client:
        head = b"CONTENT_LENGTH\x005\0PATH_INFO\0/echo\0REQUEST_METHOD\0POST\0"
        client.send(b"%d:%b,hel" % (len(head), head))
        client.send(b"lo")
        answer = client.rest()
    assert answer.startswith(b"Status: 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nhello")
    with server.connect(2) as client:
        client.send(b"17:CONTENT_LENGTH\x000\0,")
        assert client.rest().startswith(b"HTTP/1.0 200 OK\r\n")
    with server.connect(0) as client:
        client.send(begun("/wait/for-ever") + fastcgi.record(5, 1, b""))
        answer = client.rest()
    assert b"Status: 504 Gateway Timeout\r\n" in answer
    assert answer.endswith(done)
