from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from palatine.bus.spool import Spool
from palatine.errors import AlreadyRunningError
from palatine_stats_exporter.push.buffer import Buffer

LIMIT = 8 * 1024 * 1024


async def drained(buffer: Buffer, count: int) -> list[bytes]:
    found = []
    for _ in range(count):
        item = await buffer.next()
        found.append(item.raw)
        await buffer.done(item)
    return found


async def test_order_is_kept_and_what_was_delivered_does_not_come_again(tmp_path: Path) -> None:
    buffer = await Buffer.open(tmp_path / "b", LIMIT)
    await buffer.put([b"1", b"2"])
    await buffer.put([b"3"])
    assert await drained(buffer, 2) == [b"1", b"2"]
    await buffer.close()
    again = await Buffer.open(tmp_path / "b", LIMIT)
    await again.put([b"4"])
    assert again.waiting == 2
    assert await drained(again, 2) == [b"3", b"4"]
    assert (again.waiting, again.dropped) == (0, 0)
    await again.close()


async def test_what_was_taken_but_not_done_comes_again(tmp_path: Path) -> None:
    buffer = await Buffer.open(tmp_path / "b", LIMIT)
    await buffer.put([b"1", b"2"])
    assert (await buffer.next()).raw == b"1"
    await buffer.close()
    again = await Buffer.open(tmp_path / "b", LIMIT)
    assert await drained(again, 2) == [b"1", b"2"]
    await again.close()


async def test_next_waits_for_put(tmp_path: Path, nursery: trio.Nursery) -> None:
    buffer = await Buffer.open(tmp_path / "b", LIMIT)
    found: list[bytes] = []

    async def take() -> None:
        found.extend(await drained(buffer, 1))

    nursery.start_soon(take)
    await wait_all_tasks_blocked()
    assert found == []
    await buffer.put([b"x"])
    with trio.fail_after(30):
        while not found:
            await wait_all_tasks_blocked(0.01)
    await buffer.close()


async def test_beyond_the_limit_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    limit = 2 * 1024 * 1024
    buffer = await Buffer.open(tmp_path / "b", limit)
    batch = b"x" * 200_000
    for number in range(30):
        await buffer.put([b"%02d" % number + batch])
    assert sum(path.stat().st_size for path in (tmp_path / "b").iterdir()) <= 1.2 * limit
    assert buffer.waiting + buffer.dropped == 30
    numbers = [int(raw[:2]) for raw in await drained(buffer, buffer.waiting)]
    assert numbers == list(range(buffer.dropped, 30))
    await buffer.close()


async def test_one_at_a_time(tmp_path: Path) -> None:
    buffer = await Buffer.open(tmp_path / "b", LIMIT)
    with pytest.raises(AlreadyRunningError):
        await Buffer.open(tmp_path / "b", LIMIT)
    await buffer.close()


class FullDisk(Spool):
    """A spool whose disk takes nothing while `full`."""

    full = True

    def append(self, items):  # type: ignore[no-untyped-def,override]  # noqa: ANN001, ANN201
        if self.full:
            raise OSError(28, "No space left on device")
        return super().append(items)


async def test_a_full_disk_passes_through_memory(tmp_path: Path) -> None:
    spool = FullDisk(tmp_path / "b", LIMIT)
    buffer = Buffer(spool)
    await buffer.put([b"1"])
    assert buffer.waiting == 1
    spool.full = False
    await buffer.put([b"2"])
    assert await drained(buffer, 2) == [b"1", b"2"]
    assert buffer.dropped == 0
    await buffer.close()
