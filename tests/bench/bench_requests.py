"""CPU per request: palatine's app-server beside uWSGI's http11-socket and http-socket, alternating in one run.

    python tests/bench/bench_requests.py [rounds] [requests]

Real uWSGI is `$PALATINE_BENCH_UWSGI`, or `uwsgi` on PATH (`pip install uwsgi`). Figures are on-CPU time of all
processes of each server (schedstat) divided by requests; ratios are medians over the rounds. "kept" keeps eight
connections open, "closed" opens one per request. The load comes from this process, over plain sockets, so every
request is known to have been answered.
"""

import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from running import Runner, free_port, session, wait_until

ROUNDS, REQUESTS, CONNECTIONS = 5, 4000, 8
APP = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "11")])
    return [b"Hello World"]
"""
KEPT = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
CLOSED = KEPT[:-2] + b"Connection: close\r\n\r\n"

Address = tuple[str, int]


def on_cpu(leader: int) -> int:
    """Nanoseconds all processes of a session have run."""
    total = 0
    for pid in session(leader):
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total


def pss(leader: int) -> dict[int, int]:
    """KiB each process of a session is accountable for."""
    found = {}
    for pid in session(leader):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        found[pid] = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return found


def kept(where: Address, count: int) -> None:
    """`count` requests over `CONNECTIONS` connections that stay open; a closed one is opened again."""
    poll = select.epoll()
    socks: dict[int, socket.socket] = {}

    def ask() -> None:
        sock = socket.create_connection(where)
        socks[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN)
        sock.send(KEPT)

    for _ in range(CONNECTIONS):
        ask()
    done = 0
    while done < count:
        for fd, _ in poll.poll():
            answer = socks[fd].recv(4096)
            if answer:
                assert answer.endswith(b"Hello World"), answer
                done += 1
            if not answer or b"Connection: close" in answer:
                poll.unregister(fd)
                socks.pop(fd).close()
                ask()
            elif answer:
                socks[fd].send(KEPT)
    for sock in socks.values():
        sock.close()


def closed(where: Address, count: int) -> None:
    """`count` requests, a connection each."""
    for _ in range(count):
        with socket.create_connection(where) as sock:
            sock.send(CLOSED)
            answer = b""
            while data := sock.recv(4096):
                answer += data
            assert answer.endswith(b"Hello World"), answer


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    requests = int(sys.argv[2]) if len(sys.argv) > 2 else REQUESTS
    uwsgi = os.environ.get("PALATINE_BENCH_UWSGI", "uwsgi")
    with tempfile.TemporaryDirectory() as name:
        programs = Runner(Path(name))
        try:
            measure(programs, uwsgi, rounds, requests)
        finally:
            programs.close()


def measure(programs: Runner, uwsgi: str, rounds: int, requests: int) -> None:
    app = programs.directory / "app.py"
    app.write_text(APP)
    servers = {}
    for label, command, option in (
        ("palatine", [sys.executable, "-P", "-m", "palatine_app_server"], "--http-socket"),
        ("uwsgi http11", [uwsgi], "--http11-socket"),
        ("uwsgi http", [uwsgi], "--http-socket"),
    ):
        where = ("127.0.0.1", free_port())
        words = [option, f"{where[0]}:{where[1]}", "--wsgi-file", str(app), "--master", "--disable-logging"]
        running = programs.start(*command, *words)
        wait_until(lambda where=where: socket.create_connection(where).close() is None, label)  # type: ignore[func-returns-value]
        servers[label] = (running.pid, where)
    print(subprocess.run([uwsgi, "--version"], capture_output=True, text=True, check=True).stdout.strip(), sys.version)
    for kind, load in (("kept", kept), ("closed", closed)):
        figures: dict[str, list[float]] = {label: [] for label in servers}
        for _ in range(rounds):
            for label, (pid, where) in servers.items():
                if label == ("uwsgi http" if kind == "kept" else "uwsgi http11"):
                    continue  # the one always closes, the other does not when asked to
                before = on_cpu(pid)
                load(where, requests)
                figures[label].append((on_cpu(pid) - before) / requests / 1000)
        for label, values in figures.items():
            if values:
                ratios = [ours / theirs for ours, theirs in zip(figures["palatine"], values, strict=True)]
                print(
                    f"{kind:7}{label:14}{statistics.median(values):7.1f} µs CPU a request"
                    f"   palatine / it = {statistics.median(ratios):.2f}"
                )
    for label, (pid, _) in servers.items():
        sizes = pss(pid)
        print(f"{label:14} PSS {sum(sizes.values())} KiB: {sizes}")
        os.kill(pid, signal.SIGINT)


if __name__ == "__main__":
    main()
