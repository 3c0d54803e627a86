"""Real uWSGI and palatine with the same words and the same app: one table of what is seen from outside.

Each row says what is expected of uWSGI, and of us where that is another thing on purpose, and why. docs/compared.md is
this table; `python tests/interop/test_compared.py` prints it. Behaviour of requests: test_comparison.py.
"""

import contextlib
import os
import re
import signal
import socket
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))  # also as a program

from compared_server import OURS, PATIENCE, REAL, Contestant
from running import Runner, runner, wait_until

pytestmark = pytest.mark.interop

PAGE = Path(__file__).parents[2] / "docs" / "compared.md"
#: Scenarios wait more than they work.
AT_ONCE = 4


class Row(NamedTuple):
    """One behaviour: `see` makes it happen, with what is expected at hand, and says in words what was seen."""

    section: str
    topic: str
    see: Callable[[Contestant, str], str]
    uwsgi: str
    ours: str = ""  # where it is not the same
    why: str = ""

    def wanted(self, kind: str) -> str:
        return self.ours or self.uwsgi if kind == OURS else self.uwsgi


# ---------------------------------------------------------------------- what can be seen


def told(number: int, *words: str) -> Callable[[Contestant, str], str]:
    """What becomes of the master and of a request being served when the master gets a signal."""

    def see(server: Contestant, wanted: str) -> str:
        server.start("--processes", "1", *words)
        worker = server.get("/pid")
        with server.connect() as client:
            server.hold(client)
            server.running.send(number)
            served = server.outcome(client, wanted)
        return f"{server.fate(worker, wanted)}; {served}"

    return see


def fifo(letter: str) -> Callable[[Contestant, str], str]:
    """The same by a letter through the master FIFO."""

    def see(server: Contestant, wanted: str) -> str:
        path = server.home / "fifo"
        server.start("--processes", "1", "--master-fifo", str(path))
        worker = server.get("/pid")
        with server.connect() as client:
            server.hold(client)
            path.write_text(letter)
            served = server.outcome(client, wanted)
        return f"{server.fate(worker, wanted)}; {served}"

    return see


def paused(server: Contestant, wanted: str) -> str:
    del wanted
    server.start("--processes", "1")
    server.get()
    server.running.send(signal.SIGTSTP)
    server.running.wait_for("*** PAUSE")
    server.settle()
    with server.connect() as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        client.settimeout(0.3)
        try:
            seen = "answered in the pause" if client.recv(9) else "closed in the pause"
        except TimeoutError:
            seen = "a connection waits"
        server.running.send(signal.SIGTSTP)
        client.settimeout(30)
        return f"{seen}, then {'is answered' if client.recv(9) else 'is closed'}"


def ends(*words: str, app: bool = True) -> Callable[[Contestant, str], str]:
    """The exit code of a start that cannot succeed."""

    def see(server: Contestant, wanted: str) -> str:
        del wanted
        server.start(*words, app=app, wait=False)
        return f"exits with {server.running.wait(30)}"

    return see


def taken_port(server: Contestant, wanted: str) -> str:
    del wanted
    with socket.create_server(("127.0.0.1", server.port)):
        server.start(wait=False)
        return f"exits with {server.running.wait(30)}"


def answers(path: str, *words: str, app: bool = True, head: bytes = b"") -> Callable[[Contestant, str], str]:
    """What one request gets, and the last word of the log about it."""

    def see(server: Contestant, wanted: str) -> str:
        del wanted
        server.start(*words, app=app)
        return first_line(server.ask(path, head))

    return see


def lines(topic: str, *texts: str, words: tuple[str, ...] = (), do: str = "", section: str = "") -> Row:
    """A row of log lines: all of `texts` are to be there, in any order."""

    def see(server: Contestant, wanted: str) -> str:
        server.start("--processes", "1" if do == "stop" else "2", *words)  # uWSGI's may miss an early signal
        worker = int(server.get("/pid"))
        if do == "kill":
            os.kill(worker, signal.SIGKILL)
        elif do == "reload":
            server.running.send(signal.SIGHUP)
        elif do == "sleep":
            server.get("/sleep")
        elif do == "stop":
            server.running.stop(signal.SIGINT)
        elif do == "requests":
            for _ in range(6):
                server.get()

        def seen() -> str:
            said = {plain(line) for line in server.running.output().split("\n")}
            return "; ".join(f"`{text}`" for text in texts if text in said)

        with contextlib.suppress(AssertionError):
            wait_until(lambda: seen() == wanted, "the lines", PATIENCE)
        return seen()

    return Row(section, topic, see, "; ".join(f"`{text}`" for text in texts))


