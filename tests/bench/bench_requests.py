"""CPU per request of palatine's app-server beside the WSGI servers people use, alternating in one run.

    python tests/bench/bench_requests.py [--rounds 5] [--seconds 2] [--only uwsgi,granian] [--peers VENV]

The peers are looked for in a virtual environment, which is made and filled by pip where there is none; a server that
does not install or start is reported as missing. Real uWSGI is `$PALATINE_BENCH_UWSGI`, or `uwsgi` on PATH. The load is
wrk's, on a core of its own. CPU is on-CPU time of all processes of a server (schedstat) divided by the requests wrk got
answers to; ratios are medians of the pairs of each round. Loads:

    kept      16 connections that stay open, one small GET again and again
    closed    a connection per request
    browser   as kept, with a browser's headers and another path, cookie and request id in each request
    one       as kept, on one connection: uWSGI's http11-socket serves but one at a time, and its other fifteen wait
    paced     as closed, at a rate all of them can keep (`--rate`), one after the other: latencies are counted from the
              moment a request was due, so that they can be compared
"""

import argparse
import contextlib
import http.client
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from running import Runner, Running, free_port, session, wait_until

CONNECTIONS = 16
PEERS = ("gunicorn", "waitress", "granian", "bjoern", "fastwsgi")
APP = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "11")])
    return [b"Hello World"]
"""
BROWSER = """
local n = 0
local same = {
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
  ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
  ["Accept-Language"] = "en-US,en;q=0.5", ["Accept-Encoding"] = "gzip, deflate, br, zstd",
  ["Referer"] = "https://www.example.org/", ["Upgrade-Insecure-Requests"] = "1", ["Sec-Fetch-Dest"] = "document",
  ["Sec-Fetch-Mode"] = "navigate", ["Sec-Fetch-Site"] = "same-origin", ["Priority"] = "u=0, i",
}
request = function()
  n = n + 1
  same["Cookie"] = "session=abcdef0123456789" .. n % 500 .. "; theme=dark"
  same["X-Request-Id"] = tostring(n)
  return wrk.format("GET", "/articles/" .. n % 5000 .. "?page=" .. n % 50, same)
