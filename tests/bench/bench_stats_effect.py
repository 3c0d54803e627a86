"""What 100 scrapes a second do to the app that is scraped: its latency with and without them, phases alternating.

    python tests/bench/bench_stats_effect.py [rounds] [seconds]

The app (4 workers, 2 ms of work a request) gets 200 requests a second at fixed times;
latency counts from the time a request was due, so a stall is not hidden by those waiting behind it. Phases: nobody
scrapes; the same number of scrapes goes to a server that sends a constant ("decoy": what the scraping client itself
costs a machine of few cores); the app's stats socket is scraped. Beside palatine the same is done with real uWSGI
(`$PALATINE_BENCH_UWSGI`, or `uwsgi` on PATH), whose master is its stats server. Latencies mean something on a machine
that has nothing else to do; what holds on any is the last column, the on-CPU time of the master: a scrape that the
app's processes hear of shows in it.
"""

import contextlib
import os
import random
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from running import free_port, program, runner, wait_until

RATE, SCRAPES = 200, 100
APP = """
import time
def application(environ, start_response):
    until = time.thread_time() + 0.002
    while time.thread_time() < until:
        pass
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
SCRAPER = """
import socket, sys, time
port, rate = int(sys.argv[1]), float(sys.argv[2])
due = time.monotonic()
while True:
    due += 1 / rate
    time.sleep(max(0, due - time.monotonic()))
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        while sock.recv(1 << 20):
            pass
"""
DECOY = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=100) as listener:
    while True:
        sock, _ = listener.accept()
        with sock:
            sock.recv(65536)
            sock.sendall(b"x" * 5000)
"""


def latencies(port: int, seconds: float) -> list[float]:
    """Milliseconds from when a request was due to its whole answer, each on a connection of its own."""
    poll = select.epoll()
    waiting: dict[int, tuple[socket.socket, float]] = {}
    found: list[float] = []
    begin = time.monotonic()
    sent, count = 0, int(seconds * RATE)
    while len(found) < count:
        while sent < count and begin + sent / RATE <= time.monotonic():
            sock = socket.create_connection(("127.0.0.1", port))
            sock.sendall(REQUEST)
            waiting[sock.fileno()] = sock, begin + sent / RATE
            poll.register(sock, select.EPOLLIN)
            sent += 1
        for fd, _ in poll.poll(max(0.0, begin + sent / RATE - time.monotonic()) if sent < count else 1.0):
            if waiting[fd][0].recv(65536).endswith(b"ok"):
                sock, due = waiting.pop(fd)
                found.append((time.monotonic() - due) * 1000)
                sock.close()
    poll.close()
    return found


def on_cpu(pid: int) -> int:
    """Nanoseconds a process has run."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


@contextlib.contextmanager
def python(script: str, *words: object) -> Iterator[None]:
    """A script of its own for as long."""
    process = subprocess.Popen([sys.executable, "-c", script, *map(str, words)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def percentile(times: list[float], share: float) -> float:
    """Of sorted times."""
    return sorted(times)[int(len(times) * share)]


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    uwsgi = os.environ.get("PALATINE_BENCH_UWSGI") or shutil.which("uwsgi")
    with tempfile.TemporaryDirectory() as name, runner(Path(name)) as programs, contextlib.ExitStack() as stack:
        (Path(name) / "app.py").write_text(APP)
        contestants = {}
        programs.start("palatine-stats-exporter").wait_for("daemon.ready", 60)
        words = ["--wsgi-file", "app.py", "--master", "--processes", "4", "--disable-logging"]
        for label, command in (
            ("palatine", [program("palatine-app-server"), "--runtime-dir", str(programs.runtime)]),
            *([("uWSGI", [uwsgi])] if uwsgi else []),
        ):
            port, stats = free_port(), free_port()
            argv = [
                *command,
                *words,
                "--http-socket",
                f"127.0.0.1:{port}",
                "--stats",
                f"127.0.0.1:{stats}",
                "--stats-http",
            ]
            log = stack.enter_context((Path(name) / f"{label}.log").open("wb"))
            process = subprocess.Popen(argv, cwd=name, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.send_signal, 2)
            wait_until(lambda port=port: len(latencies(port, 0.1)) > 0, f"{label}'s answers")
            wait_until(lambda stats=stats: socket.create_connection(("127.0.0.1", stats)).close() is None, "stats")
            contestants[label] = process.pid, port, stats
        decoy = free_port()
        stack.enter_context(python(DECOY, decoy))
        found: dict[tuple[str, str], list[list[float]]] = {}
        masters: dict[tuple[str, str], list[float]] = {}
        for _ in range(rounds):
            for label, (pid, port, stats) in contestants.items():
                phases = [("nobody", 0), ("decoy", decoy), ("scraped", stats)]
                for what, target in random.sample(phases, len(phases)):
                    with python(SCRAPER, target, SCRAPES) if target else contextlib.nullcontext():
                        time.sleep(0.3)  # its start is not what is measured
                        before = on_cpu(pid)
                        found.setdefault((label, what), []).append(latencies(port, seconds))
                        masters.setdefault((label, what), []).append((on_cpu(pid) - before) / seconds / 1000)
        for (label, what), phases in found.items():
            figures = [statistics.median(percentile(times, share) for times in phases) for share in (0.5, 0.99)]
            quiet = min(percentile(times, 0.99) for times in phases)
            ratio = statistics.median(
                percentile(times, 0.99) / percentile(base, 0.99)
                for times, base in zip(phases, found[label, "decoy"], strict=True)
            )
            p99 = f"p99 {figures[1]:6.2f} ms (best phase {quiet:5.2f}), {ratio:.2f} of the decoy's"
            cpu = statistics.median(masters[label, what])
            print(f"{label:9} {what:8} median {figures[0]:6.2f} ms  {p99}  master {cpu:6.0f} us/s")


if __name__ == "__main__":
    main()
