from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from palatine.bus import Peer, Request, Role, serve_requests
from palatine.errors import DeadlineError, PeerError
from palatine_alarm_daemon import clients as clients_module
from palatine_alarm_daemon.clients import Clients

Until = Callable[..., Awaitable[None]]


class Server:
    """An instance's ctl that counts who asks; a kept connection is one peer."""

    def __init__(self, endpoint: Path) -> None:
        self.endpoint = endpoint
        self.asked = 0
        self.hang = False
        self._scope = trio.CancelScope()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        handlers = {"x": (Role.VIEWER, self._answer)}
        with trio.CancelScope() as self._scope:
            await serve_requests(self.endpoint, handlers, role_of=self._role, task_status=task_status)

    def stop(self) -> None:
        self._scope.cancel()

    @staticmethod
    def _role(_: Peer) -> Role:
        return Role.DEPLOYER

    async def _answer(self, asked: Request) -> Any:
        self.asked += 1
        if self.hang:
            await trio.sleep_forever()
        if asked.body == "refuse":
            raise PeerError("no", "no")
        return asked.body


async def test_a_connection_is_kept_until_it_is_idle(
    tmp_path: Path, nursery: trio.Nursery, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients_module, "IDLE_SECONDS", 0.2)
    server = Server(tmp_path / "ctl")
    await nursery.start(server.run)
    clients = Clients(nursery, structlog.get_logger())
    for number in range(50):
        assert await clients.ask(server.endpoint, "x", number, 5) == number
    assert server.endpoint in clients._kept
    await until(lambda: not clients._kept)
    assert await clients.ask(server.endpoint, "x", "again", 5) == "again"


async def test_nobody_there_is_noticed_at_once(tmp_path: Path, nursery: trio.Nursery) -> None:
    clients = Clients(nursery, structlog.get_logger())
    with trio.fail_after(1), pytest.raises(PeerError) as refused:
        await clients.ask(tmp_path / "ctl", "x", None, 60)
    assert refused.value.code == "unavailable"
    assert not clients._kept


async def test_trouble_drops_the_connection_but_not_who_waits_on_it(
    tmp_path: Path, nursery: trio.Nursery, until: Until
) -> None:
    server = Server(tmp_path / "ctl")
    await nursery.start(server.run)
    clients = Clients(nursery, structlog.get_logger())
    for _ in range(3):
        await clients.ask(server.endpoint, "x", 1, 5)
    kept = clients._kept[server.endpoint]
    server.hang = True
    results: list[str] = []

    async def ask(seconds: float) -> None:
        try:
            await clients.ask(server.endpoint, "x", 2, seconds)
        except DeadlineError:
            results.append(f"late after {seconds:g}")

    nursery.start_soon(ask, 0.6)
    nursery.start_soon(ask, 0.2)
    await until(lambda: server.asked == 5)
    server.hang = False
    await until(lambda: kept.dropped)
    assert not kept.scope.cancelled_caught
    assert await clients.ask(server.endpoint, "x", 3, 5) == 3
    await until(lambda: results == ["late after 0.2", "late after 0.6"])
    await until(lambda: kept.scope.cancelled_caught)


async def test_a_restarted_instance_is_found_again(tmp_path: Path, nursery: trio.Nursery) -> None:
    server = Server(tmp_path / "ctl")
    await nursery.start(server.run)
    clients = Clients(nursery, structlog.get_logger())
    for _ in range(3):
        await clients.ask(server.endpoint, "x", 1, 5)
    server.stop()
    with pytest.raises(PeerError):
        await clients.ask(server.endpoint, "x", 1, 0.3)
    with pytest.raises(PeerError) as refused:
        await clients.ask(server.endpoint, "x", 1, 60)
    assert refused.value.code == "unavailable"
    again = Server(tmp_path / "ctl")
    await nursery.start(again.run)
    assert await clients.ask(again.endpoint, "x", 2, 5) == 2


async def test_a_refusal_is_the_instances_own(tmp_path: Path, nursery: trio.Nursery) -> None:
    server = Server(tmp_path / "ctl")
    await nursery.start(server.run)
    clients = Clients(nursery, structlog.get_logger())
    for _ in range(3):
        with pytest.raises(PeerError, match="no"):
            await clients.ask(server.endpoint, "x", "refuse", 5)
