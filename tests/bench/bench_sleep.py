"""An app that sleeps 250 ms, 4 processes with 2 threads, 16 clients: how long requests take, and who waits for whom.

    python tests/bench/bench_sleep.py [--seconds 20]

With twice as many clients as threads the ideal is 500 ms for everybody. Real uWSGI is `$PALATINE_BENCH_UWSGI`, or
`uwsgi` on PATH. The clients are threads of this process; at 32 requests a second they cost nothing worth mentioning.
"""

import argparse
import http.client
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from running import Runner, free_port, wait_until

CLIENTS = 16
IDEAL_MS = 500
APP = """
import time
def application(environ, start_response):
    time.sleep(0.25)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "11")])
    return [b"Hello World"]
"""


class Figures(NamedTuple):
    """Milliseconds of all requests, and how many each client had answered."""

    times: list[float]
    served: list[int]
    errors: int


def load(port: int, seconds: float, *, kept: bool) -> Figures:
    """Every client asks again as soon as it was answered; one that is told to reconnects, as browsers do."""
    times: list[list[float]] = [[] for _ in range(CLIENTS)]
    errors = [0] * CLIENTS
    end = time.monotonic() + seconds

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while time.monotonic() < end:
            began = time.monotonic()
            try:
                connection.request("GET", "/", headers={} if kept else {"Connection": "close"})
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                errors[number] += 1
                connection.close()
            else:
                times[number].append((time.monotonic() - began) * 1000)
                if not kept:  # uWSGI ends the connection without saying so
                    connection.close()
        connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Figures(sorted(each for served in times for each in served), [len(each) for each in times], sum(errors))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    uwsgi = os.environ.get("PALATINE_BENCH_UWSGI", "uwsgi")
    ours = (sys.executable, "-P", "-m", "palatine_app_server")
    common = ("--wsgi-file", "app.py", "--master", "--processes", "4", "--threads", "2", "--disable-logging")
    contestants = [
        ("palatine", (*ours, *common, "--http-socket"), False),
        ("uwsgi http-socket", (uwsgi, *common, "--http-socket"), False),
        ("palatine", (*ours, *common, "--http-socket"), True),
        ("uwsgi http11-socket", (uwsgi, *common, "--http11-socket"), True),
    ]
    print(sys.version)
    with tempfile.TemporaryDirectory() as name:
        programs = Runner(Path(name))
        (programs.directory / "app.py").write_text(APP)
        try:
            for label, words, kept in contestants:
                port = free_port()
                program = programs.start(words[0], *words[1:], f"127.0.0.1:{port}")
                wait_until(lambda port=port: load(port, 0.1, kept=False).times, "the first answers")
                found = load(port, options.seconds, kept=kept)
                program.stop()
                p50, p99 = statistics.median(found.times), found.times[int(len(found.times) * 0.99)]
                print(
                    f"{'kept' if kept else 'closed':7}{label:20} p50 {p50:5.0f} ms  p99 {p99:5.0f} ms "
                    f"(ideal {IDEAL_MS})  requests a client {min(found.served)} to {max(found.served)}"
                    f"  errors {found.errors}"
                )
        finally:
            programs.close()


if __name__ == "__main__":
    main()
