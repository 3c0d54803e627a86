"""A stand-in for the app-server's link on the real bus, and the alarm-daemon as a real process."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from palatine.bus import Request, Role, Sender, default_role_of, open_sender, request, serve_requests
from palatine.counters import Segment
from palatine.schema import INSTANCE

CONFIG: dict[str, Any] = {
    "alarms": [
        {"name": "note", "action": "cmd", "arg": "cat"},
        {"name": "sig", "action": "signal", "arg": "17"},
    ],
    "rules": [{"alarms": ["note"], "regexp": "TERRIBLE ALARM", "negate": False}],
    "freq": 3,
    "instance": "app",
}


async def until(state: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for a state that is another process's to change."""
    with trio.fail_after(seconds):
        while not state():  # noqa: ASYNC110 - it has no event to wait for
            await trio.sleep(0.01)


class FakeLink:
    """What an app-server shows of itself to this daemon: a segment, a bound `events`, and a `ctl` that takes actions.

    `calls` are all alarm.action requests in order; `runs` counts by id what would really run. A test replaces
    `answer` to hang or refuse.
    """

    def __init__(self, runtime: Path, name: str = "app") -> None:
        self.name = name
        self.path = runtime / "i" / name
        self.calls: list[dict[str, Any]] = []
        self.ids: Counter[str] = Counter()
        self.config = {**CONFIG, "instance": name}
        self.answer: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]] = self.accept
        self.sender: Sender
        self._leave = trio.Event()
        self._left = trio.Event()

    @property
    def messages(self) -> list[str]:
        """What was delivered, repeats of an id left out, as the app-server does."""
        seen: dict[str, str] = {}
        for call in self.calls:
            seen.setdefault(call["id"], call["message"])
        return list(seen.values())

    async def accept(self, call: dict[str, Any]) -> dict[str, Any]:
        return {"accepted": True, "id": call["id"]}

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Be there until `stop`, and leave nothing of the directory, as a stopped app-server does."""
        self.path.mkdir(parents=True, exist_ok=True)
        rows = {"slots": 1, "workers": 1, "cores": 1}
        handlers = {"alarm.action": (Role.OPERATOR, self._action), "alarm.config": (Role.OPERATOR, self._answer_config)}
        segment = Segment.create(self.path / "seg", INSTANCE, rows, {"name": self.name})
        segment.publish()
        async with trio.open_nursery() as nursery:
            serve = functools.partial(serve_requests, role_of=default_role_of(()))
            await nursery.start(serve, self.path / "ctl", handlers)
            async with open_sender(self.path / "events", bind=True) as self.sender:
                self.put("config", self.config)
                task_status.started()
                await self._leave.wait()
            nursery.cancel_scope.cancel()
        segment.close(unlink=True)
        shutil.rmtree(self.path)
        self._left.set()

    async def stop(self) -> None:
        self._leave.set()
        await self._left.wait()

    def put(self, kind: str, body: Any) -> None:
        self.sender.put(kind, body)

    def print(self, *lines: str) -> None:
        self.put("log", {"lines": [f"{line}\n" for line in lines]})

    async def delivered(self, count: int, seconds: float = 20) -> None:
        await until(lambda: len(self.messages) >= count, seconds)

    async def _action(self, asked: Request) -> dict[str, Any]:
        self.calls.append(asked.body)
        self.ids[asked.body["id"]] += 1
        return await self.answer(asked.body)

    async def _answer_config(self, _: Request) -> dict[str, Any]:
        return self.config


class Daemon:
    """The alarm-daemon in a process of its own; its log is JSON lines in a file."""

    def __init__(self, runtime: Path, state: Path, *, level: str = "debug") -> None:
        self.runtime = runtime
        self.state = state
        self.level = level
        self.config = state / "alarm-daemon.yaml"
        self.log = state / "log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def ctl(self) -> Path:
        return self.runtime / "alarm-daemon" / "ctl"

    async def start(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "palatine_alarm_daemon", "--runtime-dir", str(self.runtime)]
        command += ["--state-dir", str(self.state), "--log-format", "json", "--log-level", self.level]
        if self.config.exists():
            command += ["--config", str(self.config)]
        ready = len(self.events("daemon.ready"))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - it outlives any nursery: tests kill and restart it
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        await self.until(lambda: len(self.events("daemon.ready")) > ready or self.ended(), "ready")
        assert not self.ended(), self.log.read_text()

    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        """kill -9, and gone when this returns."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    async def stop(self, signum: int = signal.SIGTERM) -> int:
        assert self.process is not None
        os.kill(self.process.pid, signum)
        await self.until(self.ended, "end")
        return self.process.wait()

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        found = (json.loads(line) for line in lines if line.startswith("{") and line.endswith("}"))
        return [event for event in found if event["event"] == name]

    async def until(self, state: Callable[[], bool], what: str, seconds: float = 20) -> None:
        try:
            await until(state, seconds)
        except trio.TooSlowError:
            pytest.fail(f"no {what} after {seconds} s\n{self.log.read_text()}")

    async def ask(self, kind: str, body: Any = None) -> Any:
        return await request(self.ctl, kind, body)

    async def pending(self) -> list[dict[str, Any]]:
        return list((await self.ask("alarm.pending"))["pending"])

    async def totals(self) -> dict[str, int]:
        return dict((await self.ask("status"))["alarms"])

    async def idle(self, seconds: float = 20) -> None:
        """Nothing is pending any more."""
        with trio.fail_after(seconds):
            while (await self.totals())["pending"]:  # noqa: ASYNC110 - another process's state has no event
                await trio.sleep(0.01)


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., Awaitable[None]]:
    return until


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.fixture
def daemon(runtime: Path, tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(runtime, tmp_path / "state")
    yield daemon
    if daemon.process is not None and not daemon.ended():
        daemon.kill()


@pytest.fixture
async def links(runtime: Path) -> AsyncIterator[Callable[..., Awaitable[FakeLink]]]:
    """Call with a name to get a link that runs; all end with the test."""
    started: list[FakeLink] = []
    async with trio.open_nursery() as nursery:

        async def start(name: str = "app", config: dict[str, Any] | None = None) -> FakeLink:
            link = FakeLink(runtime, name)
            if config is not None:
                link.config = config
            await nursery.start(link.run)
            started.append(link)
            return link

        yield start
        for link in started:
            if link.path.exists():
                await link.stop()
        nursery.cancel_scope.cancel()
