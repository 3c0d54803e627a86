"""The app-server with its processes killed -9: the master, all at random, and thousands of requests beside it.

The long form runs with `make chaos`; PALATINE_CHAOS_SEED chooses another order.
"""

import contextlib
import json
import os
import random
import re
import signal
import socket
import threading
from pathlib import Path

import pytest

from app_server import AppServer, alive
from palatine.counters import SegmentView
from running import Runner, free_port, run, wait_until

SEED = int(os.environ.get("PALATINE_CHAOS_SEED", str(random.randrange(1 << 20))))
ROUNDS = int(os.environ.get("PALATINE_CHAOS_ROUNDS", "2"))
KILLS = int(os.environ.get("PALATINE_CHAOS_KILLS", "8"))


def test_a_killed_master_takes_everything_with_it(programs: Runner) -> None:
    """A request being served is served; then workers, zygote and link are gone, and the next start is as any other."""
    port = free_port()
    listen = ("--http-socket", f"127.0.0.1:{port}")
    server = AppServer(programs, processes=2, threads=2, listen=listen)
    everybody = server.processes()
    assert len(everybody) == 4
    with server.connect() as client, server.connect() as idle:
        idle.get()
        client.send(b"GET /wait/it HTTP/1.1\r\nHost: h\r\n\r\n")
        server.entered("it")
        server.running.send(signal.SIGKILL)
        server.running.wait()
        assert idle.rest() == b""
        wait_until(lambda: len([pid for pid in everybody if alive(pid)]) == 1, "the idle worker's end", 5)
        with pytest.raises(ConnectionRefusedError):  # the busy worker has let go of the socket too
            socket.create_connection(("127.0.0.1", port))
        server.let("it")
        head, body = client.response()
        assert body == b"ok"
        assert b"Connection: close" in head
    wait_until(lambda: not [pid for pid in everybody if alive(pid)], "nobody left", 5)
    assert server.directory.exists()
    again = AppServer(programs, processes=2, listen=listen)
    assert again.name == "app"
    assert again.get() == b"ok"
    assert again.running.stop(signal.SIGTERM) == 0
    assert not server.directory.exists()


