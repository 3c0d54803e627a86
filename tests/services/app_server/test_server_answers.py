"""What an instance answers on its bus while it ends."""

import os
import signal
from functools import partial

import pytest
import trio

from app_server import AppServer, alive
from palatine.bus import request
from running import Runner, wait_until


@pytest.mark.parametrize("drain", [False, True])
def test_the_answer_to_stop_arrives(programs: Runner, drain: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """An idle instance is gone as soon as it was told to; whoever told it hears so all the same, each time."""
    for round_ in range(3):
        server = AppServer(programs, name=f"app{round_}")
        ask = partial(request, server.directory / "ctl", "stop", {"drain": drain}, timeout=20)
        assert trio.run(ask) == {"stopping": True}
        assert server.running.wait() == 0
        assert not server.directory.exists()


def test_a_link_ends_with_its_master_only(programs: Runner) -> None:
    """A manager's TERM for all processes is the master's to act on."""
    server = AppServer(programs)
    link = server.link()
    for _ in range(2):
        assert trio.run(partial(request, server.directory / "ctl", "ping", timeout=20))["pid"] == server.pid
        assert server.link() == link
        os.kill(link, signal.SIGTERM)
    server.running.send(signal.SIGKILL)
    wait_until(lambda: not alive(link), "its end")
