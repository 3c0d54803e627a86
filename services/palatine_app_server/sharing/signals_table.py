"""uWSGI signals: who registered for which number, and the sockets by which a process hears of one. Plain.

A signal is one byte on a stream socket pair: on a shared pair the first process that reads takes it (targets "",
"worker", "worker0", "mule", "mule0", "spooler", "farm_NAME"), on its own pair only the one addressed ("workerN",
"workers", "active-workers", "muleN", "mules"). The pairs outlive the processes: what waits is read by the next one.
"""

import re
import socket
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from palatine_app_server.system import channel

_NUMBERED: Final = re.compile(r"(worker|mule|farm)(0|[1-9][0-9]*)")


class Farm(NamedTuple):
    """A set of mules under a name: what is sent to it is taken by one of them."""

    name: str
    mules: tuple[int, ...]


class SignalsTable:
    """The registrations of one instance and its signal sockets; `active` says whether a worker takes requests."""

    def __init__(
        self,
        processes: int,
        *,
        mules: int = 0,
        farms: Sequence[Farm] = (),
        buffer_bytes: int = 0,
        active: Callable[[int], bool] = lambda _worker: True,
    ) -> None:
        self._targets: dict[int, dict[int, str]] = {}  # by generation
        self._serving = 0
        self._active = active
        self._farms = list(farms)

        def pair() -> tuple[socket.socket, socket.socket]:
            return channel.queue(socket.SOCK_STREAM, buffer_bytes)

        self._workers = [pair() for _ in range(processes + 1)]  # the first is everybody's
        self._mules = [pair() for _ in range(mules + 1)] if mules else []
        self._farm_pairs = [pair() for _ in farms]
        self._spoolers = pair()

    def readers(self, worker: int) -> tuple[int, ...]:
        """The descriptors worker `worker` (1-based) listens on."""
        return self._workers[0][1].fileno(), self._workers[worker][1].fileno()

    def mule_readers(self, mule: int) -> tuple[int, ...]:
        """The descriptors mule `mule` (1-based) listens on: everybody's, its own, those of its farms."""
        of_farms = [
            pair[1].fileno() for farm, pair in zip(self._farms, self._farm_pairs, strict=True) if mule in farm.mules
        ]
        return self._mules[0][1].fileno(), self._mules[mule][1].fileno(), *of_farms

    def spooler_reader(self) -> int:
        """The descriptor all spoolers listen on."""
        return self._spoolers[1].fileno()

    def register(self, generation: int, number: int, target: str) -> None:
        """`number` goes to `target` while `generation` serves; its last registration counts."""
        self._targets.setdefault(generation, {})[number] = target

    def serve(self, generation: int) -> None:
        """From now on the registrations of `generation` count, and those before it are forgotten."""
        self._serving = generation
        self._targets = {number: table for number, table in self._targets.items() if number >= generation}

    def deliver(self, number: int) -> bool:
        """Send `number` where it is registered; False when nobody is, or a queue is full."""
        serving = self._serving or max(self._targets, default=0)
        target = self._targets.get(serving, {}).get(number)
        if target is None:
            return False
        writers = self._writers(target)
        sent = [channel.put(writer, bytes([number])) for writer in writers]
        return bool(sent) and all(sent)

    def waiting(self) -> list[int]:
        """Bytes each worker has in its own queue; [] where nobody ever registered a signal."""
        return [channel.waiting(pair[1]) for pair in self._workers[1:]] if self._targets else []

    def _writers(self, target: str) -> list[socket.socket]:
        if target in {"", "worker"}:
            return [self._workers[0][0]]
        if target == "workers":
            return [pair[0] for pair in self._workers[1:]]
        if target == "active-workers":
            return [pair[0] for worker, pair in enumerate(self._workers) if worker and self._active(worker)]
        if target == "mules":
            return [pair[0] for pair in self._mules[1:]]
        if target == "spooler":
            return [self._spoolers[0]]
        if target.startswith("farm_"):
            return self._of_farm([farm.name for farm in self._farms].index(target[5:])) if self._knows(target) else []
        return self._one("mule0" if target == "mule" else target)

    def _knows(self, target: str) -> bool:
        return any(farm.name == target[5:] for farm in self._farms)

    def _one(self, target: str) -> list[socket.socket]:
        found = _NUMBERED.fullmatch(target)
        if not found:
            return []
        index = int(found[2])
        if found[1] == "farm":
            return self._of_farm(index - 1)
        pairs = self._workers if found[1] == "worker" else self._mules
        return [pairs[index][0]] if index < len(pairs) else []

    def _of_farm(self, index: int) -> list[socket.socket]:
        return [self._farm_pairs[index][0]] if 0 <= index < len(self._farm_pairs) else []
