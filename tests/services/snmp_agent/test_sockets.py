import contextlib
import socket
from collections.abc import Iterator

import pytest
import trio

from palatine.codec import ber, snmp
from palatine.codec.snmp import PduType
from palatine.schema import AGENT
from palatine_snmp_agent.doors import AppDoor
from palatine_snmp_agent.responder import Responder
from palatine_snmp_agent.sockets import DRAIN, Endpoint
from palatine_snmp_agent.tally import Tally
from palatine_snmp_agent.view import Cell, Cells, View
from snmp_master import oid, request, shown

(TABLE,) = AGENT


@pytest.fixture
def tally() -> Tally:
    return Tally(memoryview(bytearray(8 * len(TABLE.fields))).cast("Q"), TABLE.word)


@pytest.fixture
def responder() -> AppDoor:
    arcs = ber.oid_arcs(oid("1.1"))
    varbind = snmp.write_varbind(snmp.Varbind(oid("1.1"), snmp.counter64(7)))
    return AppDoor(Responder(View([Cells(arcs[:-1], [Cell(arcs, lambda: varbind)])]), b"foo"))


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(2)
        yield made


def bound(family: int = socket.AF_INET) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    return made


def counted(tally: Tally, field: str) -> int:
    count: int = tally._cells[TABLE.word(field)]
    return count


async def test_datagrams_are_answered_to_who_sent_them(
    tally: Tally, responder: AppDoor, manager: socket.socket
) -> None:
    agent = bound()
    address = agent.getsockname()
    async with trio.open_nursery() as nursery:
        with Endpoint(agent, "x", tally, responder) as endpoint:
            nursery.start_soon(endpoint.serve)
            for number in range(5):
                manager.sendto(request(PduType.GET, "1.1", request_id=number), address)
                with trio.fail_after(2):
                    await trio.lowlevel.wait_readable(manager)
                reply, sender = manager.recvfrom(2000)
                assert sender == address
                assert shown(reply) == (0, 0, [("1.1", snmp.counter64(7))])
                assert snmp.read_message(reply).request_id == bytes((number,))
            nursery.cancel_scope.cancel()
    assert endpoint.statistics() == {"address": "x", "snmp": True, "received": 5, "replied": 5, "unsent": 0}
    assert counted(tally, "out_pkts") == 5


def test_a_drain_handles_so_many_datagrams_and_then_lets_others_on(
    tally: Tally, responder: AppDoor, manager: socket.socket
) -> None:
    with Endpoint(agent := bound(), "x", tally, responder) as endpoint:
        for _ in range(DRAIN + 3):
            manager.sendto(request(PduType.GET, "1.1"), agent.getsockname())
        assert endpoint.drain()
        assert endpoint.received == DRAIN
        assert not endpoint.drain()
        assert endpoint.received == endpoint.replied == DRAIN + 3
        assert not endpoint.drain()


def test_ipv6(tally: Tally, responder: AppDoor) -> None:
    with (
        bound(socket.AF_INET6) as manager,
        Endpoint(agent := bound(socket.AF_INET6), "x", tally, responder) as endpoint,
    ):
        manager.settimeout(2)
        manager.sendto(request(PduType.GET, "1.1"), agent.getsockname())
        endpoint.drain()
        assert shown(manager.recv(2000)) == (0, 0, [("1.1", snmp.counter64(7))])
        assert list(tally.sources.statistics()) == ["::1"]


def test_an_empty_datagram_is_counted_and_forgotten(tally: Tally, responder: AppDoor, manager: socket.socket) -> None:
    with Endpoint(agent := bound(), "x", tally, responder) as endpoint:
        manager.sendto(b"", agent.getsockname())
        endpoint.drain()
    assert (endpoint.received, endpoint.replied) == (1, 0)
    assert counted(tally, "in_asn_parse_errs") == 1


@pytest.mark.parametrize("snmp_is", ["on", "off"])
def test_what_is_not_snmp_on_a_udp_socket_is_passed_on(
    tally: Tally, responder: AppDoor, manager: socket.socket, snmp_is: str
) -> None:
    passed: list[tuple[str, bytes]] = []
    answers = snmp_is == "on"
    with Endpoint(
        agent := bound(), "x", tally, responder if answers else None, lambda peer, data: passed.append((peer, data))
    ) as endpoint:
        for datagram in (b"hello\n", b"", b"\xff\x00", request(PduType.GET, "1.1")):
            manager.sendto(datagram, agent.getsockname())
        endpoint.drain()
    peer = f"127.0.0.1:{manager.getsockname()[1]}"
    expected = [b"hello\n", b"", b"\xff\x00"] + ([] if answers else [request(PduType.GET, "1.1")])
    assert passed == [(peer, datagram) for datagram in expected]
    assert endpoint.replied == answers


def test_ipv6_peers_are_written_in_brackets(tally: Tally) -> None:
    passed: list[str] = []
    with bound(socket.AF_INET6) as manager:
        agent = bound(socket.AF_INET6)
        with Endpoint(agent, "x", tally, None, lambda peer, _: passed.append(peer)) as endpoint:
            manager.sendto(b"hello", agent.getsockname())
            endpoint.drain()
        assert passed == [f"[::1]:{manager.getsockname()[1]}"]


@pytest.mark.parametrize(
    ("wildcard", "asked"), [("0.0.0.0", "127.0.0.1"), ("0.0.0.0", "127.0.0.77"), ("::", "::1"), ("::", "127.0.0.78")]
)
def test_a_reply_comes_from_the_address_that_was_asked(
    tally: Tally, responder: AppDoor, wildcard: str, asked: str
) -> None:
    agent = socket.socket(socket.AF_INET6 if ":" in wildcard else socket.AF_INET, socket.SOCK_DGRAM)
    if ":" in wildcard:
        agent.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    agent.bind((wildcard, 0))
    port = agent.getsockname()[1]
    family = socket.AF_INET6 if ":" in asked else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as manager, Endpoint(agent, "x", tally, responder) as endpoint:
        manager.settimeout(2)
        manager.connect((asked, port))  # takes replies from there only
        manager.send(request(PduType.GET, "1.1"))
        assert not endpoint.drain()
        assert shown(manager.recv(2000)) == (0, 0, [("1.1", snmp.counter64(7))])
        assert (endpoint.replied, endpoint.unsent) == (1, 0)


def test_a_reply_the_network_refuses_is_counted(tally: Tally, responder: AppDoor, manager: socket.socket) -> None:
    class Refusing(socket.socket):
        def sendto(self, *_: object) -> int:
            raise OSError(101, "Network is unreachable")

    agent = Refusing(socket.AF_INET, socket.SOCK_DGRAM)
    agent.bind(("127.0.0.1", 0))
    with Endpoint(agent, "x", tally, responder) as endpoint:
        manager.sendto(request(PduType.GET, "1.1"), agent.getsockname())
        assert not endpoint.drain()
    assert endpoint.unsent == counted(tally, "send_failures") == 1


@pytest.mark.parametrize("connected", ["connected", "unconnected"])
async def test_a_socket_its_owner_shut_down_is_an_error_not_a_busy_loop(
    tally: Tally, responder: AppDoor, manager: socket.socket, connected: str
) -> None:
    agent = bound()
    if connected == "connected":
        agent.connect(manager.getsockname())
    with Endpoint(agent, "x", tally, responder) as endpoint:
        with contextlib.suppress(OSError):  # says that it is not connected, and shuts it all the same
            agent.shutdown(socket.SHUT_RD)
        with trio.fail_after(2), pytest.raises(OSError, match="shut down"):
            await endpoint.serve()
