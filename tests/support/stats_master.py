"""What a test of the stats-exporter needs of an app-server: a segment, bound stats sockets and a handoff."""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from palatine.counters import Segment
from palatine.handoff import Giver, Offer
from stats_planting import plant, plant_emperor, sample

HELLO = "stats_hello_idle_after_load.json"


class StandInMaster:
    """Binds stats sockets, publishes a segment, answers on `handoff` from a thread."""

    def __init__(self, directory: Path, segment: Segment, kind: str = "stats") -> None:
        self.directory = directory
        self.segment = segment
        self.kind = kind
        self.offers: list[Offer] = []
        self._sockets: list[socket.socket] = []
        self._stop, self._stopped = socket.socketpair()
        self._thread: threading.Thread | None = None

    def bind(self, address: str = "127.0.0.1:0", **options: bool) -> str:
        """Bind and offer a stats socket; where it is (`HOST:PORT`, a path, or `@name`)."""
        if address.startswith(("/", "@")):
            sock = bound(socket.AF_UNIX, address if address.startswith("/") else f"\0{address[1:]}\0")
        else:
            host, _, port = address.rpartition(":")
            host = host.strip("[]")
            sock = bound(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, int(port)))
            address = address.removesuffix(port) + str(sock.getsockname()[1])
        self.offer(sock, address, **options)
        return address

    def offer(self, sock: socket.socket, name: str, **options: bool) -> None:
        """Offer any socket at all."""
        self._sockets.append(sock)
        self.offers.append(Offer(self.kind, name, dict(options), sock.fileno()))

    def start(self) -> None:
        """Publish the segment and hand sockets over."""
        self.segment.publish()
        self.hand_over()

    def hand_over(self) -> None:
        """Serve `handoff` until `fall_silent`."""
        giver = Giver(self.directory / "handoff", lambda: self.offers)
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
        for sock in (*self._sockets, self._stop, self._stopped):
            sock.close()
        for leftover in self.directory.iterdir():
            leftover.unlink()
        self.directory.rmdir()

    def _serve(self, giver: Giver) -> None:
        connections: list[socket.socket] = []
        while True:
            ready, _, _ = select.select([self._stopped, giver.listener, *connections], [], [])
            if self._stopped in ready:
                self._stopped.recv(1)
                break
            for connection in [found for found in connections if found in ready]:
                if giver.answer(connection) is None:
                    connections.remove(connection)
                    connection.close()
            if giver.listener in ready and (accepted := giver.accept()) is not None:
                connections.append(accepted)
        for connection in connections:
            connection.close()
        giver.close()


def bound(family: int, where: Any) -> socket.socket:
    """A listening socket; OSError, nothing left open, if the address cannot be had."""
    sock = socket.socket(family)
    try:
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(100)
    except OSError:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def master(runtime: Path, name: str = "app", captured: dict[str, Any] | None = None) -> Iterator[StandInMaster]:
    """An instance whose counters say what a captured document says; not yet started."""
    directory = runtime / "i" / name
    directory.mkdir(parents=True)
    made = StandInMaster(directory, plant(directory / "seg", captured or sample(HELLO)))
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def emperor(runtime: Path, captured: dict[str, Any]) -> Iterator[StandInMaster]:
    """An emperor, likewise."""
    directory = runtime / "emperor"
    directory.mkdir(parents=True)
    made = StandInMaster(directory, plant_emperor(directory / "seg", captured), "emperor-stats")
    try:
        yield made
    finally:
        made.close()
