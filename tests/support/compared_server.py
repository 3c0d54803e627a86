"""Real uWSGI or palatine, started with the same words and the same app, and what becomes of both."""

import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import Final

from running import Runner, Running, free_port, run, session, wait_until

REAL: Final = "uwsgi"
OURS: Final = "palatine"
#: Seconds for something to happen; where it does not, the table shows what is the case then.
PATIENCE: Final = 20.0

APP = """
import os, time
IMPORTED = os.getpid()
HERE = os.path.dirname(os.path.abspath(__file__))

def application(environ, start_response):
    path = environ["PATH_INFO"]
    body = b"hello!!"
    if path == "/raise":
        raise ValueError
    if path == "/sleep":
        time.sleep(30)
    if path == "/pid":
        body = b"%07d" % os.getpid()
    if path == "/imported":
        body = b"%d %d" % (IMPORTED, os.getpid())
    if path == "/names":
        import uwsgi
        seen = (os.environ["GREETING"], uwsgi.numproc, uwsgi.cores, uwsgi.opt["processes"])
        seen += environ["wsgi.multithread"], environ["wsgi.multiprocess"]
        body = " ".join(map(str, seen)).encode()
    if path.startswith("/wait/"):
        name = os.path.join(HERE, path[6:])
        open(name + ".in", "a").close()
        while not os.path.exists(name + ".go"):
            time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
"""


class Contestant:
    """One of the two in a directory of its own; `start` it once."""

    running: Running

    def __init__(self, kind: str, programs: Runner, home: Path) -> None:
        self.kind = kind
        self.home = home
        self.port = free_port()
        self._programs = programs
        home.mkdir(parents=True)
        (home / "app.py").write_text(APP)
        (home / "bad.ini").write_text("[uwsgi]\nno-such-key = 1\n")

    def start(self, *words: str, app: bool = True, wait: bool = True) -> None:
        """Start it with `words`; `wait` until it answers."""
        more = ["--wsgi-file", "app.py"] if app else []
        own = ["--name", self.home.name] if self.kind == OURS else []
        listen = ["--http-socket", f"127.0.0.1:{self.port}"]
        self.running = self._programs.start(*self._program, "--master", *own, *listen, *more, *words, cwd=self.home)
        if wait:
            self.running.wait_for("spawned uWSGI worker")
            wait_until(self.ask, f"an answer: {self.running.output()}")

    def hold(self, client: socket.socket) -> None:
        """Have a request in the app until `outcome`."""
        client.sendall(b"GET /wait/it HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        wait_until((self.home / "it.in").exists, "the request in the app")

    def close(self) -> None:
        """Nothing of it is left."""
        for pid in session(self.running.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.running.process.wait(PATIENCE)

    def once(self, *words: str) -> None:
        """Run it to its end."""
        run(*self._program, *words, cwd=self.home)

    @property
    def _program(self) -> list[str]:
        return ["uwsgi-core", "--plugins", "python3"] if self.kind == REAL else ["palatine-app-server"]

    # ------------------------------------------------------------------ requests

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 30)

    def raw(self, request: bytes) -> bytes:
        """The bytes that come back before the connection ends."""
        with self.connect() as client:
            client.sendall(request)
            return everything(client)

    def get(self, path: str = "/") -> str:
        """The body of an answer; empty without one."""
        return self.ask(path).partition(b"\r\n\r\n")[2].decode()

    def ask(self, path: str = "/", more: bytes = b"") -> bytes:
        """The answer to a GET, whole; empty without one."""
        return self.raw(f"GET {path} HTTP/1.1\r\nHost: h\r\n".encode() + more + b"Connection: close\r\n\r\n")

    def outcome(self, client: socket.socket, wanted: str) -> str:
        """What becomes of the request that `hold` sent; it may go on once the order has had its effect."""
        if "dropped" in wanted:
            client.settimeout(PATIENCE)
        else:
            self.settle()
            (self.home / "it.go").touch()
        try:
            answered = bool(everything(client))
        except TimeoutError:
            return "the request waits"
        return f"the request is {'answered' if answered else 'dropped'}"

    # ------------------------------------------------------------------ the master

    def settle(self) -> None:
        """Wait until the master has slept and been woken once, or cannot any more: it has seen its signals then."""
        before = _sleeps(self.running.pid)
        wait_until(lambda: _sleeps(self.running.pid) != before or self._halted(), "a turn of the master's loop")

    def fate(self, worker: str, wanted: str) -> str:
        """What has become of the master, whose worker was `worker`."""
        seen = ""

        def as_wanted() -> bool:
            nonlocal seen
            seen = self._state(worker)
            return wanted.startswith(seen)

        try:
            wait_until(as_wanted, "it", PATIENCE)
        except AssertionError:
            return seen
        return seen

    def _state(self, worker: str) -> str:
        code = self.running.process.poll()
        if code is not None:
            return f"exits with {code}" if code >= 0 else "is killed"
        if self._halted():
            return "is stopped"
        return "goes on" if self.get("/pid") == worker else "reloads"

    def _halted(self) -> bool:
        """Stopped by a signal, or dead."""
        try:
            return Path(f"/proc/{self.running.pid}/stat").read_text().rpartition(")")[2].split()[0] in "TZ"
        except OSError:
            return True


def everything(client: socket.socket) -> bytes:
    """What arrives until the other side ends the connection."""
    answer = b""
    try:
        while data := client.recv(65536):
            answer += data
    except ConnectionResetError:
        pass
    return answer


def _sleeps(pid: int) -> str:
    """How often a process has gone to sleep so far."""
    try:
        return Path(f"/proc/{pid}/status").read_text().partition("voluntary_ctxt_switches:")[2].split()[0]
    except (OSError, IndexError):
        return ""
