"""The real worker in a thread of the test: its own listener, ledgers and lifeline, and clients that speak raw bytes."""

import contextlib
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from palatine.codec import uwsgi_packet
from palatine.codec.uwsgi_packet import PacketHeader
from palatine.counters import Segment
from palatine.schema import INSTANCE
from palatine_app_server.log.request_log import RequestLogSettings
from palatine_app_server.serving.clients import Limits, Listener
from palatine_app_server.serving.ledger import Ledger
from palatine_app_server.serving.request import WorkerSettings, WsgiApp
from palatine_app_server.serving.worker import Doors, Worker
from running import wait_until

#: A client gives up after this long: a test that hangs fails instead.
PATIENCE = 10.0
#: For tests on a busy machine that are not about time.
PATIENT = Limits(read_seconds=30.0, write_seconds=30.0)
QUICK = Limits(read_seconds=0.3, write_seconds=0.3, idle_seconds=5.0)
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)


class Client:
    """One connection; reads whole responses."""

    def __init__(self, address: Any, receive_buffer: int = 0) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else family)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        if self.socket.family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is sent in pieces shall arrive so
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def end_sending(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def rest(self) -> bytes:
        """Everything up to the end of the connection, a reset included."""
        with contextlib.suppress(ConnectionResetError):
            while piece := self.socket.recv(65536):
                self._read += piece
        found, self._read = self._read, b""
        return found

    def until(self, end: bytes) -> bytes:
        """Everything up to and including `end`."""
        while end not in self._read:
            piece = self.socket.recv(65536)
            assert piece, f"the connection ended behind {self._read!r}"
            self._read += piece
        at = self._read.index(end) + len(end)
        found, self._read = self._read[:at], self._read[at:]
        return found

    def response(self) -> tuple[bytes, bytes]:
        """The head and body of one response, framed by Content-Length or chunks."""
        head = self.until(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is not None:
            body = b""
            while len(self._read) < int(length[1]):
                piece = self.socket.recv(65536)
                assert piece, f"the connection ended behind {head + self._read!r}"
                self._read += piece
            body, self._read = self._read[: int(length[1])], self._read[int(length[1]) :]
            return head, body
        assert b"transfer-encoding: chunked" in head.lower(), head
        body = b""
        while size := int(self.until(b"\r\n"), 16):
            body += self.until_length(size)
            assert self.until(b"\r\n") == b"\r\n"
        assert self.until(b"\r\n") == b"\r\n"
        return head, body

    def until_length(self, size: int) -> bytes:
        while len(self._read) < size:
            piece = self.socket.recv(65536)
            assert piece, "the connection ended"
            self._read += piece
        found, self._read = self._read[:size], self._read[size:]
        return found

    def get(self, path: str = "/", *headers: str) -> tuple[bytes, bytes]:
        """GET on this connection."""
        self.send("\r\n".join([f"GET {path} HTTP/1.1", "Host: h", *headers, "", ""]).encode())
        return self.response()


class Inside:
    """A worker serving `app`."""

    def __init__(
        self,
        directory: Path,
        app: WsgiApp | None,
        *,
        threads: int = 1,
        limits: Limits | None = None,
        protocol: str = "http",
        path: str = "",
        harakiri: int = 0,
        multiprocess: bool = False,
        log_requests: bool = False,
        on_signal: Callable[[int], None] = lambda _number: None,
    ) -> None:
        self.segment = Segment.create(
            directory / "seg",
            INSTANCE,
            {"workers": 1, "slots": 1} | dict.fromkeys(("cores", "activity", "apps"), threads),
            {},
        )
        self.segment.publish()
        listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        listener.bind(path or ("127.0.0.1", 0))
        listener.listen(100)
        listener.setblocking(False)
        self.address: Any = path or listener.getsockname()
        self.ledgers = [Ledger(self.segment, core, 0) for core in range(threads)]
        self.lifeline, self._life = os.pipe2(os.O_CLOEXEC)
        self.signals, self.signal_writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        variables = {"SCRIPT_NAME": "", "SERVER_NAME": "here", "SERVER_PORT": "80"} if protocol == "http" else {}
        self.pause = False
        self.pauses: list[bool] = []
        settings = WorkerSettings(
            worker=1, threads=threads, limits=limits or PATIENT, harakiri_seconds=harakiri, mercy_seconds=60,
            request_log=RequestLogSettings(enabled=log_requests), multiprocess=multiprocess,
        )  # fmt: skip
        self.worker = Worker(
            settings,
            Doors(
                [Listener(listener, listener.fileno(), "here", protocol, variables)],
                self.lifeline,
                [self.signals.fileno()],
            ),
            self.ledgers,
            app,
            on_signal=on_signal,
            total_requests=lambda: 0,
            pause_wanted=lambda: self.pause,
            on_pause=self.pauses.append,
        )
        self.thread = threading.Thread(target=self.worker.run, daemon=True)
        self.thread.start()

    def connect(self, receive_buffer: int = 0) -> Client:
        return Client(self.address, receive_buffer)

    def talk(self, data: bytes) -> bytes:
        """Send `data`, and everything that comes back until the worker closes."""
        with self.connect() as client:
            client.send(data)
            return client.rest()

    def toggle_pause(self) -> None:
        """As a master does, and wait until it is in force."""
        self.pause = not self.pause
        self.worker.look()
        wait_until(lambda: self.pauses and self.pauses[-1] is self.pause, f"pause: {self.pause}")

    def counter(self, name: str) -> int:
        return sum(
            self.segment.cells("cores", row)[self.segment.word("cores", name)] for row in range(len(self.ledgers))
        )

    def cut_lifeline(self) -> None:
        """As a master's death does."""
        if self._life >= 0:
            os.close(self._life)
            self._life = -1

    def close(self) -> None:
        self.worker.drain()
        self.thread.join(PATIENCE)
        ended = not self.thread.is_alive()
        self.cut_lifeline()
        os.close(self.lifeline)
        self.signals.close()
        self.signal_writer.close()
        self.segment.close(unlink=True)
        assert ended, "the worker does not end"


@contextlib.contextmanager
def inside(directory: Path, app: WsgiApp | None, **options: Any) -> Iterator[Inside]:
    """A worker that ends with the test."""
    made = Inside(directory, app, **options)
    try:
        yield made
    finally:
        made.close()


def packet(variables: dict[str, str], modifier1: int = 0, modifier2: int = 0, body: bytes = b"") -> bytes:
    """A request of the uwsgi protocol."""
    block = uwsgi_packet.encode_vars(variables)
    return uwsgi_packet.encode_header(PacketHeader(modifier1, len(block), modifier2)) + block + body


def hello(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The smallest app."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def echo(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Says where it was asked and what it was sent."""
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["REQUEST_METHOD"].encode(), b" ", environ["PATH_INFO"].encode("latin-1"), b" ", body]
