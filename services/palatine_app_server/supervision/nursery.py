"""The zygotes of an instance: one a generation, started, asked for workers, heard and ended. Decides nothing."""

import os
import signal
import socket
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from palatine import exits
from palatine_app_server.log.logs import Logs
from palatine_app_server.starting import privileges
from palatine_app_server.supervision import zygote
from palatine_app_server.supervision.inheritance import Inheritance
from palatine_app_server.system import channel, linux
from palatine_app_server.system.loop import Loop

#: Said by who is a child of ours from then on; a worker whose birth is only announced is not yet.
_BIRTHS: Final = frozenset({"spawned", "aide"})


class _Zygote(NamedTuple):
    pid: int
    orders: socket.socket
    generation: int


class Nursery:
    """Forks zygotes; `hear(generation, message)` is called for what they and their workers say."""

    def __init__(
        self,
        loop: Loop,
        logs: Logs,
        *,
        inheritance: Callable[[int], Inheritance],
        in_child: Callable[[], None],
        hear: Callable[[int, dict[str, Any]], None],
    ) -> None:
        self._loop = loop
        self._logs = logs
        self._inheritance = inheritance
        self._in_child = in_child
        self._obey = hear
        self._zygotes: dict[int, _Zygote] = {}

    @property
    def generations(self) -> set[int]:
        """Those that have a zygote."""
        return set(self._zygotes)

    @property
    def newest_pid(self) -> int:
        """Of the newest generation's zygote; 0 where there is none."""
        newest = self._zygotes.get(max(self._zygotes, default=0))
        return newest.pid if newest else 0

    def generation_of(self, pid: int) -> int:
        """Whose zygote process `pid` is; 0 for another process."""
        return next((gone.generation for gone in self._zygotes.values() if gone.pid == pid), 0)

    def start(self, generation: int, *, must_load: bool) -> None:
        """Fork a zygote that imports the app; without it `must_load` makes it end."""
        ours, theirs = channel.pair()
        linux.be_ready_to_fork()
        pid = os.fork()
        if pid == 0:
            try:
                self._in_child()
                ours.close()
                for other in self._zygotes.values():
                    other.orders.close()
                zygote.run(self._inheritance(generation)._replace(must_load=must_load), theirs)
            finally:
                os._exit(exits.FAILURE)
        theirs.close()
        ours.setblocking(False)
        started = _Zygote(pid, ours, generation)
        self._zygotes[generation] = started
        self._loop.watch(ours.fileno(), lambda: self._hear(started))

    def ask(self, generation: int, worker: int, *, become: bool) -> bool:
        """Ask for a worker, or have the zygote `become` it; False where there is none, and its successor is asked."""
        return self._send(generation, {"op": "become" if become else "fork", "worker": worker})

    def ask_aide(self, generation: int, role: str, number: int) -> bool:
        """Ask for a mule or spooler; False where there is nobody to ask now."""
        return self._send(generation, {"op": "aide", "role": role, "number": number})

    def _send(self, generation: int, message: dict[str, Any]) -> bool:
        parent = self._zygotes.get(generation)
        if parent is None or parent.orders.fileno() < 0:
            return False
        try:
            channel.send(parent.orders, message)
        except OSError as error:
            self._logs.say(f"zygote of generation {generation} cannot be told to fork: {error.strerror}")
            return False
        return True

    def end(self, generation: int) -> bool:
        """Kill it: it may be importing. What it has forked is heard of when it is reaped; False where there is none."""
        gone = self._zygotes.get(generation)
        if gone is not None:
            privileges.kill(gone.pid, signal.SIGKILL)
        return gone is not None

    def hear(self) -> None:
        """Hear what waits: what is about to be reaped may have been born since."""
        for teller in list(self._zygotes.values()):
            if teller.orders.fileno() >= 0:
                self._hear(teller)

    def release(self, generation: int) -> None:
        """It has become its only worker, and is no zygote any more."""
        gone = self._zygotes.pop(generation)
        self._loop.forget(gone.orders.fileno())
        gone.orders.close()

    def bury(self, generation: int) -> int:
        """It was reaped: hear its last words, and forget it; the pid it had."""
        gone = self._zygotes.pop(generation)
        if gone.orders.fileno() >= 0:
            self._hear(gone)  # of workers forked just before
            self._loop.forget(gone.orders.fileno())
            gone.orders.close()  # one that has not said its name yet cannot, and ends
        return gone.pid

    def _hear(self, teller: _Zygote) -> None:
        while teller.orders.fileno() >= 0:  # it may be released by what it says
            try:
                message = channel.receive(teller.orders)
            except BlockingIOError:
                return
            except OSError:
                message = None
            if message is None:
                self._loop.forget(teller.orders.fileno())  # its death is reaped; nothing more comes from here
                return
            if message["op"] in _BIRTHS and not linux.is_child(int(message["pid"])):
                # who says so may be the app's user, and we root: whom we take for our own we signal
                said = f"a process of generation {teller.generation} says it is {message['pid']}"
                self._logs.say(f"*** {said}, which is no child of ours: passed over ***")
                continue
            self._obey(teller.generation, message)
