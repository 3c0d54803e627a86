import json
import os
import socket
from pathlib import Path

import pytest
import trio

from palatine.errors import PeerError, ProtocolError
from palatine.handoff import Giver, Offer, decode_request
from palatine.handoff_client import fetch_offers


def listening() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


async def serve_once(giver: Giver) -> None:
    await trio.lowlevel.wait_readable(giver.listener)
    connection = giver.accept()
    assert connection is not None
    await trio.lowlevel.wait_readable(connection)
    giver.answer(connection)
    connection.close()


async def test_a_daemon_receives_only_the_kinds_it_named_and_learns_when_the_master_goes(
    tmp_path: Path,
) -> None:
    stats, snmp = listening(), listening()
    offers = [Offer("stats", "one", {"http": True}, stats.fileno()), Offer("snmp", "two", {}, snmp.fileno())]
    giver = Giver(tmp_path / "handoff", lambda: offers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_once, giver)
        with await fetch_offers(tmp_path, "stats-exporter", ["stats"]) as handoff:
            (offer,) = handoff.offers
            assert offer[:3] == ("stats", "one", {"http": True})
            taken = socket.socket(fileno=os.dup(offer.fd))
            assert taken.getsockname() == stats.getsockname()
            assert not os.get_inheritable(offer.fd)
            with trio.fail_after(2):
                await handoff.wait_closed()
            taken.close()
    giver.close()
    assert not (tmp_path / "handoff").exists()
    stats.close()
    snmp.close()


async def test_nobody_listening_is_a_peer_error(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="handoff"):
        await fetch_offers(tmp_path, "snmp-agent", ["snmp"])


async def test_a_link_to_a_neighbours_master_is_not_followed(tmp_path: Path) -> None:
    for name in ("mine", "neighbour"):
        (tmp_path / name).mkdir()
    asked: list[int] = []

    def offers() -> list[Offer]:
        asked.append(1)
        return []

    giver = Giver(tmp_path / "neighbour" / "handoff", offers)
    (tmp_path / "mine" / "handoff").symlink_to("../neighbour/handoff")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_once, giver)
        with pytest.raises(ProtocolError, match="is no socket"):
            await fetch_offers(tmp_path / "mine", "snmp-agent", ["snmp"])
        assert not asked
        with await fetch_offers(tmp_path / "neighbour", "snmp-agent", ["snmp"]):
            assert asked
    giver.close()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        json.dumps({"v": 2, "daemon": "x", "kinds": []}).encode(),
        b'{"v":1,"daemon":"x","kinds":[1]}',
    ],
)
def test_a_request_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_request(data)


async def test_garbage_from_a_peer_ends_only_its_own_connection(tmp_path: Path) -> None:
    giver = Giver(tmp_path / "handoff", list)
    rude = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    rude.connect(giver.path)
    rude.send(b"x" * 4000)
    connection = giver.accept()
    assert connection is not None
    assert giver.answer(connection) is None
    connection.close()
    rude.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_once, giver)
        with await fetch_offers(tmp_path, "x", ["stats"]) as handoff:
            assert handoff.offers == []
    giver.close()
