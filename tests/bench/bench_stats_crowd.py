"""Time of a fresh scrape while a crowd holds connections: 2,000 that say nothing, 200 that send a byte a second.

    python tests/bench/bench_stats_crowd.py [scrapes]

Wall time, by HTTP as curl asks: a crowd must cost nobody else anything.
"""

import resource
import socket
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from running import runner
from stats_master import master

IDLE, TRICKLING = 2000, 200
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def scrape(where: tuple[str, int]) -> float:
    """Milliseconds of one scrape."""
    began = time.monotonic()
    with socket.create_connection(where) as sock:
        sock.sendall(REQUEST)
        while sock.recv(1 << 20):
            pass
    return (time.monotonic() - began) * 1000


def measured(where: tuple[str, int], scrapes: int) -> str:
    """The median and the 99th percentile."""
    times = sorted(scrape(where) for _ in range(scrapes))
    return f"median {times[len(times) // 2]:.1f} ms, p99 {times[len(times) * 99 // 100]:.1f} ms"


def trickle(crowd: list[socket.socket], enough: threading.Event) -> None:
    """A byte a second on each, as long as it is taken."""
    rest = dict.fromkeys(crowd, b"GET /slow HTTP/1.1\r\nHost: x\r\n")
    while not enough.wait(1):
        for sock, left in list(rest.items()):
            try:
                sock.send(left[:1])
            except OSError:
                del rest[sock]
            else:
                rest[sock] = left[1:] or b"x"


def main() -> None:
    """Measure and print."""
    scrapes = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with tempfile.TemporaryDirectory() as name, runner(Path(name)) as programs, master(programs.runtime) as instance:
        host, _, port = instance.bind(http=True).rpartition(":")
        where = (host, int(port))
        instance.start()
        programs.start("palatine-stats-exporter").wait_for("instance.serving", 60)
        print(f"nobody else: {measured(where, scrapes)}")
        enough = threading.Event()
        with ExitStack() as stack:
            trickling = [stack.enter_context(socket.create_connection(where)) for _ in range(TRICKLING)]
            thread = threading.Thread(target=trickle, args=(trickling, enough))
            thread.start()
            for _ in range(IDLE):  # they are given up after socket-timeout: the measurement is shorter
                stack.enter_context(socket.create_connection(where))
            print(f"{IDLE} idle and {TRICKLING} slow clients: {measured(where, scrapes)}")
            enough.set()
            thread.join()


if __name__ == "__main__":
    main()