def plain(line: str) -> str:
    """A log line without what differs at every run."""
    line = re.sub(r"^\w{3} \w{3} +\d+ [\d:]+ \d{4} - ", "DATE - ", line)
    line = re.sub(r"(pid:|process) \d+", r"\1 P", line)
    line = re.sub(r"\[\w{3} \w{3} +\d+ [\d:]+ \d{4}\]", "[DATE]", line)
    line = re.sub(r"unix socket /\S*/", "unix socket ", line)
    line = re.sub(r"interpreter 0x[0-9a-f]+", "interpreter 0x0", line)
    line = re.sub(r"in \d+ (m?secs|seconds)", r"in 0 \1", line)
    line = re.sub(r"since \d+", "since T", line)
    line = re.sub(r"\d+ vars in \d+ bytes", "N vars in N bytes", line)
    line = re.sub(r"worker [12]\b", "worker N", line)
    line = re.sub(r"(core) [01]\b", r"\1 C", line)
    return re.sub(r"req: \d+/\d+", "req: 1/1", line)


def files(*words: str) -> Callable[[Contestant, str], str]:
    """Which of pidfile and UNIX socket are there while it runs, and after."""

    def see(server: Contestant, wanted: str) -> str:
        del wanted
        server.start("--pidfile", "p.pid", "--socket", "s.sock", "--chmod-socket=640", *words)
        pid, sock = server.home / "p.pid", server.home / "s.sock"
        pid_in_it = "the master's pid" if pid.read_text().strip() == str(server.running.pid) else "another pid"
        mode = stat.S_IMODE(sock.stat().st_mode)
        server.running.stop(signal.SIGINT)
        left = [name for name, path in (("pidfile", pid), ("socket", sock)) if path.exists()]
        return f"{pid_in_it}, mode {mode:o}; {' and '.join(left) or 'nothing'} left"

    return see


def packet(header: bytes) -> Callable[[Contestant, str], str]:
    """What a uwsgi packet gets."""

    def see(server: Contestant, wanted: str) -> str:
        del wanted
        server.start("--socket", "u.sock")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(server.home / "u.sock"))
            client.sendall(header)
            answer = client.recv(4096)
        return first_line(answer)

    return see


def first_line(answer: bytes) -> str:
    return answer.split(b"\r\n")[0].decode() or "closed without an answer"


def broken_reload(server: Contestant, wanted: str) -> str:
    server.start()
    server.get()
    (server.home / "app.py").write_text("raise RuntimeError\n")
    server.running.send(signal.SIGHUP)
    server.running.wait_for("RuntimeError")
    with contextlib.suppress(AssertionError):
        wait_until(lambda: first_line(server.ask()) == wanted, "the answer", PATIENCE)
    return first_line(server.ask())


def touched(server: Contestant, wanted: str) -> str:
    server.start("--touch-reload", "t", "--processes", "1")
    worker = server.get("/pid")
    server.running.wait_for("spawned uWSGI worker 1")
    (server.home / "t").write_text("")
    return server.fate(worker, wanted)


def dying_master(server: Contestant, wanted: str) -> str:
    del wanted
    server.start("--processes", "1")
    worker = Path(f"/proc/{int(server.get('/pid'))}")
    server.running.send(signal.SIGKILL)
    wait_until(lambda: not worker.exists() or ") Z " in (worker / "stat").read_text(), "the worker's end")
    return "its workers end"


def idle(server: Contestant, wanted: str) -> str:
    del wanted
    server.start("--idle", "1", "--processes", "1")
    worker = Path(f"/proc/{int(server.get('/pid'))}")
    server.running.wait_for("workers have been inactive for more than 1 seconds")
    wait_until(lambda: not worker.exists(), "the worker's end")
    return f"workers end; the next request gets {server.get() and 'an answer'}"


def lazy(server: Contestant, wanted: str) -> str:
    del wanted
    server.start("--lazy-apps", "--processes", "1")
    importer, worker = server.get("/imported").split()
    return "the worker imports" if importer == worker else "another process imports"


def by_pidfile(option: str) -> Callable[[Contestant, str], str]:
    def see(server: Contestant, wanted: str) -> str:
        server.start("--pidfile", "p.pid", "--processes", "1")
        worker = server.get("/pid")
        server.once(option, "p.pid")
        return server.fate(worker, wanted)

    return see


def names(server: Contestant, wanted: str) -> str:
    del wanted
    server.start("--env", "GREETING=hi", "--processes", "2", "--threads", "2")
    return server.get("/names")


