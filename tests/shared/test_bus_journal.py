import sqlite3
import sys
import threading
from pathlib import Path

import pytest
import trio

from palatine.bus import Event
from palatine.bus.journal import open_journal
from palatine.errors import AlreadyRunningError, ConfigError

A, B = b"a" * 16, b"b" * 16
ALARMS = ("CREATE TABLE deliveries (id INTEGER PRIMARY KEY, text TEXT NOT NULL);",)


def batch(*numbers: int) -> list[Event]:
    return [Event(number, "n", {"value": number}) for number in numbers]


async def test_duplicates_are_known_per_sender_and_after_a_restart(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j.db") as journal:
        assert await journal.record(A, batch(1, 2, 3)) == batch(1, 2, 3)
        assert await journal.record(A, batch(2, 3, 7)) == batch(7)
        assert await journal.record(A, batch(1, 7)) == []
        assert await journal.record(B, batch(1)) == batch(1)
    async with open_journal(tmp_path / "j.db") as journal:
        assert (journal.last_seq(A), journal.last_seq(B), journal.last_seq(b"c" * 16)) == (7, 1, 0)
        assert journal.fresh(A, batch(6, 7, 8)) == batch(8)
        assert await journal.record(A, batch(7)) == []


async def test_recorded_events_are_work_until_they_are_done(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j.db") as journal:
        await journal.record(A, batch(1, 2, 3))
        ident = await journal.add("own", ["é", None], due=50.0)
        entries = await journal.due(1e12)
        assert [(entry.type, entry.body) for entry in entries] == [
            ("n", {"value": 1}),
            ("n", {"value": 2}),
            ("n", {"value": 3}),
            ("own", ["é", None]),
        ]
        assert [entry.id for entry in await journal.due(60.0)] == [ident]
        await journal.put_off(ident, 70.0)
        assert await journal.due(60.0) == []
        (entry,) = await journal.due(70.0)
        assert (entry.due, entry.attempts) == (70.0, 1)
        assert len(await journal.due(1e12, limit=2)) == 2
        await journal.done([entry.id for entry in entries])
        assert await journal.due(1e12) == []


async def test_a_consumer_keeps_its_own_rows_in_the_same_transaction(tmp_path: Path) -> None:
    def keep(connection: sqlite3.Connection, new: list[Event]) -> None:
        connection.executemany("INSERT INTO deliveries (text) VALUES (?)", [(str(event.body),) for event in new])
        if any(event.seq == 13 for event in new):
            raise ValueError("unlucky")

    def count(connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT count(*) FROM deliveries").fetchone()[0])

    async with open_journal(tmp_path / "j.db", {"alarms": ALARMS}) as journal:
        assert await journal.record(A, batch(1, 2), keep) == batch(1, 2)
        assert await journal.record(A, batch(2, 3), keep) == batch(3)
        with pytest.raises(ValueError, match="unlucky"):
            await journal.record(A, batch(12, 13), keep)
        assert await journal.run(count) == 3
        assert journal.last_seq(A) == 3
        assert await journal.due(1e12) == []


async def test_mark_is_for_consumers_with_transactions_of_their_own(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j.db") as journal:
        await journal.run(lambda connection: journal.mark(connection, A, 9))
        await journal.run(lambda connection: journal.mark(connection, A, 4))
        assert journal.last_seq(A) == 9
    async with open_journal(tmp_path / "j.db") as journal:
        assert journal.last_seq(A) == 9


async def test_work_never_runs_on_the_trio_thread_and_never_twice_at_once(tmp_path: Path) -> None:
    running = 0

    def work(_: sqlite3.Connection) -> int:
        nonlocal running
        running += 1
        assert running == 1
        assert threading.get_ident() != here
        running -= 1
        return 1

    here = threading.get_ident()
    async with open_journal(tmp_path / "j.db") as journal, trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(journal.run, work)


async def test_cancelling_waits_for_the_transaction(tmp_path: Path) -> None:
    started, finish = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()

    async with open_journal(tmp_path / "j.db") as journal:

        def slow(connection: sqlite3.Connection) -> None:
            journal.mark(connection, A, 5)
            token.run_sync_soon(started.set)
            finish.wait(10)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.run, slow)
            await started.wait()
            nursery.cancel_scope.cancel()
            finish.set()
        row = await journal.run(lambda connection: connection.execute("SELECT last_seq FROM senders").fetchone())
        assert row == (5,)


async def test_an_error_rolls_back_and_the_journal_goes_on(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j.db") as journal:

        def bad(connection: sqlite3.Connection) -> None:
            journal.mark(connection, A, 5)
            connection.execute("SELECT * FROM nowhere")

        with pytest.raises(sqlite3.OperationalError):
            await journal.run(bad)
        assert await journal.record(A, batch(1)) == batch(1)


async def test_old_senders_are_forgotten(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j.db") as journal:
        await journal.record(A, batch(1))
        await journal.record(B, batch(1))
        await journal.run(lambda connection: connection.execute("UPDATE senders SET seen = 5 WHERE uuid = ?", (A,)))
        assert await journal.forget_senders(100.0) == 1
        assert (journal.last_seq(A), journal.last_seq(B)) == (0, 1)


async def test_components_are_brought_up_to_date_once(tmp_path: Path) -> None:
    later = (*ALARMS, "ALTER TABLE deliveries ADD COLUMN due REAL; INSERT INTO deliveries (text, due) VALUES ('x', 1);")
    path = tmp_path / "j.db"
    async with open_journal(path, {"alarms": ALARMS}):
        pass
    for _ in range(2):
        async with open_journal(path, {"alarms": later}) as journal:
            rows = await journal.run(lambda connection: connection.execute("SELECT * FROM deliveries").fetchall())
            assert rows == [(1, "x", 1.0)]
    with pytest.raises(ConfigError, match=r"later palatine \(schema 2, known here: 1\)"):
        async with open_journal(path, {"alarms": ALARMS}):
            pytest.fail("opened")


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    broken = (*ALARMS, "CREATE TABLE half (a); CREATE TABLE half (a);")
    with pytest.raises(ConfigError, match="table half already exists"):
        async with open_journal(tmp_path / "j.db", {"alarms": broken}):
            pytest.fail("opened")
    async with open_journal(tmp_path / "j.db", {"alarms": ALARMS}) as journal:
        names = await journal.run(
            lambda connection: {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        )
    assert "deliveries" in names
    assert "half" not in names


async def test_a_later_file_is_refused(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j.db") as journal:
        await journal.run(lambda connection: connection.execute("PRAGMA user_version = 99"))
    with pytest.raises(ConfigError, match="later palatine"):
        async with open_journal(tmp_path / "j.db"):
            pytest.fail("opened")


async def test_a_file_that_is_no_journal_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "j.db").write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigError, match=r"j\.db: cannot be used as a journal: file is not a database"):
        async with open_journal(tmp_path / "j.db"):
            pytest.fail("opened")


async def test_one_process_at_a_time(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j.db"):
        with pytest.raises(AlreadyRunningError):
            async with open_journal(tmp_path / "j.db"):
                pytest.fail("opened")


async def test_what_record_returned_survives_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, pathlib, trio\nfrom palatine.bus import Event\n"
        "from palatine.bus.journal import open_journal\n"
        "async def main():\n"
        "    async with open_journal(pathlib.Path(sys.argv[1])) as journal:\n"
        "        await journal.record(b'a' * 16, [Event(n, 'n', n) for n in range(1, 101)])\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "trio.run(main)\n"
    )
    done = await trio.run_process([sys.executable, "-c", code, str(tmp_path / "j.db")], check=False)
    assert done.returncode == -9
    async with open_journal(tmp_path / "j.db") as journal:
        assert journal.last_seq(A) == 100
        assert [entry.body for entry in await journal.due(1e12, 1000)] == list(range(1, 101))
        settings = await journal.run(
            lambda connection: [
                connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
            ]
        )
        assert settings == ["wal", 2]
