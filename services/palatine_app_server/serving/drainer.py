"""Passes on what slow readers have not taken of responses whose apps are still at work; one thread of a worker.

It lives as long as there is such a reader. It must never touch one that is not `taken`, which changes under `lock`.
"""

import contextlib
import select
import signal
import threading
import time
from typing import Final, Protocol

from palatine_app_server.serving.clients import ClientGoneError

TICK_SECONDS: Final = 0.5


class Reader(Protocol):
    """The sending half of a connection."""

    fd: int
    taken: bool
    lost: bool

    def pass_on(self) -> bool:
        """Send what the client takes now; whether it took any. ClientGoneError."""

    @property
    def pending(self) -> bool:
        """Whether anything is left."""


class Drainer:
    """`patience`: seconds after which a client that takes nothing is given up."""

    def __init__(self, patience: float) -> None:
        self.lock = threading.Lock()
        self._patience = patience
        self._readers: dict[int, tuple[Reader, float]] = {}
        self._epoll: select.epoll | None = None
        self._running = False

    def take(self, reader: Reader) -> None:
        """Pass on what is pending there from now on. Called with `lock` held."""
        if reader.taken:
            return
        if self._epoll is None:
            self._epoll = select.epoll()
        self._epoll.register(reader.fd, select.EPOLLOUT)
        self._readers[reader.fd] = reader, time.monotonic() + self._patience
        reader.taken = True
        if not self._running:
            self._start()

    def leave(self, reader: Reader) -> None:
        """What is still pending there is the caller's again."""
        with self.lock:
            if reader.taken:
                self._forget(reader)

    def _start(self) -> None:
        self._running = True
        # signals are for the threads that look at them: a wait of theirs must be interrupted, not ours
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            threading.Thread(target=self._run, name="palatine-drainer", daemon=True).start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _run(self) -> None:
        assert self._epoll is not None
        while True:
            ready = self._epoll.poll(TICK_SECONDS)
            with self.lock:
                now = time.monotonic()
                for fd, _ in ready:
                    if fd in self._readers:
                        self._pass_on(self._readers[fd][0], now)
                for reader, deadline in list(self._readers.values()):
                    if deadline < now:
                        self._give_up(reader)
                if not self._readers:
                    self._running = False
                    return

    def _pass_on(self, reader: Reader, now: float) -> None:
        try:
            moved = reader.pass_on()
        except ClientGoneError:
            self._give_up(reader)
            return
        if not reader.pending:
            self._forget(reader)
        elif moved:
            self._readers[reader.fd] = reader, now + self._patience

    def _give_up(self, reader: Reader) -> None:
        reader.lost = True
        self._forget(reader)

    def _forget(self, reader: Reader) -> None:
        assert self._epoll is not None
        with contextlib.suppress(OSError):  # the client's reset may have taken it out of the set
            self._epoll.unregister(reader.fd)
        del self._readers[reader.fd]
        reader.taken = False
