"""The clients of the stats sockets and what they wait for; values and order only, no system call.

A client is in one queue at a time. All clients of a queue have the same patience, so the order in which they came is
the order in which they must be dealt with, and looking for the next deadline costs nothing however many there are.
"""

import socket
from collections import OrderedDict
from collections.abc import Iterator
from typing import Protocol

import attrs


@attrs.frozen
class Limits:
    """How long clients may take, and how many there may be.

    Attributes:
        sniff: seconds a plain socket's client is given to send a request before it gets the document raw.
        request: seconds for a whole request head (uWSGI's socket-timeout).
        send: seconds for the client to read the whole answer.
        linger: seconds for a client to notice our end while it is still sending.
        connections: most clients at a time; one more ends the oldest client of the socket that has most of them.
        burst: most connections accepted before those already there are looked at again.
    """

    sniff: float = 0.05
    request: float = 4.0
    send: float = 10.0
    linger: float = 1.0
    connections: int = 4096
    burst: int = 128


class Source(Protocol):
    """Where a listener's documents come from; used by the serving thread only."""

    http: bool

    def render(self) -> bytes:
        """The document as it is now; PalatineError or OSError if it cannot be had."""

    def close(self) -> None:
        """The listener is gone; let go of the counters."""


@attrs.define
class Tally:
    """What was served so far; written by the serving thread alone, read by anybody."""

    raw: int = 0
    http: int = 0
    errors: int = 0
    evicted: int = 0
    bytes_out: int = 0
    clients: int = 0


@attrs.define(eq=False)
class Endpoint:
    """A listener being served, what is served on it, and its clients by descriptor, oldest first."""

    listener: socket.socket
    source: Source
    clients: "OrderedDict[int, Client]" = attrs.field(factory=OrderedDict)
    family: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.family = int(self.listener.family)


@attrs.define(eq=False)
class Client:
    """One connection: where it came from, what it sent, what it still has to get, and until when it may stay."""

    sock: socket.socket
    endpoint: Endpoint
    queue: "Queue"
    deadline: float = 0.0
    received: bytes = b""
    pending: bytes | memoryview = b""


class Queue:
    """Clients with the same patience, in the order in which it ends."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.clients: OrderedDict[int, Client] = OrderedDict()

    def put(self, fd: int, client: Client, now: float) -> None:
        """Let `client`, which is in no queue, wait here from now on."""
        client.queue, client.deadline = self, now + self.seconds
        self.clients[fd] = client

    def first(self) -> Client | None:
        """The client whose patience ends first."""
        return next(iter(self.clients.values()), None)


class Clients:
    """All clients by descriptor, each in its endpoint and in one queue.

    Attributes:
        sniffing: may still send a request, or want the document raw.
        asking: must send a request, or the rest of it.
        sending: have not read the whole answer.
        lingering: have the answer and are still sending.
    """

    def __init__(self, limits: Limits) -> None:
        self.sniffing = Queue(limits.sniff)
        self.asking = Queue(limits.request)
        self.sending = Queue(limits.send)
        self.lingering = Queue(limits.linger)
        self._queues = (self.sniffing, self.asking, self.sending, self.lingering)
        self._by_fd: dict[int, Client] = {}

    def __len__(self) -> int:
        return len(self._by_fd)

    def get(self, fd: int) -> Client | None:
        """The client with this descriptor."""
        return self._by_fd.get(fd)

    def add(self, sock: socket.socket, endpoint: Endpoint, now: float) -> Client:
        """A new client, to wait for what its endpoint expects."""
        queue = self.asking if endpoint.source.http else self.sniffing
        fd = sock.fileno()
        client = self._by_fd[fd] = endpoint.clients[fd] = Client(sock, endpoint, queue)
        queue.put(fd, client, now)
        return client

    def move(self, fd: int, client: Client, queue: Queue, now: float) -> None:
        """Let a client wait in another queue."""
        del client.queue.clients[fd]
        queue.put(fd, client, now)

    def close(self, fd: int, client: Client) -> None:
        """End a client."""
        del client.queue.clients[fd]
        del client.endpoint.clients[fd]
        del self._by_fd[fd]
        client.sock.close()

    def deadline(self) -> float | None:
        """When the first patience ends."""
        return min((first.deadline for queue in self._queues if (first := queue.first())), default=None)

    def overdue(self, now: float) -> Iterator[Client]:
        """Clients whose patience has ended; each must be moved or closed before the next is asked for."""
        for queue in self._queues:
            while (first := queue.first()) is not None and first.deadline <= now:
                yield first
