import socket
import time
from collections.abc import Iterator

import pytest

from palatine_snmp_agent.lingering import Lingering


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    made = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(3)]
    for one in made:
        one.bind(("127.0.0.1", 0))
    yield made
    for one in made:
        one.close()


def test_the_next_question_is_waited_for_unless_somebody_else_has_one(sockets: list[socket.socket]) -> None:
    one, other, manager = sockets
    lingering = Lingering()
    lingering.add(one.fileno())
    lingering.add(other.fileno())
    now = time.monotonic()
    assert not lingering.more(one.fileno(), now)
    manager.sendto(b"x", one.getsockname())
    assert lingering.more(one.fileno(), time.monotonic())
    assert not lingering.more(one.fileno(), now - 1)
    manager.sendto(b"x", other.getsockname())
    assert not lingering.more(one.fileno(), time.monotonic())
    lingering.remove(other.fileno())
    assert lingering.more(one.fileno(), time.monotonic())
    one.recv(10)
    assert not lingering.more(one.fileno(), time.monotonic())


async def test_an_event_loop_has_one() -> None:
    assert Lingering.of_this_loop() is Lingering.of_this_loop()
