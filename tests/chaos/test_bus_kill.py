"""Invariant: what `flushed` has confirmed is in the consumer's journal in the end, once and in order, whoever dies."""

import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.abc

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


# Forks a process per life, because importing trio and zmq anew for each would take longer than the test.
NURSERY = """
import os, signal, socket, sys
import trio, palatine.bus, palatine.bus.journal

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
control = socket.socket(fileno=int(sys.argv[1]))
while True:
    data, descriptors, _, _ = socket.recv_fds(control, 65536, 1)
    if not data:
        break
    pid = os.fork()
    if pid == 0:
        os.dup2(descriptors[0], 1)
        os.close(descriptors[0])
        control.close()
        code, *sys.argv[1:] = data.decode().split("\\0")
        exec(code, {})
        os._exit(0)
    os.close(descriptors[0])
    control.send(str(pid).encode())
"""


@pytest.fixture
def control() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        command = [sys.executable, "-c", NURSERY, str(theirs.fileno())]
        with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as process:
            theirs.close()
            yield ours
            ours.close()
            assert process.wait(10) == 0


class Lives:
    """Runs a program again and again, killing it whenever its output says so."""

    def __init__(self, control: socket.socket) -> None:
        self.kills = 0
        self._control = control

    async def run(self, code: str, arguments: Callable[[], list[str]], kill_now: Callable[[str], bool]) -> None:
        while True:
            reader, writer = os.pipe()
            socket.send_fds(self._control, ["\0".join([code, *arguments()]).encode()], [writer])
            os.close(writer)
            pid = int(self._control.recv(20))
            async with trio.lowlevel.FdStream(reader) as output:
                try:
                    await self._until_it_says(output, kill_now)
                finally:
                    os.kill(pid, signal.SIGKILL)
                with trio.CancelScope(shield=True):
                    while await output.receive_some():
                        pass  # it is dead when its end of the pipe is closed
            self.kills += 1

    @staticmethod
    async def _until_it_says(output: trio.abc.ReceiveStream, kill_now: Callable[[str], bool]) -> None:
        rest = ""
        async for data in output:
            *lines, rest = (rest + data.decode()).split("\n")
            for line in lines:
                if kill_now(line):
                    return
        pytest.fail("died of itself")


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("sender_binds", "events", "consumer_kills", "producer_kills"),
    [(True, 20_000, 12, 5), (False, 2_000, 2, 2)],
    ids=["events-of-an-instance", "emperor-cmd"],
)
async def test_nothing_is_lost_repeated_or_out_of_order(
    tmp_path: Path,
    control: socket.socket,
    sender_binds: bool,  # noqa: FBT001 - a parameter of the test
    events: int,
    consumer_kills: int,
    producer_kills: int,
) -> None:
    rng = random.Random(20_31)
    path, journal = tmp_path / "events", tmp_path / "journal.db"
    producer, consumer = Lives(control), Lives(control)
    starts: list[int] = []
    flushed = recorded = duplicates = 0
    settled = trio.Event()
    kill_producer_at = sorted(rng.sample(range(events // 50, events - 200), producer_kills))
    # spread out and not near the end: a batch may pass one point at a time, and what is settled needs no more kills
    step = events * 3 // 4 // consumer_kills
    kill_consumer_at = [events // 50 + number * step + rng.randrange(step // 2) for number in range(consumer_kills)]

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
