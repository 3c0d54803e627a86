"""Invariant: what `flushed` has confirmed is in the consumer's journal in the end, once and in order, whoever dies."""

import random
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

PRODUCER = """
import sys, pathlib, trio
from palatine.bus import open_sender

async def main(path, spool, bind, first, count):
    async with open_sender(path, bind=bind, spool=spool, memory_events=500) as sender:
        for start in range(first, count, 40):
            for number in range(start, min(start + 40, count)):
                sender.put("n", number)
            await sender.flushed()
            print(min(start + 40, count), flush=True)
        await sender.settled()
        print("settled", flush=True)
        await trio.sleep_forever()

trio.run(main, pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3] == "1", *map(int, sys.argv[4:]))
"""

CONSUMER = """
import sys, pathlib, trio
from palatine.bus import open_intake
from palatine.bus.journal import open_journal

SCHEMA = ["CREATE TABLE seen (sender BLOB, seq INTEGER, number INTEGER, PRIMARY KEY (sender, seq));"]

async def main(path, journal_path, bind):
    def keep(connection, new):
        rows = [(batch.sender, event.seq, event.body) for event in new]
        connection.executemany("INSERT INTO seen VALUES (?, ?, ?)", rows)

    async with open_journal(journal_path, {"seen": SCHEMA}) as journal:
        async with open_intake(bind=path if bind else None) as intake:
            if not bind:
                intake.connect("app", path)
            print("ready", flush=True)
            async for batch in intake:
                new = await journal.record(batch.sender, batch.events, keep)
                print(len(new), len(batch.events) - len(new), flush=True)
                await batch.ack()

trio.run(main, pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3] == "1")
"""


class Lives:
    """Runs a program again and again, killing it whenever its output says so."""

    def __init__(self) -> None:
        self.kills = 0

    async def run(self, code: str, arguments: Callable[[], list[str]], kill_now: Callable[[str], bool]) -> None:
        while True:
            command = [sys.executable, "-c", code, *arguments()]
            process = await trio.lowlevel.open_process(command, stdout=-1)
            try:
                if not await self._until_killed(process, kill_now):
                    assert await process.wait() == 0, "died of itself"
                    return
            finally:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
            self.kills += 1

    @staticmethod
    async def _until_killed(process: trio.Process, kill_now: Callable[[str], bool]) -> bool:
        assert process.stdout is not None
        rest = ""
        async with process.stdout:
            async for data in process.stdout:
                *lines, rest = (rest + data.decode()).split("\n")
                for line in lines:
                    if kill_now(line):
                        process.kill()
                        return True
        return False


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("sender_binds", "events", "consumer_kills", "producer_kills"),
    [(True, 20_000, 12, 5), (False, 2_000, 2, 2)],
    ids=["events-of-an-instance", "emperor-cmd"],
)
async def test_nothing_is_lost_repeated_or_out_of_order(
    tmp_path: Path,
    sender_binds: bool,  # noqa: FBT001 - a parameter of the test
    events: int,
    consumer_kills: int,
    producer_kills: int,
) -> None:
    rng = random.Random(20_31)
    path, journal = tmp_path / "events", tmp_path / "journal.db"
    producer, consumer = Lives(), Lives()
    starts: list[int] = []
    flushed = recorded = duplicates = 0
    settled = trio.Event()
    kill_producer_at = sorted(rng.sample(range(events // 50, events), producer_kills))
    kill_consumer_at = sorted(rng.sample(range(events // 50, events), consumer_kills))

    def producer_arguments() -> list[str]:
        starts.append(flushed)
        return [str(path), str(tmp_path / "spool"), str(int(sender_binds)), str(flushed), str(events)]

    def producer_says(line: str) -> bool:
        nonlocal flushed
        if line == "settled":
            settled.set()
            return False
        flushed = int(line)
        if kill_producer_at and flushed >= kill_producer_at[0]:
            del kill_producer_at[0]
            return True
        return False

    def consumer_says(line: str) -> bool:
        nonlocal recorded, duplicates
        if line == "ready":
            return False
        new, old = map(int, line.split())
        recorded += new
        duplicates += old
        if kill_consumer_at and recorded >= kill_consumer_at[0]:
            del kill_consumer_at[0]
            return True
        return False

    with trio.fail_after(90):
        async with trio.open_nursery() as nursery:
            consumer_arguments = [str(path), str(journal), str(int(not sender_binds))]
            nursery.start_soon(consumer.run, CONSUMER, lambda: consumer_arguments, consumer_says)
            nursery.start_soon(producer.run, PRODUCER, producer_arguments, producer_says)
            await settled.wait()
            nursery.cancel_scope.cancel()

    connection = sqlite3.connect(journal)
    rows = connection.execute("SELECT sender, seq, number FROM seen ORDER BY rowid").fetchall()
    connection.close()
    print(f"{len(rows)} events, {duplicates} repeated and known, {producer.kills} + {consumer.kills} kills")
    assert (producer.kills, consumer.kills) == (producer_kills, consumer_kills)
    assert len({sender for sender, _, _ in rows}) == 1, "the numbering went on under one name"
    assert [seq for _, seq, _ in rows] == sorted(seq for _, seq, _ in rows), "in order"
    assert {number for _, _, number in rows} == set(range(events)), "nothing confirmed is lost"
    # Between the last confirmation and a kill, events may have reached the spool: its next life puts them again.
    lives: dict[int, list[int]] = {}
    for _, seq, number in rows:
        lives.setdefault(seq >> 40, []).append(number)
    assert len(lives) == producer_kills + 1
    for first, numbers in zip(starts, lives.values(), strict=True):
        assert numbers == list(range(first, first + len(numbers)))
