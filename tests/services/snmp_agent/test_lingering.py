import socket
from collections.abc import Iterator
from contextlib import closing

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
    with closing(Lingering()) as lingering:

        def more() -> bool:
            lingering.begin()
            return lingering.more(one.fileno())

        lingering.add(one.fileno())
        lingering.add(other.fileno())
        assert not more()
        manager.sendto(b"x", one.getsockname())
        assert more()
        manager.sendto(b"x", other.getsockname())
        assert not more()
        lingering.remove(other.fileno())
        assert more()
        one.recv(10)
        assert not more()


async def test_an_event_loop_has_one() -> None:
    with closing(Lingering.of_this_loop()) as lingering:
        assert Lingering.of_this_loop() is lingering
