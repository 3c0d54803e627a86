import contextlib
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from palatine.errors import ProtocolError
from palatine_stats_exporter.serving import HTTP_HEADER, StatsServer
from palatine_stats_exporter.waiting import Limits
from running import wait_until
from stats_planting import SAMPLES

DOCUMENT = b'{\n\t"version":"2.0.31"\n}'
QUICK = Limits(sniff=0.05, request=0.3, send=0.5, linger=0.2)


class Source:
    """Gives the same document again and again, and counts."""

    def __init__(self, *, http: bool = False, document: bytes = DOCUMENT) -> None:
        self.http = http
        self.document = document
        self.rendered = 0
        self.closed = False

    def render(self) -> bytes:
        self.rendered += 1
        if not self.document:
            raise ProtocolError("cut short")
        return self.document

    def close(self) -> None:
        self.closed = True


class Served:
    """A server in its thread, and listeners it serves."""

    def __init__(self, limits: Limits = QUICK) -> None:
        self.errors: list[Exception] = []
        self.keep = contextlib.ExitStack()
        self.server = StatsServer(limits, self.errors.append)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()

    def add(self, source: Source) -> tuple[str, int]:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(4096)
        self.server.add(listener, source)
        where: tuple[str, int] = listener.getsockname()
        return where

    def stop(self) -> None:
        self.server.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()


@contextlib.contextmanager
def serving(limits: Limits = QUICK) -> Iterator[Served]:
    made = Served(limits)
    try:
        yield made
    finally:
        made.stop()
        made.keep.close()


def read_all(sock: socket.socket) -> bytes:
    sock.settimeout(30)
    found = b""
    while data := sock.recv(65536):
        found += data
    return found


def ask(where: tuple[str, int], *parts: bytes, pause: float = 0.02) -> bytes:
    """Connect, send the parts one after the other, read to the end."""
    with socket.create_connection(where) as sock:
        for part in parts:
            sock.sendall(part)
            readable(sock, pause)
        return read_all(sock)