end
"""
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class Server(NamedTuple):
    """How to start one: `command(address, log)` are its words; `loads` are those it can be compared under."""

    label: str
    program: str
    command: Callable[[str, bool], list[str]]
    loads: tuple[str, ...] = ("kept", "closed", "browser", "one", "paced")
    logs: bool = True


def _bind(address: str) -> list[str]:
    host, _, port = address.partition(":")
    return ["--host", host, "--port", port]


def _script(module: str, address: str) -> list[str]:
    host, _, port = address.partition(":")
    call = (
        f"run(application, {host!r}, {port})" if module == "bjoern" else f"run(application, host={host!r}, port={port})"
    )
    return ["-c", f"import {module}; from app import application; {module}.{call}"]


def servers(peers: Path, uwsgi: str) -> list[Server]:
    """Everything to compare, one process and one thread each where that can be said."""
    ours = ["-P", "-m", "palatine_app_server", "--wsgi-file", "app.py", "--master"]
    theirs = ["--wsgi-file", "app.py", "--master"]
    quiet = ["--disable-logging"]
    python = str(peers / "bin" / "python")
    gunicorn = ["-m", "gunicorn", "app:application", "-w", "1"]
    return [
        Server("palatine", sys.executable, lambda at, log: [*ours, "--http-socket", at, *([] if log else quiet)]),
        Server(
            "uwsgi http11", uwsgi, lambda at, log: [*theirs, "--http11-socket", at, *([] if log else quiet)],
            ("kept", "browser", "one"),
        ),
        Server(
            "uwsgi http", uwsgi, lambda at, log: [*theirs, "--http-socket", at, *([] if log else quiet)],
            ("closed", "paced"),
        ),
        Server(
            "gunicorn sync", python,
            lambda at, log: [*gunicorn, "-b", at, *(["--access-logfile", "-"] if log else [])], ("closed", "paced"),
        ),
        Server(
            "gunicorn gthread", python,
            lambda at, log: [
                *gunicorn, "-b", at, "-k", "gthread", "--threads", "4", *(["--access-logfile", "-"] if log else [])
            ],
        ),
        Server(
            "waitress", python, lambda at, _: ["-m", "waitress", "--listen", at, "--threads", "4", "app:application"],
            logs=False,
        ),
        Server(
            "granian", str(peers / "bin" / "granian"),
            lambda at, log: [
                "--interface", "wsgi", *_bind(at), "--workers", "1", "app:application",
                *(["--access-log"] if log else []),
            ],
        ),
        Server("bjoern", python, lambda at, _: _script("bjoern", at), logs=False),
        Server("fastwsgi", python, lambda at, _: _script("fastwsgi", at), logs=False),
    ]  # fmt: skip


class Figures(NamedTuple):
    """One server under one load for one round: CPU in µs a request, latencies in ms."""

    cpu: float
    p50: float
    p99: float


def on_cpu(leader: int) -> int:
    """Nanoseconds all processes of a session have run."""
    total = 0
    for pid in session(leader):
        with contextlib.suppress(OSError):
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


def measure(leader: int, address: str, load: str, options: argparse.Namespace, script: Path) -> Figures:
    """Let wrk, or the paced client, at one server."""
    before = on_cpu(leader)
    if load == "paced":
        times_ms = paced(address, options.rate, options.seconds)
        cuts = statistics.quantiles(times_ms, n=100)
        return Figures((on_cpu(leader) - before) / len(times_ms) / 1000, cuts[49], cuts[98])
    connections = 1 if load == "one" else CONNECTIONS
    words = ["taskset", "-c", "0", "wrk", "--latency", "-t1", f"-c{connections}", f"-d{options.seconds}s"]
    words += {"closed": ["-H", "Connection: close"], "browser": ["-s", str(script)]}.get(load, [])
    said = subprocess.run([*words, f"http://{address}/"], capture_output=True, text=True, check=True).stdout
    spent = on_cpu(leader) - before
    requests = int(re.search(r"(\d+) requests in", said)[1])  # type: ignore[index]  # or it is no figure
    times = {
        share: float(value) * _UNITS[unit] for share, value, unit in re.findall(r"(50|99)%\s+([0-9.]+)([mu]?s)", said)
    }
    return Figures(spent / max(requests, 1) / 1000, times["50"], times["99"])


def paced(address: str, rate: int, seconds: int) -> list[float]:
    """A request on a connection of its own `rate` times a second: milliseconds from when each was due to its end."""
    host, _, port = address.partition(":")
    request = f"GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {0})  # wrk's
    found = []
    began = time.monotonic()
    try:
        for number in range(rate * seconds):
            due = began + number / rate
            while time.monotonic() < due:  # sleep() wakes up too late by as much as a request takes
                pass
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall(request)
                answer = b""
                while piece := connection.recv(4096):
                    answer += piece
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            found.append((time.monotonic() - due) * 1000)
    finally:
        os.sched_setaffinity(0, cores)
    return found


def first_answer(address: str, running: Running, began: float) -> float:
    """Seconds from the start of a program to its first answer."""

    def answered() -> float:
        assert running.process.poll() is None
        host, _, port = address.partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            assert connection.getresponse().status == 200
        return time.monotonic() - began

    return wait_until(answered, "the first answer", 10)


def start(
    programs: Runner, program: str, words: list[str], address: str, environ: dict[str, str]
) -> tuple[Running, float]:
    """The program, and the seconds to its first answer."""
    began = time.monotonic()
    process = programs.start(program, *words, environ=environ)
    return process, first_answer(address, process, began)


@contextlib.contextmanager
def running(programs: Runner, wanted: list[Server], *, log: bool) -> Iterator[dict[str, tuple[Server, int, str]]]:
    """All servers at once: (server, leader, address) by label."""
    # bytecode is there from the second start on, whatever the environment of whoever runs this says
    bytecode = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(programs.directory / "bytecode")}

    def begin(server: Server) -> tuple[Running, float, str]:
        address = f"127.0.0.1:{free_port()}"
        return *start(programs, server.program, server.command(address, log), address, bytecode), address

    there = []
    for server in wanted:  # one after the other: who runs beside another shares the pages of libraries with it
        try:
            begin(server)[0].stop()
            process, seconds, _ = begin(server)
        except (AssertionError, OSError) as error:
            print(f"{server.label:18} missing: {str(error).splitlines()[0][:80]}")
            continue
        sizes = pss(process.pid)
        print(f"{server.label:18} first answer {seconds * 1000:4.0f} ms, PSS {sum(sizes.values())} KiB {sizes}")
        process.stop()
        there.append(server)
    started: dict[str, tuple[Server, int, str]] = {}
    for server in there:
        process, _, address = begin(server)
        started[server.label] = (server, process.pid, address)
    yield started


def compare(started: dict[str, tuple[Server, int, str]], load: str, options: argparse.Namespace, script: Path) -> None:
    """Rounds of every server in turn, and their table."""
    figures: dict[str, list[Figures]] = {}
    for _ in range(options.rounds):
        for label, (server, leader, address) in started.items():
            if load in server.loads:
                figures.setdefault(label, []).append(measure(leader, address, load, options, script))
    for label, found in figures.items():
        ratios = [ours.cpu / theirs.cpu for ours, theirs in zip(figures["palatine"], found, strict=True)]
        print(
            f"  {load:8}{label:18}{statistics.median(each.cpu for each in found):7.1f} µs"
            f"   palatine / it {statistics.median(ratios):5.2f}"
            f"   p50 {statistics.median(each.p50 for each in found):7.2f} ms"
            f"   p99 {statistics.median(each.p99 for each in found):7.2f} ms"
        )


def filled(peers: Path) -> Path:
    """A virtual environment with whatever of the peers installs."""
    if not peers.exists():
        subprocess.run([sys.executable, "-m", "venv", str(peers)], check=True)
        for name in PEERS:
            subprocess.run([str(peers / "bin" / "pip"), "install", "-q", name], check=False, capture_output=True)
    return peers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--only", default="", help="labels that begin so, comma between; palatine is always there")
    parser.add_argument("--loads", default="kept,closed,browser,one,paced")
    parser.add_argument("--rate", type=int, default=1000, help="requests a second of the load `paced`")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "palatine-bench-peers")
    options = parser.parse_args()
    uwsgi = os.environ.get("PALATINE_BENCH_UWSGI", "uwsgi")
    prefixes = ("palatine", *filter(None, options.only.split(","))) if options.only else ("",)
    wanted = [each for each in servers(filled(options.peers), uwsgi) if each.label.startswith(prefixes)]
    print(sys.version)
    for log in (False, True):
        print(f"request log {'on' if log else 'off'}")
        with tempfile.TemporaryDirectory() as name:
            programs = Runner(Path(name))
            (programs.directory / "app.py").write_text(APP)
            script = programs.directory / "browser.lua"
            script.write_text(BROWSER)
            try:
                with running(programs, [each for each in wanted if each.logs or not log], log=log) as started:
                    for load in options.loads.split(","):
                        compare(started, load, options, script)
            finally:
                programs.close()


if __name__ == "__main__":
    main()
