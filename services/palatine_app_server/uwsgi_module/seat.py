"""Who this process is, and its line to the master: one for each zygote, taken over by every process it forks."""

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from palatine_app_server.serving.core import Core
from palatine_app_server.system import channel

if TYPE_CHECKING:  # loaded only where there are mules or spoolers
    from palatine_app_server.crews.aide import Aide
    from palatine_app_server.crews.mule import Mule


class Seat:
    """Mutable, because a fork changes who we are: worker, mule or spooler, from 1; all 0 in the zygote."""

    def __init__(self, master: socket.socket, generation: int, harakiri_seconds: int) -> None:
        self._master = master
        self.generation = generation
        self.harakiri_seconds = harakiri_seconds
        self.worker = 0
        self.cores: Sequence[Core] = ()  # a worker's
        self.mule: Mule | None = None
        self.spooler = 0
        self.aide: Aide | None = None  # of a mule or spooler
        self.signals: tuple[int, ...] = ()  # the descriptors signals for this process arrive on

    def ask(self, message: dict[str, Any]) -> bool:
        """Tell the master something; it answers nothing."""
        channel.send(self._master, {**message, "worker": self.worker, "generation": self.generation})
        return True
