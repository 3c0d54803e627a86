"""The exporter killed while a real app serves and is scraped: no scrape is refused, no counter goes back."""

import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from running import Runner, Running, free_port, get, wait_until

pytestmark = pytest.mark.interop

APP = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'here']\n"


@contextmanager
def load(url: str) -> Iterator[list[int]]:
    """Requests one after the other until the block ends; how many were answered, as a list that grows."""
    answered: list[int] = []
    failed: list[Exception] = []
    enough = threading.Event()

    def ask() -> None:
        while not enough.is_set():
            try:
                with urllib.request.urlopen(url, timeout=30) as answer:
                    answered.append(answer.status)
            except OSError as error:
                failed.append(error)
                return

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answered
    finally:
        enough.set()
        thread.join(60)
        assert failed == []


def exporter(programs: Runner, port: int) -> Running:
    running = programs.start("palatine-stats-exporter", "--http", f"127.0.0.1:{port}")
    running.wait_for("http.serving", 30)
    return running


def raw(port: int) -> int:
    """Requests as the app's own stats socket tells them; never refused, though it may take its time."""
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        found = b""
        while data := sock.recv(65536):
            found += data
    return sum(worker["requests"] for worker in json.loads(found)["workers"])


def scraped(port: int, metric: str) -> float:
    """The sum of a metric's samples on the page."""
    page = get(f"http://127.0.0.1:{port}/metrics")
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(f"{metric}{{"))


def test_counters_go_on_and_nobody_is_refused(programs: Runner) -> None:
    app, stats, pages = free_port(), free_port(), free_port()
    (programs.directory / "app.py").write_text(APP)
    words = ["--http-socket", f"127.0.0.1:{app}", "--wsgi-file", "app.py", "--master", "--processes", "2"]
    programs.start("palatine-app-server", *words, "--stats", f"127.0.0.1:{stats}").wait_for("Stats server enabled", 30)
    first = exporter(programs, pages)
    with load(f"http://127.0.0.1:{app}/") as answered:
        wait_until(lambda: scraped(pages, "uwsgi_worker_requests_total") > 5, "requests", 30)
        before, told = scraped(pages, "uwsgi_worker_requests_total"), raw(stats)
        first.process.kill()
        first.wait()
        with socket.create_connection(("127.0.0.1", stats), 60) as waiting:
            count = len(answered)
            wait_until(lambda: len(answered) > count + 5, "more requests", 30)
            exporter(programs, pages)
            assert waiting.recv(1) == b"{"
        assert raw(stats) >= told + 5
        assert scraped(pages, "uwsgi_worker_requests_total") >= before + 5
        assert scraped(pages, "palatine_core_seconds_total") > 0
    served = len(answered)
    assert wait_until(lambda: raw(stats) == served, "all counted", 30)
    assert scraped(pages, "palatine_request_duration_seconds_count") == served
