"""Under wrk while workers are killed and generations come and go: nothing may pile up, nobody may be turned away.

PALATINE_LONG=1 (`make soak`) makes it ten minutes and a hundred reloads, and judges memory too; -s shows the figures.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import trio

from app_server import AppServer
from load import Load
from palatine.bus import request
from running import Runner, program, wait_until

LONG = bool(os.environ.get("PALATINE_LONG"))
#: Seconds: of the load, of its beginning that is not judged, and between two kills.
DURATION, WARM_UP, KILL_EVERY = (600, 120, 5.0) if LONG else (12, 2, 1.0)
RELOADS = 100 if LONG else 10
#: What each process may have grown by from the end of the warm-up on, in KiB.
GROWTH = 1024


def resident(pid: int) -> int:
    """KiB of a process in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def lasting(server: AppServer) -> dict[str, int]:
    """Everybody by name; the workers but the first are killed now and then."""
    workers = {f"worker {number}": pid for number, pid in enumerate(server.pids(), 1)}
    return {"master": server.pid, "zygote": server.zygote(), "link": server.link(), **workers}


def sizes(server: AppServer) -> dict[str, int]:
    """KiB of those nobody kills."""
    everybody = lasting(server)
    return {name: resident(everybody[name]) for name in ("master", "zygote", "link", "worker 1")}


def counted(server: AppServer) -> dict[str, int]:
    """Descriptors of everybody; the link's while it talks with us, which may be one more than otherwise."""
    trio.run(request, server.directory / "ctl", "ping", None)
    return {name: descriptors(pid) for name, pid in lasting(server).items()}


def wait_counted(server: AppServer, before: dict[str, int]) -> None:
    """Nobody has more open than before."""

    def as_before() -> bool:
        link = before["link"]
        return counted(server) in ({**before, "link": link - 1}, before, {**before, "link": link + 1})

    wait_until(as_before, f"as many descriptors as before: {before}, not {counted(server)}")


@pytest.mark.chaos
@pytest.mark.timeout(DURATION + 120)
def test_nothing_piles_up_under_load_and_kills(programs: Runner) -> None:
    server = AppServer(
        programs, "--disable-logging", "--alarm", "a log:x", "--log-alarm", "a x", processes=3, threads=2
    )
    for _ in range(30):
        server.get()
    before = counted(server)
    host, port = server.address()
    command = [program("wrk"), "-t1", "-c6", f"-d{DURATION}s", f"http://{host}:{port}/"]
    began = time.monotonic()
    warm: dict[str, int] = {}
    kills = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as wrk:
        while wrk.poll() is None:
            try:
                wrk.wait(KILL_EVERY)
            except subprocess.TimeoutExpired:
                os.kill(server.pids()[1 + kills % 2], signal.SIGKILL)
                kills += 1
                wait_until(lambda: all(server.pids()), "a worker in each place")
            if not warm and time.monotonic() - began >= WARM_UP:
                warm = sizes(server)
        assert wrk.stdout is not None
        said = wrk.stdout.read()
    grown = {name: size - warm[name] for name, size in sizes(server).items()}
    print(f"\n{kills} kills in {DURATION} s; KiB since second {WARM_UP}: {grown}; {said}")
    assert kills >= DURATION / KILL_EVERY / 2
    assert server.requests() > 1000
    for _ in range(30):
        server.get()
    wait_counted(server, before)
    if LONG:
        assert max(grown.values()) < GROWTH, grown


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_reloads_turn_nobody_away(programs: Runner) -> None:
    server = AppServer(programs, "--disable-logging", processes=2, threads=2)
    before = counted(server)
    with Load(server, 4) as load:
        for number in range(2, RELOADS + 2):
            server.running.send(signal.SIGHUP)
            wait_until(lambda wanted=number: server.generation() >= wanted, f"generation {number}", 60)  # type: ignore[misc]
            wait_until(lambda: server.state() == "ready", "ready", 60)
    print(f"\n{RELOADS} reloads, {load.answers} answers, the slowest after {load.slowest * 1000:.0f} ms")
    assert load.failures == []
    wait_counted(server, before)
