"""What `log-date` puts a date before, and how a signal by the uwsgi protocol is answered: by uWSGI and by us."""

import socket
from collections.abc import Iterator

import pytest

from palatine.codec.uwsgi_packet import PacketHeader, encode_header
from running import Runner, Running, free_port, get, run, runner, wait_until

pytestmark = pytest.mark.interop

APP = """
import sys
import uwsgi
sys.stderr.write("printed at import\\n")
uwsgi.register_signal(7, "worker", lambda number: uwsgi.log("signal %d handled" % number))
def application(environ, start_response):
    if environ["PATH_INFO"] == "/raise":
        raise ValueError("its fault")
    uwsgi.log("by uwsgi.log")
    sys.stderr.write("printed\\n")
    start_response("200 OK", [])
    return [b"ok"]
"""
#: Beginnings of lines, and whether they are dated.
LINES = {
    "printed at import": False,
    "WSGI app 0 (mountpoint='') ready in ": True,
    "spawned uWSGI worker 1 (pid: ": True,
    "by uwsgi.log": True,
    "printed": False,
    "Traceback (most recent call last):": False,
    "ValueError: its fault": False,
    "[pid: ": False,
    "-- unavailable modifier requested: 200 --": True,
    "signal 7 handled": True,
}
SERVERS = {"uWSGI": ("uwsgi-core", "--plugins", "python3,signal"), "palatine": ("palatine-app-server",)}


class Server:
    """One of them, told to date its lines with `27!`."""

    def __init__(self, programs: Runner, *words: str) -> None:
        app = programs.directory / "app.py"
        app.write_text(APP)
        self.http, self.uwsgi = free_port(), free_port()
        self.running: Running = programs.start(
            *words, "--master", "--log-date=27!", "--wsgi-file", str(app),
            "--http-socket", f"127.0.0.1:{self.http}", "--socket", f"127.0.0.1:{self.uwsgi}",
        )  # fmt: skip
        url = f"http://127.0.0.1:{self.http}/"
        wait_until(lambda: run("curl", "-s", url, check=False).stdout == "ok", "the server", 30)
        run("curl", "-s", f"{url}raise", check=False)

    def say(self, modifier1: int, modifier2: int) -> bytes:
        """The answer to a packet without variables."""
        with socket.create_connection(("127.0.0.1", self.uwsgi), 30) as peer:
            peer.sendall(encode_header(PacketHeader(modifier1, 0, modifier2)))
            answer = b""
            while piece := peer.recv(100):
                answer += piece
        return answer


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with runner(tmp_path_factory.mktemp("dated")) as programs:
        yield Server(programs, *SERVERS[request.param])


def test_a_signal_by_packet_is_answered_and_handled(server: Server) -> None:
    assert server.say(110, 7) == b"\xff\0\0\1"
    server.running.wait_for("signal 7 handled")
    assert server.say(110, 9) == b"\xff\0\0\1"  # nobody handles it: that is the log's affair
    server.running.wait_for("signal 9")
    assert get(f"http://127.0.0.1:{server.http}/") == "ok"


def test_the_servers_own_lines_are_dated(server: Server) -> None:
    assert server.say(200, 0) == b""
    server.say(110, 7)
    for line, dated in LINES.items():
        lines = server.running.wait_for(line).split("\n")
        found = {each.startswith("27! - ") for each in lines if each.removeprefix("27! - ").startswith(line)}
        assert found == {dated}, line