def readable(sock: socket.socket, seconds: float) -> None:
    """Wait until there is an answer, but no longer: what is sent next must arrive on its own."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.poll(seconds * 1000)


def test_a_silent_client_gets_the_document_raw() -> None:
    with serving() as served:
        began = time.monotonic()
        assert ask(served.add(Source())) == DOCUMENT
        assert time.monotonic() - began >= 0.05
        assert served.server.tally.raw == 1


def test_a_client_that_ended_its_side_need_not_wait() -> None:
    with serving(Limits(sniff=60)) as served, socket.create_connection(served.add(Source())) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == DOCUMENT


@pytest.mark.parametrize("http", [False, True])
@pytest.mark.parametrize("request_line", [b"GET / HTTP/1.1", b"GET /any/path?x HTTP/1.0", b"DELETE / HTTP/1.1"])
def test_a_request_gets_uwsgis_header_and_the_document(http: bool, request_line: bytes) -> None:  # noqa: FBT001
    captured = (SAMPLES / "stats_http_headers.txt").read_bytes()
    with serving() as served:
        found = ask(served.add(Source(http=http)), request_line + b"\r\nHost: x\r\n\r\n")
        assert found == captured + DOCUMENT
        assert captured == HTTP_HEADER
        assert served.server.tally.http == 1


def test_head_gets_the_header_alone_and_nothing_is_rendered() -> None:
    source = Source()
    with serving() as served:
        assert ask(served.add(source), b"HEAD / HTTP/1.1\r\n\r\n") == HTTP_HEADER
    assert source.rendered == 0


def test_a_body_nobody_reads_does_not_reset_the_answer() -> None:
    with serving() as served:
        where = served.add(Source(http=True, document=b"x" * 3_000_000))
        head = b"POST /any HTTP/1.1\r\nContent-Length: 200000\r\n\r\n"
        assert ask(where, head, b"b" * 200_000) == HTTP_HEADER + b"x" * 3_000_000


@pytest.mark.parametrize("http", [False, True])
def test_a_request_in_pieces_is_waited_for(http: bool) -> None:  # noqa: FBT001
    with serving(Limits(sniff=0.05, request=30)) as served:
        parts = (b"G", b"ET / HT", b"TP/1.1\r\nHost: x\r\n", b"\r", b"\n")
        assert ask(served.add(Source(http=http)), *parts, pause=0.03) == HTTP_HEADER + DOCUMENT


@pytest.mark.parametrize("http", [False, True])
def test_a_request_that_never_ends_is_answered_at_its_deadline(http: bool) -> None:  # noqa: FBT001
    with serving() as served:
        assert ask(served.add(Source(http=http)), b"GET / HTTP/1.1\r\n") == HTTP_HEADER + DOCUMENT


def test_a_silent_client_of_stats_http_gets_nothing_at_its_deadline() -> None:
    with serving() as served:
        began = time.monotonic()
        assert ask(served.add(Source(http=True))) == b""
        assert time.monotonic() - began >= 0.3


def test_what_is_no_request_gets_the_document_raw_at_once() -> None:
    with serving(Limits(sniff=60)) as served:
        assert ask(served.add(Source()), b"\x16\x03\x01\x02") == DOCUMENT


def test_a_document_that_cannot_be_had_closes_the_connection_and_is_counted() -> None:
    with serving() as served:
        broken, sound = served.add(Source(document=b"")), served.add(Source())
        assert ask(broken) == b""
        assert ask(sound) == DOCUMENT
        assert served.server.tally.errors == 1
        assert [str(error) for error in served.errors] == ["cut short"]


def test_who_waits_together_gets_one_rendering() -> None:
    source, all_wait = Source(), threading.Event()
    with serving() as served:
        where = served.add(source)
        served.server.call(lambda: bool(all_wait.wait(30)))
        clients = [socket.create_connection(where) for _ in range(50)]
        all_wait.set()
        assert {read_all(client) for client in clients} == {DOCUMENT}
        for client in clients:
            client.close()
    assert source.rendered == 1


def test_a_client_that_does_not_read_delays_nobody_and_is_given_up() -> None:
    with serving() as served:
        where = served.add(Source(document=b"x" * 20_000_000))
        with socket.create_connection(where) as slow:
            wait_until(lambda: served.server.tally.bytes_out > 0, "a first part")
            assert ask(served.add(Source())) == DOCUMENT
            wait_until(lambda: served.server.tally.clients == 0, "the end of its patience")
            assert 0 < len(read_until_reset(slow)) < 20_000_000


def read_until_reset(sock: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while data := sock.recv(65536):
            found += data
    return found


@pytest.mark.parametrize("http", [False, True])
def test_two_thousand_idle_clients_delay_nobody(http: bool) -> None:  # noqa: FBT001
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    try:
        with serving(Limits(request=60, sniff=60)) as served:
            where = served.add(Source(http=http))
            idle = [served.keep.enter_context(socket.create_connection(where)) for _ in range(2000)]
            wait_until(lambda: served.server.tally.clients == len(idle), "all accepted", 30)
            for _ in range(20):
                assert ask(where, b"GET / HTTP/1.1\r\n\r\n") == HTTP_HEADER + DOCUMENT
            assert served.server.tally.evicted == 0  # they all still wait, and nobody waited for them
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_one_client_too_many_ends_the_one_that_waited_longest() -> None:
    with serving(Limits(request=60, connections=3)) as served:
        where = served.add(Source(http=True))
        clients: list[socket.socket] = []
        while len(clients) < 3:
            clients.append(served.keep.enter_context(socket.create_connection(where)))
            wait_until(lambda: served.server.tally.clients == len(clients), "accepted")
        assert ask(where, b"GET / HTTP/1.1\r\n\r\n") == HTTP_HEADER + DOCUMENT
        assert read_all(clients[0]) == b""
        assert served.server.tally.evicted == 1
        clients[1].sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert read_all(clients[1]) == HTTP_HEADER + DOCUMENT


def test_a_crowd_on_one_socket_costs_no_client_of_another() -> None:
    with serving(Limits(request=60, connections=5)) as served:
        quiet, crowded = served.add(Source(http=True)), served.add(Source(http=True))
        first = served.keep.enter_context(socket.create_connection(quiet))
        crowd = [served.keep.enter_context(socket.create_connection(crowded)) for _ in range(20)]
        wait_until(lambda: served.server.tally.evicted == 16, "the crowd thinned out")
        assert read_all(crowd[0]) == b""
        first.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert read_all(first) == HTTP_HEADER + DOCUMENT


def test_without_descriptors_it_gives_up_the_oldest_client() -> None:
    with serving(Limits(request=60)) as served:
        where = served.add(Source(http=True))
        first = socket.create_connection(where)
        wait_until(lambda: served.server.tally.clients == 1, "accepted")
        second = socket.socket()
        used = len(list(Path("/proc/self/fd").iterdir()))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink())
        fill = [second.dup() for _ in range(highest + 1 - used)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    fill.append(second.dup())
            second.connect(where)
            assert read_all(first) == b""
            second.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert read_all(second) == HTTP_HEADER + DOCUMENT
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for sock in (*fill, first, second):
                sock.close()


def test_a_removed_listener_is_closed_and_its_waiting_clients_with_it() -> None:
    source = Source(http=True)
    with serving(Limits(request=60)) as served:
        where = served.add(source)
        client = socket.create_connection(where)
        wait_until(lambda: served.server.tally.clients == 1, "accepted")
        served.server.remove(source)
        assert read_all(client) == b""
        wait_until(lambda: source.closed, "closed")
        client.close()
        again = socket.socket()
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(where)
        again.listen()
        again.close()


class Spiteful(socket.socket):
    """A listener whose owner makes it blocking again each time, just before it is used."""

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001 - as in socket
        del flag
        super().setblocking(True)


def test_a_listener_made_blocking_by_its_owner_is_shut_down_and_the_rest_served() -> None:
    with serving() as served:
        where = served.add(Source())
        hostile = Spiteful()
        hostile.bind(("127.0.0.1", 0))
        hostile.listen()
        served.server.add(hostile, Source())
        assert not served.server.rescue()
        # accepted, and then the server's next accept hangs
        served.keep.enter_context(socket.create_connection(hostile.getsockname()))
        wait_until(served.server.rescue, "a rescue")
        assert ask(where) == DOCUMENT
        assert hostile.fileno() == -1


def test_stopping_ends_everything() -> None:
    served = Served(Limits(request=60))
    source = Source(http=True)
    client = socket.create_connection(served.add(source))
    wait_until(lambda: served.server.tally.clients == 1, "accepted")
    served.stop()
    assert read_all(client) == b""
    assert source.closed
    client.close()