INT, QUIT, TERM, HUP = signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP
DROPPED, SERVED = "the request is dropped", "the request is answered"
STOPS, RELOADS, GOES_ON = "exits with 0", "reloads", "goes on"
BAD_CONFIG = ("exits with 1", "exits with 78", "sysexits(3): a supervisor need not try again")
CALM = f"{GOES_ON}; {SERVED}"
IGNORED = "a stray signal must not end or stop a server"
WORKER_DIES = "DAMN ! worker N (pid: P) died, killed by signal 9 :( trying respawn ..."
HARAKIRI = "DATE - HARAKIRI !!! worker N status !!!"
HARAKIRI_CORE = "DATE - HARAKIRI [core C] 127.0.0.1 - GET /sleep since T"
HARAKIRI_END = "DATE - HARAKIRI !!! end of worker N status !!!"
REQUEST_LINE = (
    "[pid: P|app: 0|req: 1/1] 127.0.0.1 () {N vars in N bytes} [DATE] GET /pid => generated 7 bytes in 0 msecs"
    " (HTTP/1.1 200) 1 headers in 45 bytes (1 switches on core C)"
)

ROWS = [
    Row("Signals to the master, a request in the app", "INT", told(INT), f"{STOPS}; {DROPPED}"),
    Row("", "QUIT", told(QUIT), f"{STOPS}; {DROPPED}"),
    Row("", "TERM", told(TERM), f"{RELOADS}; {DROPPED}", f"{STOPS}; {SERVED}", "what every supervisor means by TERM"),
    Row("", "TERM with `die-on-term`", told(TERM, "--die-on-term"), f"{STOPS}; {DROPPED}", f"{STOPS}; {SERVED}",
        "as TERM without it"),
    Row("", "QUIT with `die-on-term`", told(QUIT, "--die-on-term"), f"{RELOADS}; {DROPPED}", f"{RELOADS}; {SERVED}",
        "a reload loses no request"),
    Row("", "HUP", told(HUP), f"{RELOADS}; {SERVED}"),
    Row("", "HUP with `exit-on-reload`", told(HUP, "--exit-on-reload"), f"{STOPS}; {SERVED}"),
    Row("", "USR1", told(signal.SIGUSR1), CALM),
    Row("", "USR2", told(signal.SIGUSR2), f"is killed; {SERVED}", CALM, IGNORED),
    Row("", "ALRM", told(signal.SIGALRM), f"is killed; {SERVED}", CALM, IGNORED),
    Row("", "WINCH", told(signal.SIGWINCH), CALM),
    Row("", "URG", told(signal.SIGURG), CALM),
    Row("", "PIPE", told(signal.SIGPIPE), CALM),
    Row("", "CHLD", told(signal.SIGCHLD), CALM),
    Row("", "TSTP, and again", paused, "a connection waits, then is answered"),
    Row("", "KILL", dying_master, "its workers end"),
    Row("Letters in the master FIFO, a request in the app", "`r`", fifo("r"), f"{RELOADS}; {SERVED}"),
    Row("", "`R`", fifo("R"), f"{RELOADS}; {DROPPED}"),
    Row("", "`w`", fifo("w"), f"{RELOADS}; {SERVED}"),
    Row("", "`q`", fifo("q"), f"{STOPS}; {SERVED}"),
    Row("", "`Q`", fifo("Q"), f"{STOPS}; {DROPPED}"),
    Row("", "`s`", fifo("s"), CALM),
    Row("Orders by files", "`touch-reload`", touched, RELOADS),
    Row("", "`--reload PIDFILE`", by_pidfile("--reload"), RELOADS),
    Row("", "`--stop PIDFILE`", by_pidfile("--stop"), STOPS),
    Row("", "`pidfile`, `chmod-socket=640`", files(), "the master's pid, mode 640; pidfile and socket left"),
    Row("", "likewise with `vacuum`", files("--vacuum"), "the master's pid, mode 640; nothing left"),
    Row("Starts that fail", "`need-app`, no app", ends("--need-app", app=False), "exits with 22"),
    Row("", "the address is in use", taken_port, "exits with 1"),
    Row("", "an unknown word", ends("--no-such-option"), *BAD_CONFIG),
    Row("", "`strict`, an unknown key", ends("--strict", "--ini", "bad.ini"), *BAD_CONFIG),
    Row("", "`cheaper` not below `processes`", ends("--cheaper", "1", "--processes", "1"), *BAD_CONFIG),
    Row("", "`listen` above somaxconn", ends("--listen", "9999999"), *BAD_CONFIG),
    Row("", "a config file that is missing", ends("--ini", "missing.ini"), *BAD_CONFIG),
    Row("Requests", "no app", answers("/", app=False), "HTTP/1.1 500 Internal Server Error"),
    Row("", "the app raises", answers("/raise"), "closed without an answer", "HTTP/1.1 500 Internal Server Error",
        "a client should know"),
    Row("", "longer than `buffer-size`", answers("/", head=b"X: " + b"x" * 5000 + b"\r\n"), "closed without an answer",
        "HTTP/1.1 431 Request Header Fields Too Large", "a client should know"),
    Row("", "`harakiri` passes", answers("/sleep", "--harakiri", "1"), "closed without an answer",
        "HTTP/1.1 504 Gateway Timeout", "a client should know"),
    Row("", "a uwsgi packet without variables", packet(struct.pack("<BHB", 0, 0, 0)), "closed without an answer"),
    Row("", "a modifier nobody has", packet(struct.pack("<BHB", 77, 0, 0)), "closed without an answer"),
    Row("", "after a reload with a broken app", broken_reload, "HTTP/1.1 500 Internal Server Error", "HTTP/1.1 200 OK",
        "the old generation stays"),
    Row("Processes", "`lazy-apps`", lazy, "the worker imports"),
    Row("", "`idle 1`", idle, "workers end; the next request gets an answer"),
    Row("", "what the app sees", names, "hi 2 2 b'2' True True"),
    lines("start", "*** Operational MODE: preforking ***", "spawned uWSGI master process (pid: P)",
          "WSGI app 0 (mountpoint='') ready in 0 seconds on interpreter 0x0 pid: P (default app)",
          "spawned uWSGI worker N (pid: P, cores: 1)", "*** uWSGI is running in multiple interpreter mode ***",
          section="Lines of the log"),
    lines("stop by INT", "SIGINT/SIGTERM received...killing workers...", "goodbye to uWSGI.", do="stop"),
    lines("HUP", "...gracefully killing workers...", do="reload"),
    lines("`vacuum`", "VACUUM: pidfile removed.", "VACUUM: unix socket v.sock removed.", do="stop",
          words=("--vacuum", "--pidfile", "v.pid", "--socket", "v.sock")),
    lines("a request", REQUEST_LINE),
    lines("a killed worker", WORKER_DIES, "Respawned uWSGI worker N (new pid: P)", do="kill"),
    lines("`harakiri`", HARAKIRI, HARAKIRI_CORE, HARAKIRI_END, WORKER_DIES, do="sleep", words=("--harakiri", "1")),
    lines("`max-requests`", "...The work of process P is done. Seeya!", "worker N killed successfully (pid: P)",
          "Respawned uWSGI worker N (new pid: P)", do="requests",
          words=("--max-requests", "2", "--min-worker-lifetime", "0")),
]  # fmt: skip


