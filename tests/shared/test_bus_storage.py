import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import structlog
import trio
import trio.lowlevel

from palatine.bus import open_intake, open_sender, storage
from palatine.bus.outbox import Item
from palatine.bus.spool import Appended, Spool
from palatine.errors import AlreadyRunningError


async def take(path: Path, count: int) -> list[object]:
    got: list[object] = []
    async with open_intake() as intake:
        intake.connect("app", path)
        with trio.fail_after(20):
            while len(got) < count:
                batch = await anext(intake)
                got += [event.body for event in batch.events]
                await batch.ack()
            await trio.lowlevel.checkpoint()
        with trio.move_on_after(0.05):
            got.append(await anext(intake))
    return got


async def test_events_outlive_their_sender(tmp_path: Path) -> None:
    path, spool = tmp_path / "e", tmp_path / "spool"
    async with open_sender(path, bind=True, spool=spool) as sender:
        for number in range(1000):
            sender.put("n", number)
    async with open_sender(path, bind=True, spool=spool) as again:
        assert again.uuid == sender.uuid
        assert again.statistics().spooled == 1000
        again.put("n", 1000)
        assert await take(path, 1001) == list(range(1001))
        await again.settled()
    async with open_sender(path, bind=True, spool=spool) as third:
        assert (third.statistics().spooled, third.statistics().queued) == (0, 0)
        await third.settled()


async def test_far_more_than_memory_holds(tmp_path: Path) -> None:
    path = tmp_path / "e"
    async with open_sender(path, bind=True, spool=tmp_path / "spool", memory_events=200) as sender:
        for number in range(5000):
            sender.put("n", number)
            if number % 100 == 99:
                await sender.flushed()
        statistics = sender.statistics()
        assert (statistics.queued, statistics.spooled, statistics.dropped) == (200, 4800, 0)
        assert await take(path, 5000) == list(range(5000))
        await sender.settled()


async def test_flushed_means_on_disk(tmp_path: Path) -> None:
    async with open_sender(tmp_path / "e", bind=True, spool=tmp_path / "spool") as sender:
        await sender.flushed()
        for number in range(100):
            sender.put("n", number)
        await sender.flushed()
        data = b"".join(path.read_bytes() for path in (tmp_path / "spool").glob("*.seg"))
        assert data.count(b',"n",') == 100


async def test_without_a_spool_flushed_returns(tmp_path: Path) -> None:
    async with open_sender(tmp_path / "e", bind=True) as sender:
        sender.put("n", 1)
        await sender.flushed()


async def test_unacknowledged_events_are_synced_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "SYNC_SECONDS", 0.05)
    synced = trio.Event()
    token = trio.lowlevel.current_trio_token()
    real = os.fdatasync

    def fdatasync(descriptor: int) -> None:
        real(descriptor)
        token.run_sync_soon(synced.set)

    async with open_sender(tmp_path / "e", bind=True, spool=tmp_path / "spool") as sender:
        monkeypatch.setattr(os, "fdatasync", fdatasync)
        sender.put("n", 1)
        with trio.fail_after(5):
            await synced.wait()


class Failing:
    """A disk that takes nothing while `broken`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broken = True
        real: Callable[[Spool, Sequence[Item]], Appended] = Spool.append

        def append(spool: Spool, items: Sequence[Item]) -> Appended:
            if self.broken:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(spool, items)

        monkeypatch.setattr(Spool, "append", append)
        monkeypatch.setattr(storage, "RETRY_SECONDS", 0.05)


async def test_a_full_disk_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Failing(monkeypatch)
    path = tmp_path / "e"
    with structlog.testing.capture_logs() as logs:
        async with open_sender(path, bind=True, spool=tmp_path / "spool", memory_events=100) as sender:
            for number in range(50):
                sender.put("n", number)
            with pytest.raises(OSError, match="No space left"):
                await sender.flushed()
            assert await take(path, 50) == list(range(50))
            for number in range(300):
                sender.put("n", number)
            with pytest.raises(OSError, match="No space left"):
                await sender.flushed()
            assert sender.statistics().queued <= 200
            dropped = sender.statistics().dropped
            assert dropped >= 100
            disk.broken = False
            assert await take(path, 300 - dropped) == list(range(dropped, 300))
            sender.put("n", 1000)
            with trio.fail_after(5):
                await sender.flushed()
            assert await take(path, 1) == [1000]
    assert [entry["event"] for entry in logs][:2] == ["bus.spool.failing", "bus.spool.recovered"]
    assert len(logs) == 2


async def test_events_that_never_reached_the_disk_are_not_called_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Failing(monkeypatch)
    async with open_sender(tmp_path / "e", bind=True, spool=tmp_path / "spool") as sender:
        sender.put("n", 1)
        with pytest.raises(OSError, match="No space left"):
            await sender.flushed()
        with trio.fail_after(5):
            while sender._storage.queued:  # noqa: ASYNC110 - until the task has passed it on through memory
                await trio.sleep(0.001)
        disk.broken = False
        sender.put("n", 2)
        with trio.fail_after(5), pytest.raises(OSError, match="went on without the disk"):
            await sender.flushed()
        assert await take(tmp_path / "e", 2) == [1, 2]
        await sender.settled()
        await sender.flushed()


async def test_a_disk_that_fails_at_the_end_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with structlog.testing.capture_logs() as logs:
        async with open_sender(tmp_path / "e", bind=True, spool=tmp_path / "spool") as sender:
            Failing(monkeypatch)
            sender.put("n", 1)
    assert logs[-1]["event"] in {"bus.spool.lost", "bus.spool.failing"}


async def test_a_spool_has_one_sender(tmp_path: Path) -> None:
    async with open_sender(tmp_path / "e", bind=True, spool=tmp_path / "spool"):
        with pytest.raises(AlreadyRunningError):
            async with open_sender(tmp_path / "f", bind=True, spool=tmp_path / "spool"):
                pytest.fail("opened")
