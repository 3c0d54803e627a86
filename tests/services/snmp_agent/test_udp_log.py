"""What is no SNMP on an app's `udp` socket comes back to its own log, and to nobody else's."""

import socket

import pytest

from app_server import AppServer
from palatine.bus import request
from palatine.errors import PeerError
from running import Runner, free_port


async def test_datagrams_reach_the_log_of_the_app_they_came_to_and_no_neighbours(programs: Runner) -> None:
    port = free_port(socket.SOCK_DGRAM)
    shop = AppServer(programs, "--udp", f"127.0.0.1:{port}", name="shop")
    programs.start("palatine-snmp-agent").wait_for("instance.serving")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        client.sendto(b"hello", ("127.0.0.1", port))
        shop.running.wait_for(f"[udp:127.0.0.1:{client.getsockname()[1]}] hello")
    # The ctl of another instance is a link to the shop's: the agent says who it means.
    body = {"instance": "hostile", "peer": "192.0.2.1:1", "payload": "forged"}
    with pytest.raises(PeerError, match="this is shop, and not hostile"):
        await request(shop.directory / "ctl", "udp.datagram", body)
    assert "forged" not in shop.running.output()
