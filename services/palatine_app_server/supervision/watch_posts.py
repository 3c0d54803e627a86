"""What the master keeps an eye or an ear on where the config asks for it: mounts, its heartbeat, a socket for notes.

None may block: a mount whose server is gone hangs whoever looks at it, so a short-lived child looks.
"""

import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Final

from palatine.codec import emperor_pipe
from palatine.counters import Segment
from palatine_app_server.log.logs import Logs
from palatine_app_server.orders.vassal import EmperorPipe
from palatine_app_server.system import unix_sockets
from palatine_app_server.system.loop import Loop
from palatine_app_server.system.part import Part

#: A mount that has not answered by then is as good as gone.
_ANSWER_SECONDS: Final = 30.0
_NOTE_BYTES: Final = 8192
_STAT: Final = ("/usr/bin/env", "stat", "-f", "-c", "", "--")


class Heartbeat(Part):
    """A sign of life to the Emperor every `seconds`."""

    def __init__(self, emperor: EmperorPipe, seconds: int) -> None:
        self._emperor = emperor
        self._seconds = seconds
        self._next = 0.0

    def start(self, now: float) -> None:
        """The first one is due."""
        self._next = now

    def tick(self, now: float) -> None:
        """Send it."""
        if now >= self._next:
            self._emperor.tell(emperor_pipe.HEARTBEAT)
            self._next = now + self._seconds

    def due(self, now: float) -> float:
        """The next one."""
        del now
        return self._next


class CallForHelp(Part):
    """Asks the Emperor for reinforcements: all workers busy, at most every `seconds`; or `queue` connections waiting.

    An Emperor with `emperor-broodlord` answers, uWSGI's or ours. 0 means that this is no reason.
    """

    def __init__(
        self, emperor: EmperorPipe, segment: Segment, *, seconds: int, queue: int, say: Callable[[str], None]
    ) -> None:
        self._emperor = emperor
        self._segment = segment
        self._seconds = seconds
        self._queue = queue
        self._say = say
        self._overloads = 0
        self._next_look = self._next_call = 0.0

    def tick(self, now: float) -> None:
        """Once a second, as the listen queue is measured."""
        if now < self._next_look:
            return
        self._next_look = now + 1.0
        waiting = self._segment.cells("server")[self._segment.word("server", "listen_queue")]
        if self._queue and waiting >= self._queue:
            self._call(f"backlog: {waiting}")
        if self._seconds and self._everybody_is_busy():
            self._overloads += 1
            if now >= self._next_call:
                self._next_call = now + self._seconds
                self._call(f"overload: {self._overloads}")

    def _call(self, why: str) -> None:
        self._say(f"asking Emperor for reinforcements ({why})...")
        self._emperor.tell(emperor_pipe.REINFORCEMENTS)

    def _everybody_is_busy(self) -> bool:
        segment = self._segment
        threads = segment.rows("cores") // segment.rows("slots")
        pid, busy = segment.word("slots", "pid"), segment.word("cores", "in_request")
        there = [row for row in range(segment.rows("slots")) if segment.cells("slots", row)[pid]]
        return bool(there) and all(
            any(
                segment.cells("cores", core, bank)[busy]
                for core in range(row * threads, (row + 1) * threads)
                for bank in (0, 1)
            )
            for row in there
        )


class Notes(Part):
    """`notify-socket`: what is sent to a UNIX datagram socket is in the log."""

    def __init__(self, path: str, loop: Loop, logs: Logs) -> None:
        self._path = path
        self._loop = loop
        self._logs = logs
        self._socket = unix_sockets.bound("notify-socket", path, None, socket.SOCK_DGRAM)

    def start(self, now: float) -> None:
        """Listen."""
        del now
        self._loop.watch(self._socket.fileno(), self._hear)
        self._logs.say(f"notification socket enabled on {self._path} (fd: {self._socket.fileno()})")

    def close_in_child(self) -> None:
        """Only the master listens."""
        self._socket.close()

    def stop(self, now: float) -> None:
        """Nobody listens any more."""
        del now
        if self._socket.fileno() >= 0:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            os.unlink(self._path)

    def _hear(self) -> None:
        try:
            data = self._socket.recv(_NOTE_BYTES)
        except BlockingIOError:
            return
        self._logs.say_dated(f"[notify-socket] {data.decode(errors='replace')}")


class MountWatch(Part):
    """`check-mountpoint`: `on_loss` is called when a filesystem cannot be reached, or does not answer."""

    def __init__(
        self, paths: Sequence[str], seconds: float, on_loss: Callable[[], None], say: Callable[[str], None]
    ) -> None:
        self._paths = paths
        self._seconds = seconds
        self._on_loss = on_loss
        self._say = say
        self._looking: dict[int, tuple[str, float]] = {}  # child → path, when it must be back
        self._next = 0.0

    def tick(self, now: float) -> None:
        """Look again, and see who has been looking for too long."""
        for pid, (path, back) in list(self._looking.items()):
            if now >= back:
                self._lost(path)
                os.kill(pid, signal.SIGKILL)  # it may not die before its filesystem answers
                del self._looking[pid]
        if now < self._next:
            return
        self._next = now + self._seconds
        busy = {path for path, _ in self._looking.values()}
        for path in self._paths:
            if path not in busy:
                argv = [*_STAT, path]
                null = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
                pid = os.posix_spawn(argv[0], argv, dict(os.environ), file_actions=[null])
                self._looking[pid] = (path, now + _ANSWER_SECONDS)

    def due(self, now: float) -> float:
        """The next look."""
        del now
        return self._next

    def reaped(self, pid: int, status: int, now: float) -> bool:
        """One has looked."""
        del now
        path, _ = self._looking.pop(pid, ("", 0.0))
        if path and status:
            self._lost(path)
        return bool(path)

    def _lost(self, path: str) -> None:
        self._say(f"mountpoint {path} failed, triggering detonation...")
        self._on_loss()
