"""Descriptors of tenants who mean harm, and peers that hang: an attempt ends, and says why."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from palatine.discovery import InstanceRef
from palatine.errors import ProtocolError
from palatine_stats_exporter.push.retry_policy import Failed, Outcome
from palatine_stats_exporter.push.turns import Turn
from palatine_stats_exporter.push.uwsgi_formats import Wish
from palatine_stats_exporter.push.uwsgi_pushers import _append, pusher_for
from push_planting import facts_of
from running import free_port
from stats_planting import sample


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


async def push(tmp_path: Path, pusher: str, address: str, fd: int) -> Outcome:
    async def descriptor() -> int:
        return fd

    async def to_asyncio(*_: Any) -> None:
        raise AssertionError

    facts = facts_of(tmp_path / "seg", sample("stats_hello_under_load.json"))
    made = pusher_for(Wish(pusher, address, 3, timeout=1, retry_seconds=1), own=True)
    turn = Turn(InstanceRef("app", tmp_path, os.getuid()), facts, descriptor, to_asyncio, trio.CapacityLimiter(4))
    try:
        return await made.push(turn)
    finally:
        made.close()


def stream() -> int:
    return socket.socket().detach()


@pytest.mark.parametrize("pusher", ["carbon", "zabbix"])
async def test_a_peer_that_never_answers(pusher: str, listener: socket.socket, tmp_path: Path) -> None:
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    assert await push(tmp_path, pusher, address, stream()) == Failed("no end after 1 s")


async def test_a_peer_that_is_not_there(tmp_path: Path) -> None:
    assert await push(tmp_path, "carbon", f"127.0.0.1:{free_port()}", stream()) == Failed("Connection refused")


@pytest.mark.parametrize(
    ("pusher", "reason"),
    [
        ("carbon", "carbon: the master's descriptor is another kind of socket"),
        ("statsd", "Socket operation on non-socket"),
        ("zabbix", "zabbix: the master's descriptor is another kind of socket"),
    ],
)
async def test_a_descriptor_of_another_kind(pusher: str, reason: str, tmp_path: Path) -> None:
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()
    fd = os.open("/dev/null", os.O_RDONLY) if pusher == "statsd" else datagram
    assert await push(tmp_path, pusher, "127.0.0.1:9", fd) == Failed(reason)
    if pusher == "statsd":
        os.close(datagram)


def test_a_pipe_that_would_hold_the_thread_is_no_file() -> None:
    reader, writer = os.pipe()
    with pytest.raises(ProtocolError, match="is no file"):
        _append(writer, b"x")
    assert os.read(reader, 1) == b""  # and it is closed
    os.close(reader)
