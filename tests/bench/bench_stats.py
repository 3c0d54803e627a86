"""CPU per scrape of a stats socket: palatine's exporter beside uWSGI's own stats server, in the same run.

    python tests/bench/bench_stats.py [rounds]

Real uWSGI is `$PALATINE_BENCH_UWSGI`, or `uwsgi` on PATH (`pip install uwsgi`). Both serve the same app; every worker
serves a request ("busy") or none ("idle") during the measurement. "moving" stores into every worker's counters between
scrapes, so that no document is like the one before. Scrapes overlap (those answered together share a document), come in
a row, or one every 60 ms ("cold": caches have forgotten everything). uWSGI is always asked raw; for the exporter a raw
client costs a second wake-up, because it is given 50 ms for a request, and one by HTTP does not. Figures are on-CPU
time of all threads of uWSGI's master, and of the exporter.
"""

import os
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from palatine.counters import Segment
from running import free_port, program, wait_until
from stats_master import HELLO, master
from stats_planting import sample

MANY, FEW = 300, 25
PAUSE = 0.06
APP = "import time\ndef application(environ, start):\n    start('200 OK', [])\n    time.sleep(30)\n    return [b'x']\n"
REQUEST = b"GET /some/path?x=1 HTTP/1.1\r\nHost: 127.0.0.1:9090\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"

Address = tuple[str, int]


def on_cpu(pid: int) -> int:
    """Nanoseconds the threads of a process have run."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def overlapping(where: Address, count: int, request: bytes = b"", parallel: int = 40) -> None:
    """`count` scrapes, `parallel` at a time; raw without a request."""
    poll = select.epoll()
    open_sockets: dict[int, socket.socket] = {}
    started = done = 0
    while done < count:
        while started < count and len(open_sockets) < parallel:
            sock = socket.create_connection(where)
            sock.sendall(request)
            open_sockets[sock.fileno()] = sock
            poll.register(sock, select.EPOLLIN)
            started += 1
        for fd, _ in poll.poll():
            if not open_sockets[fd].recv(1 << 20):
                open_sockets.pop(fd).close()
                done += 1
    poll.close()


def nothing() -> None:
    """Between scrapes of an instance that rests."""


def scraped(where: Address) -> bool:
    """Whether it can be scraped."""
    overlapping(where, 1)
    return True


def one_by_one(where: Address, count: int, request: bytes, between: Callable[[], None], pause: float) -> None:
    """`count` scrapes with a pause before each."""
    for _ in range(count):
        time.sleep(pause)
        between()
        overlapping(where, 1, request)


@contextmanager
def uwsgi(directory: Path, workers: int, threads: int, *, busy: bool) -> Iterator[tuple[int, Address]]:
    """uWSGI's master and its stats address."""
    found = os.environ.get("PALATINE_BENCH_UWSGI") or shutil.which("uwsgi-core") or program("uwsgi")
    port, stats = free_port(), free_port()
    (directory / "slow.py").write_text(APP)
    plugins = ["--plugin", "python3"] if "uwsgi-core" in found else []
    argv = [found, *plugins, "--http-socket", f"127.0.0.1:{port}", "--wsgi-file", "slow.py", "--master"]
    argv += ["--processes", str(workers), "--threads", str(threads), "--stats", f"127.0.0.1:{stats}"]
    with (directory / "uwsgi.log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=directory, stdout=log, stderr=log, start_new_session=True)
    where = ("127.0.0.1", stats)
    try:
        wait_until(lambda: scraped(where), "uWSGI's stats")
        time.sleep(1.5)
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(workers * threads if busy else 0)]
        for client in clients:
            client.sendall(REQUEST)
        time.sleep(0.5)
        yield process.pid, where
        for client in clients:
            client.close()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def document(workers: int, threads: int, *, busy: bool) -> dict[str, Any]:
    """A stats document of that many workers to plant."""
    found = sample(HELLO if not busy else "stats_hello_under_load.json")
    core = found["workers"][0]["cores"][0]
    found["workers"] = [
        {**found["workers"][0], "id": index + 1, "cores": [{**core, "id": number} for number in range(threads)]}
        for index in range(workers)
    ]
    return found


