"""What an SNMP test needs of an app-server: a segment, a bound UDP socket and a handoff; and a manager's datagrams."""

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from palatine.codec import ber, snmp
from palatine.codec.snmp import Body, Message, PduType, Varbind
from palatine.counters import Segment
from palatine.handoff import Giver, Offer
from palatine.schema import INSTANCE
from palatine_snmp_agent.view import Cell, Cells, View

BASE = "1.3.6.1.4.1.35156.17"


def oid(suffix: str) -> bytes:
    """Content octets of a name below uWSGI's base; the base itself for ""."""
    return ber.parse_oid(f"{BASE}.{suffix}" if suffix else BASE)


def cell(name: str, value: Callable[[], bytes]) -> Cell:
    """A cell below uWSGI's base with the value element `value` returns; b"" for none."""

    def write() -> bytes:
        element = value()
        return element and snmp.write_varbind(Varbind(oid(name), element))

    return Cell(ber.oid_arcs(oid(name)), write)


def cells_view(*cells: Cell) -> View:
    """A view of cells below uWSGI's base."""
    return View([Cells(ber.oid_arcs(oid("")), cells)])


def request(
    pdu_type: int,
    *names: str,
    version: int = 1,
    community: bytes = b"foo",
    request_id: int = 0x01020304,
    numbers: tuple[int, int] = (0, 0),
    value: bytes = snmp.NULL,
) -> bytes:
    """A manager's datagram; `numbers` are non-repeaters and max-repetitions of a GETBULK."""
    varbinds = tuple(Varbind(oid(name), value) for name in names)
    body = Body(*numbers, varbinds)
    return snmp.write_message(Message(version, community, pdu_type, ber.signed_octets(request_id), body))


def shown(reply: bytes | None) -> tuple[int, int, list[tuple[str, bytes]]]:
    """A reply's error-status, error-index and varbinds, names below uWSGI's base without it."""
    assert reply is not None
    message = snmp.read_message(reply)
    assert message.pdu_type == PduType.RESPONSE
    found = [(ber.format_oid(name).removeprefix(f"{BASE}."), value) for name, value in message.body.varbinds]
    return message.body.error_status, message.body.error_index, found


def plant(path: Path, *, workers: int = 4, threads: int = 2, values: int = 100) -> Segment:
    """An instance's segment, not yet published."""
    rows = {"sockets": 1, "slots": workers, "workers": workers, "snmp_values": values}
    rows |= dict.fromkeys(("cores", "activity", "apps"), workers * threads)
    return Segment.create(path, INSTANCE, rows, {})


def set_requests(segment: Segment, core: int, count: int, bank: int = 0) -> None:
    """Store how many requests a core has served; `core` counts through all workers."""
    segment.cells("cores", core, bank)[segment.word("cores", "requests")] = count


def set_value(segment: Segment, number: int, tag: int, value: int) -> None:
    """Store an app's value as `uwsgi.snmp_set_...` would."""
    cells = segment.cells("snmp_values", number - 1)
    cells[segment.word("snmp_values", "value")] = value
    cells[segment.word("snmp_values", "type")] = tag


class StandInMaster:
    """An app-server as the snmp-agent sees it: binds a UDP socket, publishes a segment, answers on `handoff`.

    The handoff is served by a thread, so that it works for programs and for trio tests alike.
    """

    def __init__(
        self, runtime: Path, name: str = "app", kind: str = "snmp", address: str = "127.0.0.1", **options: Any
    ) -> None:
        self.directory = runtime / "i" / name
        self.directory.mkdir(parents=True, exist_ok=True)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.port: int = self.socket.getsockname()[1]
        self.offer = Offer(kind, f"{address}:{self.port}", {"community": "foo", **options}, self.socket.fileno())
        self.segment = plant(self.directory / "seg")
        self._stop, self._stopped = socket.socketpair()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Publish the segment and hand sockets over."""
        self.segment.publish()
        self.hand_over()

    def hand_over(self) -> None:
        """Serve `handoff` until `fall_silent`."""
        giver = Giver(self.directory / "handoff", lambda: [self.offer])
        self._thread = threading.Thread(target=self._serve, args=(giver,), daemon=True)
        self._thread.start()

    def fall_silent(self) -> None:
        """End the handoff and its connections, as a master does that is killed or replaced."""
        if self._thread is not None:
            self._stop.send(b"x")
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """Leave nothing behind."""
        self.fall_silent()
        self.segment.close(unlink=True)
        self.socket.close()
        self._stop.close()
        self._stopped.close()

    def _serve(self, giver: Giver) -> None:
        connections: list[socket.socket] = []
        while True:
            ready, _, _ = select.select([self._stopped, giver.listener, *connections], [], [])
            if self._stopped in ready:
                self._stopped.recv(1)
                break
            if giver.listener in ready and (connection := giver.accept()) is not None:
                connections.append(connection)
            for connection in [one for one in connections if one in ready]:
                if giver.answer(connection) is None:
                    connections.remove(connection)
                    connection.close()
        for connection in connections:
            connection.close()
        giver.close()


@contextlib.contextmanager
def stand_in(runtime: Path, name: str = "app", kind: str = "snmp", **options: Any) -> Iterator[StandInMaster]:
    """A master that has started: 1 request served, value 40 a gauge of 77, value 2 the largest Counter64."""
    master = StandInMaster(runtime, name, kind, **options)
    try:
        set_requests(master.segment, 0, 1)
        set_value(master.segment, 40, snmp.GAUGE32, 77)
        set_value(master.segment, 2, snmp.COUNTER64, 2**64 - 1)
        master.start()
        yield master
    finally:
        master.close()
