"""CPU per SNMPv3 request at each level: the snmp-agent beside net-snmp's snmpd, in one run.

    python tests/bench/bench_snmp_v3.py [ROUNDS [REQUESTS]]

Contestants alternate within each round; a figure is on-CPU time of the server's threads (schedstat) divided by
requests, the ratio the median of pairwise ratios. One client asks in lock step; every reply is authenticated.
"""

import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from palatine.codec import ber, snmp, usm
from palatine.codec.snmp import PduType, Varbind
from palatine_snmp_agent.scoped_pdu import write_pdu
from palatine_snmp_agent.v3_peer import V3Peer
from running import Runner, Running, free_port, runner, wait_until
from snmp_master import BASE, stand_in
from snmpd import start_snmpd

DEFAULTS = ("7", "1500")
USERS = {
    "noAuthNoPriv": ("plain", usm.secrets()),
    "authNoPriv": ("sha", usm.secrets("sha256", "maplesyrup")),
    "authPriv": ("aes", usm.secrets("sha256", "maplesyrup", "aes128", "privpriv1")),
}
AGENT = """rate: {per-second: 0}
users:
  - {name: plain}
  - {name: sha, auth: sha256, auth-passphrase: maplesyrup}
  - {name: aes, auth: sha256, auth-passphrase: maplesyrup, priv: aes128, priv-passphrase: privpriv1}
"""
SNMPD = """createUser plain
createUser sha SHA-256 maplesyrup
createUser aes SHA-256 maplesyrup AES privpriv1
rouser plain noauth
rouser sha auth
rouser aes priv
"""


class Server(NamedTuple):
    """A contestant: its process, its port, and a name it answers."""

    name: str
    running: Running
    port: int
    oid: str


class Client:
    """One user's session with one server."""

    def __init__(self, server: Server, level: str) -> None:
        user, secrets = USERS[level]
        self._peer = V3Peer(user.encode(), secrets)
        self._varbind = snmp.write_varbind(Varbind(ber.parse_oid(server.oid), snmp.NULL))
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", server.port))
        self._socket.settimeout(3)
        self._number = 1
        self._exchange(self._peer.discovery(1), "learnt")

    def ask(self) -> None:
        """One GET, whose answer is authentic; a Report about the time counts as one, too."""
        self._number += 1
        pdu = write_pdu(PduType.GET, ber.signed_octets(self._number), 0, 0, self._varbind)
        self._exchange(self._peer.inform(pdu, self._number, self._number, time.monotonic()), "acknowledged", "learnt")

    def close(self) -> None:
        self._socket.close()

    def _exchange(self, datagram: bytes, *expected: str) -> None:
        self._socket.send(datagram)
        said = self._peer.received(self._socket.recv(65_535), self._number, self._number, time.monotonic())
        assert said in expected, said


def main() -> int:
    rounds, requests = (int(word) for word in [*sys.argv[1:3], *DEFAULTS[len(sys.argv) - 1 :]])
    with (
        tempfile.TemporaryDirectory(prefix="palatine-bench-") as directory,
        runner(Path(directory)) as programs,
        stand_in(programs.runtime) as master,
    ):
        servers = [start_agent(programs, master.port), front_snmpd(programs)]
        print(f"CPU microseconds a GET, medians of {rounds} rounds of {requests} requests")
        for level in USERS:
            ours, theirs = measure(servers, level, rounds, requests)
            ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
            print(
                f"{level:13} palatine {statistics.median(ours):6.1f}  snmpd {statistics.median(theirs):6.1f}"
                f"  ratio {ratio:.2f}"
            )
    return 0


def start_agent(programs: Runner, port: int) -> Server:
    config = programs.directory / "snmp-agent.yaml"
    config.write_text(AGENT)
    running = programs.start("palatine-snmp-agent", "--config", str(config))
    running.wait_for("instance.serving", 30)
    return Server("palatine", running, port, f"{BASE}.1.1")


def front_snmpd(programs: Runner) -> Server:
    port = free_port(socket.SOCK_DGRAM)
    running = start_snmpd(programs, port, SNMPD, "snmp_mib", "snmpv3mibs", "snmpEngine", "usmUser")
    server = Server("snmpd", running, port, "1.3.6.1.2.1.1.3.0")
    wait_until(lambda: Client(server, "authPriv").close() is None, "snmpd answers", 30)
    return server


def measure(servers: list[Server], level: str, rounds: int, requests: int) -> list[list[float]]:
    clients = [Client(server, level) for server in servers]
    figures: list[list[float]] = [[] for _ in servers]
    for client in clients:
        for _ in range(50):
            client.ask()
    for _ in range(rounds):
        for server, client, found in zip(servers, clients, figures, strict=True):
            before = on_cpu(server.running.pid)
            for _ in range(requests):
                client.ask()
            found.append((on_cpu(server.running.pid) - before) / requests / 1000)
    for client in clients:
        client.close()
    return figures


def on_cpu(pid: int) -> int:
    """Nanoseconds all threads of a process were on a CPU."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


if __name__ == "__main__":
    sys.exit(main())
