"""Clients that never pause: what a reload or a recycled worker must not be noticed by."""

import threading
import time
from typing import Self

from app_server import AppServer


class Load:
    """Clients that ask without pause until the end of the block, each answer checked."""

    def __init__(self, server: AppServer, clients: int = 2, headers: tuple[str, ...] = ()) -> None:
        self.answers = 0
        self.slowest = 0.0  # seconds from a request to its answer
        self.failures: list[BaseException] = []
        self._server = server
        self._headers = headers
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        try:
            while not self._over.is_set():
                with self._server.connect() as client:
                    for _ in range(20):
                        began = time.monotonic()
                        head, body = client.get("/", *self._headers)
                        self.slowest = max(self.slowest, time.monotonic() - began)
                        assert body == b"ok", head
                        self.answers += 1
                        if b"Connection: close" in head or self._over.is_set():
                            break
        except BaseException as error:  # noqa: BLE001 - reported by the test's own thread
            self.failures.append(error)