@contextmanager
def exporter(directory: Path, workers: int, threads: int, *, busy: bool) -> Iterator[tuple[int, Address, Segment]]:
    """The exporter before a stand-in for the app-server: its pid, the stats address, the counters."""
    runtime = Path(tempfile.mkdtemp(prefix="pal-", dir="/dev/shm"))
    with master(runtime, "bench", document(workers, threads, busy=busy)) as instance:
        host, _, port = instance.bind().rpartition(":")
        instance.start()
        argv = [program("palatine-stats-exporter"), "--runtime-dir", str(runtime), "--state-dir", str(directory)]
        with (directory / "exporter.log").open("wb") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log)
        where = (host, int(port))
        try:
            overlapping(where, 1)
            yield process.pid, where, instance.segment
        finally:
            process.terminate()
            process.wait()
    shutil.rmtree(runtime)


def mover(segment: Segment, cores: int) -> Callable[[], None]:
    """One more request on every core, as an app-server counts it."""
    cells = [(segment.cells("cores", core, 1), segment.cells("apps", core, 1)) for core in range(cores)]
    moving = [segment.word("cores", field) for field in ("requests", "running_time", "tx", "avg_rt")]

    def move() -> None:
        for core, app in cells:
            app[0] += 1
            for word in moving:
                core[word] += 45

    return move


def per_scrape(pid: int, scrapes: int, do: Callable[[], None]) -> float:
    """Microseconds of CPU a scrape."""
    before = on_cpu(pid)
    do()
    return (on_cpu(pid) - before) / scrapes / 1000


class Contest(NamedTuple):
    """What is asked, what happens between two scrapes (None: they overlap), and the pause between."""

    request: bytes
    between: Callable[[], None] | None
    pause: float = PAUSE

    def uwsgi(self) -> "Contest":
        """The same for uWSGI, which is asked raw and whose counters are its own."""
        return Contest(b"", self.between and nothing, self.pause)


def contend(pid: int, where: Address, contest: Contest) -> float:
    """Microseconds of CPU a scrape."""
    request, between, pause = contest
    if between is None:
        return per_scrape(pid, MANY, lambda: overlapping(where, MANY, request))
    count = FEW if pause else MANY
    return per_scrape(pid, count, lambda: one_by_one(where, count, request, between, pause))


def measure(workers: int, threads: int, rounds: int, *, busy: bool) -> None:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with (
            uwsgi(directory, workers, threads, busy=busy) as (theirs, their_stats),
            exporter(directory, workers, threads, busy=busy) as (ours, our_stats, segment),
        ):
            move = mover(segment, workers * threads)
            contests = {
                "raw, overlapping": Contest(b"", None),
                "raw, cold": Contest(b"", nothing),
                "raw, cold, moving": Contest(b"", move),
                "http, in a row": Contest(REQUEST, nothing, 0),
                "http, in a row, moving": Contest(REQUEST, move, 0),
                "http, cold": Contest(REQUEST, nothing),
                "http, cold, moving": Contest(REQUEST, move),
            }
            found: dict[str, list[tuple[float, float]]] = {what: [] for what in contests}
            for _ in range(rounds):
                for what, contest in contests.items():
                    found[what].append(
                        (contend(theirs, their_stats, contest.uwsgi()), contend(ours, our_stats, contest))
                    )
    for what, pairs in found.items():
        them, us = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(ours / theirs for theirs, ours in pairs)
        state = "busy" if busy else "idle"
        figures = f"uWSGI {them:5.0f} us  palatine {us:5.0f} us  ratio {ratio:.2f}"
        print(f"{workers:3} x {threads}  {state}  {what:22} {figures}")


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    for workers, threads in ((4, 2), (64, 1), (64, 2)):
        for busy in (False, True):
            measure(workers, threads, rounds, busy=busy)


if __name__ == "__main__":
    main()
