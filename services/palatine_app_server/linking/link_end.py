"""The master's end of its link: log lines and alarms out, requests in. It never waits for the link.

The socket pair outlives the link process, so what was sent and not yet read reaches the next one.

    master → link   {"op": "config", ...}  {"op": "log", "lines": [...]}  {"op": "raise", ...}
                    {"op": "reply", "id": n, "body": {...}}  {"op": "bye"}
    link → master   {"op": "hello"}  {"op": "request", "id": n, "type": "status", "body": {...}}
                    {"op": "outbox", "waiting": n, "dropped": m}
"""

import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from palatine.companions import Companions, inheritable
from palatine_app_server.linking.doorbell import Doorbell
from palatine_app_server.linking.link_sibling import SiblingGoneError, SiblingLink
from palatine_app_server.log.logs import Logs
from palatine_app_server.system import channel
from palatine_app_server.system.instance import Place
from palatine_app_server.system.loop import Loop

#: Lines are sent in messages of about this many characters: one wake-up of the link for a burst.
BATCH_CHARACTERS: Final = 16_384
#: Alarms and replies waiting for a link that does not read.
QUEUE_MESSAGES: Final = 1000
#: From being asked to end until it is killed.
STOP_SECONDS: Final = 2.0

Answer = Callable[[str, Any], dict[str, Any]]


class LinkEnd:
    """Keeps the link process running and talks to it."""

    def __init__(
        self,
        place: Place,
        logs: Logs,
        loop: Loop,
        *,
        answer: Answer,
        greeting: Callable[[], dict[str, Any]],
        state_dir: str,
        environ: Mapping[str, str],
        on_outbox: Callable[[int, int], None],
        sibling: int = -1,
        wanted: bool = True,
    ) -> None:
        self._logs = logs
        self._on_outbox = on_outbox
        self._dropped = [0, 0]  # by links that have ended, and by this one
        self._environ = inheritable(environ)
        self._answer = answer
        self._greeting = greeting
        self._ours, self._theirs = channel.pair()
        self._ours.setblocking(False)
        self._waiting: deque[dict[str, Any]] = deque()
        self._leaving = False
        self._executed = Companions(logs.say, environ)
        self._forked = SiblingLink(sibling, loop, logs.say) if sibling >= 0 else None
        self._words = [
            "--directory", str(place.directory), "--name", place.name, "--master", str(os.getpid()),
        ] + (["--state-dir", state_dir] if state_dir else [])  # fmt: skip
        loop.watch(self._ours.fileno(), self._hear)
        self._doorbell = None if wanted else Doorbell(place.directory / "ctl", loop, self._begin)

    def start(self, now: float) -> None:
        """Start the link process, unless nobody needs it yet: the first who knocks at `ctl` does."""
        if self._doorbell is None:
            self._begin()
        self.due(now)

    def _begin(self) -> None:
        self.post(self._greeting())  # the rules go ahead of every line they are to be matched with
        if self._forked is None:
            self._execute()
        else:
            self._forked.start(self._words, self._environ, self._theirs.fileno())

    def due(self, now: float) -> float | None:
        """Restart what died; when to call again."""
        if self._leaving:
            self.flush()
        if self._forked is not None:
            try:
                return self._forked.due(now)
            except SiblingGoneError:
                self._forked.close()
                self._forked = None
                self._execute()
        os.set_inheritable(self._theirs.fileno(), True)
        try:
            return self._executed.due(now)
        finally:
            os.set_inheritable(self._theirs.fileno(), False)

    def reaped(self, pid: int, status: int, now: float) -> bool:
        """A child ended; whether it was the link."""
        return self._executed.reaped(pid, status, now)

    def stop(self, now: float) -> None:
        """Ask the link to end, behind everything else that was said to it; one that does not is killed."""
        self._take_doorbell_down()
        self._leaving = True
        self.flush()
        if self._forked is not None:
            self._forked.stop(now, STOP_SECONDS)
        self._executed.stop(now, STOP_SECONDS)

    @property
    def running(self) -> bool:
        """Whether the link process exists."""
        return self._executed.running() or (self._forked is not None and self._forked.running)

    @property
    def pid(self) -> int:
        """The link's process id, 0 while there is none."""
        if self._forked is not None:
            return self._forked.pid
        known = self._executed.status().get("link")
        return known.pid if known is not None else 0

    def post(self, message: dict[str, Any]) -> None:
        """Queue one message; the oldest is dropped when the link has not read for long."""
        if len(self._waiting) >= QUEUE_MESSAGES:
            self._waiting.popleft()
        self._waiting.append(message)

    def flush(self) -> bool:
        """Send what waits, alarms and replies first; False when the link's buffer is full."""
        try:
            while self._waiting:
                channel.send(self._ours, self._waiting[0])
                self._waiting.popleft()
            while self._logs.waiting:
                self._send_lines()
            if self._leaving:
                channel.send(self._ours, {"op": "bye"})
                self._leaving = False
        except OSError:
            return False
        return True

    def close_in_child(self) -> None:
        """In a forked child: neither end is its business."""
        self._ours.close()
        self._theirs.close()
        if self._doorbell is not None:
            self._doorbell.close_in_child()
        if self._forked is not None:
            self._forked.close()

    def _take_doorbell_down(self) -> None:
        if self._doorbell is not None:
            self._doorbell.close()
            self._doorbell = None

    def _execute(self) -> None:
        command = [sys.executable, "-P", "-m", "palatine_app_server.linking.link", "--fd", str(self._theirs.fileno())]
        self._executed.add_command("link", [*command, *self._words])

    def _send_lines(self) -> None:
        waiting = self._logs.waiting
        batch: list[str] = []
        size = 0
        while waiting and size < BATCH_CHARACTERS:
            line = waiting[0]
            if batch and size + len(line) > BATCH_CHARACTERS:
                break
            batch.append(waiting.popleft()[:BATCH_CHARACTERS])
            size += len(line)
        try:
            channel.send(self._ours, {"op": "log", "lines": batch})
        except OSError:
            waiting.extendleft(reversed(batch))
            raise

    def _hear(self) -> None:
        while True:
            try:
                message = channel.receive(self._ours)
            except (BlockingIOError, ConnectionError):
                return
            if message is None:
                return
            if message["op"] == "hello":
                self._dropped = [sum(self._dropped), 0]
                self._take_doorbell_down()
                self._waiting.appendleft(self._greeting())
            elif message["op"] == "outbox":
                self._dropped[1] = int(message["dropped"])
                self._on_outbox(int(message["waiting"]), sum(self._dropped))
            elif message["op"] == "request":
                body = self._answer(str(message["type"]), message.get("body"))
                self.post({"op": "reply", "id": message["id"], "body": body})
