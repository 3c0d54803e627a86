import os
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import structlog
import trio
import trio.testing

from palatine.bus import Batch, Intake, Peer, Role, Sender, default_role_of, events, open_intake, open_sender
from palatine.bus.events import EVENT_BYTES, WINDOW_EVENTS
from palatine.codec.frames import FrameError
from palatine.errors import AlreadyRunningError, ConfigError


async def take(intake: Intake, count: int) -> list[object]:
    """The bodies of the next `count` events at least, each batch acknowledged."""
    got: list[object] = []
    with trio.fail_after(20):
        while len(got) < count:
            batch = await anext(intake)
            got += [event.body for event in batch.events]
            await batch.ack()
    return got


async def kill(process: trio.Process) -> None:
    process.kill()


async def until(condition: Callable[[], bool]) -> None:
    """Let the bus work until something is so."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - the state is inside the bus, or another process's
            await trio.sleep(0.001)


@pytest.fixture(params=["sender binds", "intake binds"])
def sender_binds(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "sender binds")


async def pair(stack: AsyncExitStack, path: Path, *, sender_binds: bool) -> tuple[Sender, Intake]:
    sender = await stack.enter_async_context(open_sender(path, bind=sender_binds))
    intake = await stack.enter_async_context(open_intake(bind=None if sender_binds else path))
    if sender_binds:
        intake.connect("app", path)
    return sender, intake


async def test_in_order_and_once_while_nobody_dies(tmp_path: Path, sender_binds: bool) -> None:  # noqa: FBT001 - a fixture
    async with AsyncExitStack() as stack:
        sender, intake = await pair(stack, tmp_path / "e", sender_binds=sender_binds)

        async def put() -> None:
            for number in range(5000):
                sender.put("n", number)
                if number % 100 == 0:
                    await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(put)
            assert await take(intake, 5000) == list(range(5000))
        with trio.fail_after(5):
            await sender.settled()
        statistics = sender.statistics()
    assert (statistics.put, statistics.acked, statistics.queued, statistics.dropped) == (5000, 5000, 0, 0)
    assert statistics.connected


async def test_a_batch_says_who_sent_it(tmp_path: Path, sender_binds: bool) -> None:  # noqa: FBT001 - a fixture
    async with AsyncExitStack() as stack:
        sender, intake = await pair(stack, tmp_path / "e", sender_binds=sender_binds)
        sender.put("log", {"lines": ["é\xff"]})
        sender.put("raise", None)
        batch = await anext(intake)
        assert [(event.seq, event.type, event.body) for event in batch.events] == [
            (1, "log", {"lines": ["é\xff"]}),
            (2, "raise", None),
        ]
        assert batch.sender == sender.uuid
        assert (batch.peer.uid, batch.peer.pid) == (os.geteuid(), os.getpid())
        assert batch.source == ("app" if sender_binds else batch.peer.address)


async def test_what_was_put_before_anybody_came_is_sent(tmp_path: Path) -> None:
    async with open_intake() as intake:
        intake.connect("app", tmp_path / "e")
        assert intake.sources() == {"app": False}
        async with open_sender(tmp_path / "e", bind=True) as sender:
            for number in range(10):
                sender.put("n", number)
            assert await take(intake, 10) == list(range(10))
            assert intake.sources() == {"app": True}


async def test_nothing_is_acknowledged_before_the_consumer_says_so(tmp_path: Path) -> None:
    async with open_sender(tmp_path / "e", bind=True) as sender:
        for number in range(3):
            sender.put("n", number)
        async with open_intake() as intake:
            intake.connect("app", tmp_path / "e")
            batch = await anext(intake)
            assert len(batch.events) == 3
        assert sender.statistics().acked == 0
        async with open_intake() as intake:
            intake.connect("app", tmp_path / "e")
            assert (await anext(intake)).events == batch.events
            await batch.ack()  # of an intake that is closed: without effect, without error
            assert await take_rest(intake) == []
    assert sender.statistics().acked == 0


async def take_rest(intake: Intake) -> list[Batch]:
    """What is there without waiting."""
    rest = []
    with trio.move_on_after(0.05):
        while True:
            rest.append(await anext(intake))
    return rest


async def test_a_session_lost_begins_again_after_the_last_ack(tmp_path: Path, sender_binds: bool) -> None:  # noqa: FBT001 - a fixture
    path = tmp_path / "e"
    async with AsyncExitStack() as stack:
        sender, intake = await pair(stack, path, sender_binds=sender_binds)
        for number in range(4):
            sender.put("n", number)
        assert await take(intake, 4) == [0, 1, 2, 3]
        await until(lambda: sender.statistics().acked == 4)
        for number in range(4, 8):
            sender.put("n", number)
        unacked = await anext(intake)
        sender._party.restart(sender._session)  # type: ignore[arg-type]  # there is one
        seen = list(unacked.events)
        while len(seen) < 8:
            seen += (await anext(intake)).events
        assert [event.body for event in seen] == [4, 5, 6, 7, 4, 5, 6, 7]
        await unacked.ack()  # late, but its events are durable all the same
        await until(lambda: sender.statistics().acked == 8)


async def test_a_cancelled_wait_loses_nothing(tmp_path: Path) -> None:
    got: list[object] = []
    async with open_sender(tmp_path / "e", bind=True) as sender, open_intake() as intake:
        intake.connect("app", tmp_path / "e")
        put = 0
        with trio.fail_after(20):
            while len(got) < 3000:
                for _ in range(min(7, 3000 - put)):
                    sender.put("n", put)
                    put += 1
                with trio.move_on_after(0.0002):
                    batch = await anext(intake)
                    got += [event.body for event in batch.events]
                    await batch.ack()
    assert got == list(range(3000))


async def test_a_full_memory_drops_the_oldest_and_counts_them(tmp_path: Path) -> None:
    async with open_sender(tmp_path / "e", bind=True, memory_events=100) as sender:
        for number in range(250):
            sender.put("n", number)
        assert (sender.statistics().queued, sender.statistics().dropped) == (100, 150)
        async with open_intake() as intake:
            intake.connect("app", tmp_path / "e")
            assert await take(intake, 100) == list(range(150, 250))
            await sender.settled()


async def test_memory_is_bounded_in_bytes_too(tmp_path: Path) -> None:
    async with open_sender(tmp_path / "e", bind=True) as sender:
        for _ in range(200):
            sender.put("big", "x" * 200_000)
        assert sender.statistics().queued == 83
        assert sender.statistics().dropped == 117


async def test_a_slow_consumer_holds_back_only_its_window(tmp_path: Path) -> None:
    async with open_sender(tmp_path / "e", bind=True, memory_events=10_000) as sender, open_intake() as intake:
        intake.connect("app", tmp_path / "e")
        for number in range(8000):
            sender.put("n", number)
        await until(lambda: len(sender._outbox.flight) == WINDOW_EVENTS and intake.sources()["app"])
        (inflow,) = intake._inflows.values()
        await until(lambda: len(inflow.pending) == WINDOW_EVENTS)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(inflow.pending) == WINDOW_EVENTS
        assert sender.statistics().dropped == 0
        assert await take(intake, 8000) == list(range(8000))


async def test_large_events(tmp_path: Path) -> None:
    body = "x" * (EVENT_BYTES - 100)
    async with open_sender(tmp_path / "e", bind=True) as sender, open_intake() as intake:
        intake.connect("app", tmp_path / "e")
        for _ in range(20):
            sender.put("big", body)
        assert await take(intake, 20) == [body] * 20
        with pytest.raises(FrameError) as raised:
            sender.put("bigger", "x" * EVENT_BYTES)
        assert raised.value.code == "too-large"
        with pytest.raises(TypeError):
            sender.put("object", object())
        sender.put("n", 1)
        assert await take(intake, 1) == [1]
        assert sender.statistics().put == 21


async def test_the_last_hello_wins_and_the_other_gets_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BEAT", 0.05)
    monkeypatch.setattr(events, "REFUSED", 0.2)
    path = tmp_path / "e"
    with structlog.testing.capture_logs() as logs:
        async with open_sender(path, bind=True) as sender, open_intake() as first:
            first.connect("app", path)
            sender.put("n", 1)
            assert await take(first, 1) == [1]
            async with open_intake() as second:
                second.connect("app", path)
                await until(lambda: second.sources()["app"] and not first.sources()["app"])
                sender.put("n", 2)
                assert await take(second, 1) == [2]
                await trio.sleep(0.5)  # time in which the first must not take it back
                sender.put("n", 3)
                assert await take(second, 1) == [3]
            sender.put("n", 4)
            assert await take(first, 1) == [4]
    assert [entry["code"] for entry in logs if entry["event"] == "bus.peer.refused"] == ["replaced"]


async def test_many_senders_one_intake(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        intake = await stack.enter_async_context(open_intake(bind=tmp_path / "e"))
        senders = [await stack.enter_async_context(open_sender(tmp_path / "e", bind=False)) for _ in range(20)]
        for number in range(100):
            for sender in senders:
                sender.put("n", number)
        got: dict[bytes, list[object]] = {}
        while sum(map(len, got.values())) < 2000:
            batch = await anext(intake)
            got.setdefault(batch.sender, []).extend(event.body for event in batch.events)
            await batch.ack()
        assert set(got) == {sender.uuid for sender in senders}
        assert all(numbers == list(range(100)) for numbers in got.values())


async def test_one_intake_many_senders_and_the_silent_one_is_let_go(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        intake = await stack.enter_async_context(open_intake())
        senders = {}
        for name in ("a", "b", "c"):
            senders[name] = await stack.enter_async_context(open_sender(tmp_path / name, bind=True))
            intake.connect(name, tmp_path / name)
            senders[name].put("n", name)
        assert sorted(map(str, await take(intake, 3))) == ["a", "b", "c"]
        intake.disconnect("b")
        intake.disconnect("unknown")
        await until(lambda: set(intake.sources()) == {"a", "c"})
        for name in ("b", "c"):
            senders[name].put("n", name)
        assert await take(intake, 1) == ["c"]
        intake.connect("b", tmp_path / "b")
        assert set(await take(intake, 1)) == {"b"}  # at least once: the ack of the first may have gone with its session


async def test_a_peer_that_hangs_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BEAT", 0.05)
    monkeypatch.setattr(events, "DEAD", 0.3)
    code = (
        "import os, signal, sys, pathlib, trio\nfrom palatine.bus import open_intake\n"
        "async def main():\n"
        "    async with open_intake() as intake:\n"
        "        intake.connect('app', pathlib.Path(sys.argv[1]))\n"
        "        batch = await anext(intake)\n        os.kill(os.getpid(), signal.SIGSTOP)\n"
        "        await batch.ack()\n        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    async with open_sender(tmp_path / "e", bind=True) as sender:
        sender.put("n", 1)
        async with trio.open_nursery() as nursery:
            command = [sys.executable, "-c", code, str(tmp_path / "e")]
            nursery.start_soon(partial(trio.run_process, command, check=False, deliver_cancel=kill))
            await until(lambda: sender.statistics().connected)
            await until(lambda: not sender.statistics().connected)
            async with open_intake() as intake:
                intake.connect("app", tmp_path / "e")
                assert await take(intake, 1) == [1]
            nursery.cancel_scope.cancel()


async def test_a_peer_without_the_right_is_refused(tmp_path: Path, sender_binds: bool) -> None:  # noqa: FBT001 - a fixture
    path = tmp_path / "e"
    async with AsyncExitStack() as stack:
        logs = stack.enter_context(structlog.testing.capture_logs())
        sender = await stack.enter_async_context(open_sender(path, bind=sender_binds, role_of=lambda _: Role.VIEWER))
        intake = await stack.enter_async_context(
            open_intake(bind=None if sender_binds else path, role_of=lambda _: Role.VIEWER)
        )
        if sender_binds:
            intake.connect("app", path)
        sender.put("n", 1)
        await until(lambda: bool(logs))
        assert await take_rest(intake) == []
    assert ("bus.peer.refused", "forbidden") in [(entry["event"], entry["code"]) for entry in logs]


async def test_rights_that_crash_stop_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "REFUSED", 0.0)
    monkeypatch.setattr(events, "BEAT", 0.05)
    asked = 0

    def role_of(_: Peer) -> Role:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise OSError("no directory service")
        return Role.DEPLOYER

    with structlog.testing.capture_logs() as logs:
        async with (
            open_intake(bind=tmp_path / "e", role_of=role_of) as intake,
            open_sender(tmp_path / "e", bind=False) as sender,
        ):
            sender.put("n", 1)
            assert await take(intake, 1) == [1]
    assert [entry["event"] for entry in logs if entry["event"] != "bus.peer.refused"] == ["bus.message.crashed"]


async def test_the_least_role_can_be_raised(tmp_path: Path) -> None:
    path = tmp_path / "emperor.cmd"
    operator = default_role_of({os.geteuid()})
    with structlog.testing.capture_logs() as logs:
        async with (
            open_intake(bind=path, role_of=lambda _: Role.OPERATOR, minimum=Role.DEPLOYER) as intake,
            open_sender(path, bind=False) as sender,
        ):
            sender.put("touch", {"vassal": "a.ini"})
            await until(lambda: bool(logs))
            assert await take_rest(intake) == []
    async with (
        open_intake(bind=path, role_of=operator, minimum=Role.DEPLOYER) as intake,
        open_sender(path, bind=False) as sender,
    ):
        sender.put("touch", {"vassal": "a.ini"})
        assert await take(intake, 1) == [{"vassal": "a.ini"}]
        await sender.settled()


@pytest.mark.root
async def test_a_sender_that_does_not_own_its_directory_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test needs root: it makes a directory of uid 65534")
    directory = tmp_path / "i"
    directory.mkdir()
    monkeypatch.setattr("palatine.bus.intake.TRUSTED", frozenset())  # root is, otherwise
    with structlog.testing.capture_logs() as logs:
        async with open_sender(directory / "events", bind=True) as sender, open_intake() as intake:
            os.chown(directory, 65534, 65534)
            sender.put("n", 1)
            intake.connect("app", directory / "events")
            await until(lambda: bool(logs))
            assert await take_rest(intake) == []
    assert (logs[0]["event"], logs[0]["code"]) == ("bus.peer.rejected", "forbidden")
    assert "is bound by uid 0, its directory is uid 65534's" in logs[0]["reason"]


async def test_a_second_binder_is_refused(tmp_path: Path) -> None:
    async with open_sender(tmp_path / "e", bind=True):
        with pytest.raises(AlreadyRunningError):
            async with open_sender(tmp_path / "e", bind=True):
                pytest.fail("opened")
        with pytest.raises(AlreadyRunningError):
            async with open_intake(bind=tmp_path / "e"):
                pytest.fail("opened")


async def test_paths_that_cannot_be(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    with pytest.raises(ConfigError, match="107"):
        async with open_sender(long, bind=False):
            pytest.fail("opened")
    async with open_intake() as intake:
        with pytest.raises(ConfigError, match="107"):
            intake.connect("app", long)
        assert intake.sources() == {}


async def test_the_blocks_own_error_comes_out_unwrapped(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        async with open_sender(tmp_path / "e", bind=True, spool=tmp_path / "spool"):
            raise KeyError
    with pytest.raises(KeyError):
        async with open_intake(bind=tmp_path / "e"):
            raise KeyError


async def test_a_listener_that_speaks_no_zmq_holds_nothing_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as odd:
        odd.bind(str(tmp_path / "odd"))
        odd.listen()
        async with open_sender(tmp_path / "e", bind=True) as sender, open_intake() as intake:
            intake.connect("odd", tmp_path / "odd")
            intake.connect("app", tmp_path / "e")
            sender.put("n", 1)
            assert await take(intake, 1) == [1]