def test_the_next_start_waits_for_the_killed_masters_workers(programs: Runner) -> None:
    """A worker that cannot let go (a C call that holds the GIL) has the mercy a master would have given it."""
    port = free_port()
    listen = ("--http-socket", f"127.0.0.1:{port}", "--worker-reload-mercy", "6")
    server = AppServer(programs, processes=1, listen=listen, app=HOLDS)
    worker = server.pids()[0]
    with server.connect() as client:
        client.send(b"GET /hold HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until((server.home / "hold.in").exists, "the request in the app")
        server.running.send(signal.SIGKILL)
        server.running.wait()
        again = AppServer(programs, listen=listen)
        assert not alive(worker) or again.get() == b"ok"
        assert again.get() == b"ok"


HOLDS = """
def more(environ):
    open(os.path.join(HERE, "hold.in"), "w").close()
    sum(range(3 * 10**7))
"""


def test_stuck_orphans_end_within_their_mercy(programs: Runner) -> None:
    server = AppServer(programs, "--worker-reload-mercy", "1", threads=2)
    worker = server.pids()[0]
    with server.connect() as client:
        client.send(b"GET /wait/never HTTP/1.1\r\nHost: h\r\n\r\n")
        server.entered("never")
        server.running.send(signal.SIGKILL)
        assert client.rest() == b""
    wait_until(lambda: not alive(worker), "the worker's end", 5)
    assert "Timeout (0:00:01)!" in server.running.output()


@pytest.mark.interop
def test_a_killed_umbrella_leaves_nothing_but_a_directory_that_is_swept(programs: Runner) -> None:
    """`palatine` with companions of its own."""
    words = ("--stats", f"127.0.0.1:{free_port()}")
    server = AppServer(programs, *words, program="palatine", wait=False)
    wait_until(lambda: list(programs.runtime.glob("private-*/i/app/seg")), "the segment")
    private = next(programs.runtime.glob("private-*"))
    wait_until(lambda: list(private.glob("stats-exporter/seg")), "the exporter", 20)
    everybody = server.processes()
    server.running.send(signal.SIGKILL)
    server.running.wait()
    wait_until(lambda: not [pid for pid in everybody if alive(pid)], "nobody left", 10)
    again = AppServer(programs, *words, program="palatine", wait=False)
    wait_until(lambda: not private.exists(), "the sweep")
    wait_until(lambda: list(programs.runtime.glob("private-*/stats-exporter/seg")), "its exporter", 20)
    assert again.running.stop(signal.SIGINT, 20) == 0
    assert not list(programs.runtime.glob("private-*"))


class Load:
    """Clients that ask all the time, each on a connection of its own, and know what they were answered."""

    def __init__(self, server: AppServer, clients: int) -> None:
        self.server = server
        self.answered = 0
        self.cut = 0
        self.wrong: list[str] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                body = self.server.get("/pid")
            except (AssertionError, OSError) as error:
                with self._lock:
                    self.cut += 1
                    if isinstance(error, ConnectionRefusedError | TimeoutError):
                        self.wrong.append(repr(error))
            else:
                with self._lock:
                    self.answered += 1
                    if not body.isdigit():
                        self.wrong.append(repr(body))

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(15)
            assert not thread.is_alive()


def test_random_kills_under_load(programs: Runner) -> None:
    """Workers, zygotes and links killed, reloads and pauses between: whoever was not with a victim is answered."""
    dice = random.Random(SEED)
    server = AppServer(programs, processes=2, threads=2)
    load = Load(server, 2)
    killed = 0
    story: list[str] = []

    def answered(count: int) -> None:
        wait_until(lambda: load.answered >= count, f"answers after {story}, seed {SEED}", 20)

    try:
        for _ in range(KILLS):
            deed = dice.choice(["worker", "worker", "zygote", "link", "reload", "pause", "both"])
            story.append(deed)
            if deed in {"worker", "both"}:
                killed += 1
                with contextlib.suppress(ProcessLookupError):
                    os.kill(dice.choice([pid for pid in server.pids() if pid]), signal.SIGKILL)
            if deed in {"zygote", "both"} and (zygote := server.zygote()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(zygote, signal.SIGKILL)
            if deed == "link" and (link := server.link()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(link, signal.SIGKILL)
            if deed == "reload":
                server.running.send(signal.SIGHUP)
            if deed == "pause":
                server.running.send(signal.SIGTSTP)
                wait_until(lambda: all(row["suspended"] for row in server.read("workers")), "the pause", 5)
                server.running.send(signal.SIGTSTP)
                wait_until(lambda: not any(row["suspended"] for row in server.read("workers")), "its end", 5)
            answered(load.answered + 20)
    finally:
        load.end()
    assert not load.wrong, f"seed {SEED}: {story}: {load.wrong}"
    # a killed worker takes at most what its two threads serve, and connections it had just accepted
    assert load.cut <= 4 * killed, f"seed {SEED}: {story}: {load.cut} cut"
    server.wait_ready()
    wait_until(
        lambda: sorted(server.processes()) == sorted({server.zygote(), server.link(), *server.pids()}),
        f"all there: {server.processes()} {server.zygote()} {server.link()} {server.pids()} seed {SEED}: {story}",
    )
    assert server.running.stop(signal.SIGTERM, 20) == 0
    assert not server.directory.exists()
    print(f"seed {SEED}: {load.answered} answered, {load.cut} cut by {killed} killed workers")


def resources(pids: list[int]) -> tuple[int, int]:
    """(descriptors, PSS in kB) of some processes."""
    fds = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)
    pss = sum(
        int(found[1])
        for pid in pids
        if (found := re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE))
    )
    return fds, pss


@pytest.mark.interop
@pytest.mark.timeout(180)
def test_nothing_grows(programs: Runner) -> None:
    """Thousands of requests, connections and kills later every process has as many descriptors, and no more memory."""
    server = AppServer(programs, "--disable-logging", processes=2, threads=2)
    host, port = server.address()
    url = f"http://{host}:{port}/"

    def round_of_everything() -> None:
        for index in (0, 1):
            victim = server.pids()[index]
            os.kill(victim, signal.SIGKILL)
            server.wait_other_worker(victim, index)
        server.wait_ready()
        run("wrk", "-t1", "-c8", "-d1s", url)
        run("wrk", "-t1", "-c8", "-d1s", "-H", "Connection: close", url)
        for data in (b"", b"GET", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx", b"\0\r\n\r\n") * 20:
            with server.connect() as client:
                client.send(data)
        wait_until(lambda: not any(row["in_request"] for row in server.read("cores")), "an idle server")

    def measure() -> dict[str, tuple[int, int]]:
        return {
            "master": resources([server.pid]),
            "zygote": resources([server.zygote()]),
            "link": resources([server.link()]),
            "workers": resources(server.pids()),
        }

    def quiet() -> dict[str, tuple[int, int]]:
        """Measured when no client is left: kept descriptors of listeners, pipes and the like only."""
        wait_until(lambda: len(os.listdir(f"/proc/{server.pids()[0]}/fd")) < 25, "the clients' descriptors closed")
        return measure()

    round_of_everything()
    before, served = quiet(), server.requests()
    for _ in range(ROUNDS):
        round_of_everything()
    after = quiet()
    print(json.dumps({"requests": server.requests() - served, "before": before, "after": after}))
    for who in before:
        assert after[who][0] <= before[who][0], f"{who} holds more descriptors: {before[who]} → {after[who]}"
        assert after[who][1] < before[who][1] * 1.25 + 2048, f"{who} holds more memory: {before[who]} → {after[who]}"
    with SegmentView.open(server.directory / "seg") as view:
        assert view.read("slots")[0]["respawn_count"] == 2 + ROUNDS