def seen_of(kind: str, programs: Runner, number: int) -> str:
    row = ROWS[number]
    server = Contestant(kind, programs, programs.directory / f"{kind}-{number}")
    try:
        return row.see(server, row.wanted(kind))
    finally:
        server.close()


def page() -> str:
    """The table as docs/compared.md."""
    text = (__doc__ or "").partition("\n")[0]
    head = f"# uWSGI and palatine, side by side\n\n{text} Kept true by tests/interop/test_compared.py.\n"
    rows = []
    for row in ROWS:
        if row.section:
            rows.append(f"\n## {row.section}\n\n| | uWSGI | palatine | |\n|---|---|---|---|\n")
        cells = [row.topic, row.uwsgi, row.ours or "the same", row.why]
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n")
    return head + "".join(rows)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, int], Future[str]]]:
    """What both do, all rows side by side."""
    with runner(tmp_path_factory.mktemp("compared")) as programs, ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            (kind, number): pool.submit(seen_of, kind, programs, number)
            for number in range(len(ROWS))
            for kind in (REAL, OURS)
        }


@pytest.mark.parametrize("number", range(len(ROWS)), ids=lambda number: ROWS[number].topic)
@pytest.mark.parametrize("kind", [REAL, OURS])
def test_does_as_the_table_says(seen: dict[tuple[str, int], Future[str]], kind: str, number: int) -> None:
    assert seen[kind, number].result() == ROWS[number].wanted(kind)


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text() == page(), "write it anew: python tests/interop/test_compared.py > docs/compared.md"


if __name__ == "__main__":
    sys.stdout.write(page())
