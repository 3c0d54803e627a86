import sqlite3
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

import attrs
import pytest
import structlog
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from palatine.errors import AlreadyRunningError, ConfigError
from palatine_alarm_daemon import journal as journal_module
from palatine_alarm_daemon import writer as writer_module
from palatine_alarm_daemon.journal import AlarmJournal, Record, open_alarm_journal
from palatine_alarm_daemon.values import APP, DELIVERED, PENDING, Delivery, Lane, Progress
from palatine_alarm_daemon.writer import JournalWriter

Until = Callable[..., Awaitable[None]]
LANE = Lane("app", 1000, APP, "note")


def delivery(number: int, lane: Lane = LANE, at: float = 100.0) -> Delivery:
    return Delivery(f"{number:032x}", lane, "cmd", "cat \u00e9", b"line \xff%d" % number, at, at + 60, "log")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "alarms.sqlite"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[AlarmJournal]:
    async with open_alarm_journal(path) as journal:
        yield journal


async def test_what_was_recorded_is_there_for_the_next_run(path: Path) -> None:
    deliveries = tuple(delivery(number) for number in range(3))
    ruleset = {"alarms": [], "freq": 3}
    async with open_alarm_journal(path) as journal:
        await journal.record(Record(deliveries, {"app": (1000, ruleset)}, {b"s" * 16: 7}), 100.0)
        await journal.record(
            Record(
                progress=(
                    Progress(deliveries[1].id, DELIVERED, 1, "", 101.0),
                    Progress(deliveries[2].id, PENDING, 4, "no answer", 101.0),
                )
            ),
            101.0,
        )
    async with open_alarm_journal(path) as journal:
        kept = await journal.load(since=0.0)
        assert kept.pending == (deliveries[0], attrs.evolve(deliveries[2], attempts=4))
        assert kept.rulesets == {"app": (1000, ruleset)}
        assert journal.last_seq(b"s" * 16) == 7
        assert journal.last_seq(b"t" * 16) == 0
        assert kept.lasts[LANE].id == deliveries[2].id


async def test_a_newer_ruleset_replaces_and_an_older_number_does_not(journal: AlarmJournal) -> None:
    await journal.record(Record(rulesets={"app": (1, {"a": 1})}, senders={b"s": 7}), 1.0)
    await journal.record(Record(rulesets={"app": (2, {"a": 2})}, senders={b"s": 5}), 2.0)
    assert (await journal.load(0.0)).rulesets == {"app": (2, {"a": 2})}
    assert journal.last_seq(b"s") == 7


async def test_a_settled_delivery_stays_settled(journal: AlarmJournal) -> None:
    await journal.record(Record((delivery(1),)), 1.0)
    await journal.record(Record(progress=(Progress(delivery(1).id, DELIVERED, 1, "", 2.0),)), 2.0)
    await journal.record(Record(progress=(Progress(delivery(1).id, PENDING, 1, "late", 3.0),)), 3.0)
    assert not (await journal.load(0.0)).pending


async def test_a_record_is_written_whole_or_not(journal: AlarmJournal) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        await journal.record(Record((delivery(1), delivery(1)), senders={b"s": 1}), 1.0)
    assert not (await journal.load(0.0)).pending
    assert not journal.last_seq(b"s")
    await journal.record(Record((delivery(1),)), 1.0)


async def test_the_last_of_each_lane_is_remembered_for_a_while(journal: AlarmJournal) -> None:
    other = Lane("app", 1000, APP, "other")
    await journal.record(Record((delivery(1, at=10.0), delivery(2, at=50.0), delivery(3, other, at=20.0))), 60.0)
    assert (await journal.load(30.0)).lasts == {LANE: delivery(2, at=50.0)}


async def test_only_the_newest_finished_are_kept(journal: AlarmJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "KEPT_FINISHED", 3)
    monkeypatch.setattr(journal_module, "SENDER_SECONDS", -1.0)
    done = tuple(Progress(delivery(number).id, DELIVERED, 1, "", 101.0) for number in range(1, 10))
    await journal.record(Record(tuple(delivery(number) for number in range(10)), senders={b"old": 1}), 100.0)
    await journal.record(Record(progress=done), 101.0)
    await journal.prune(time.time())
    assert [one.id for one in (await journal.load(0.0)).pending] == [delivery(0).id]
    assert not journal.last_seq(b"old")
    with closing(sqlite3.connect(journal.path)) as db:
        assert db.execute("SELECT count(*) FROM deliveries").fetchone() == (4,)


async def test_nobody_else_reads_it(journal: AlarmJournal, path: Path) -> None:
    await journal.record(Record((delivery(1),)), 1.0)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.glob("alarms.sqlite*[!k]")} == {0o600}
    assert journal.size() > 0
    with pytest.raises(AlreadyRunningError):
        async with open_alarm_journal(path):
            pass


async def test_a_journal_of_a_newer_version_is_left_alone(path: Path) -> None:
    async with open_alarm_journal(path):
        pass
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE components SET version = 99")
        db.commit()
    with pytest.raises(ConfigError, match="later palatine"):
        async with open_alarm_journal(path):
            pass


async def test_a_full_disk_delays_acks_and_loses_nothing(
    journal: AlarmJournal, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(writer_module, "RETRY_FIRST", 0.01)
    monkeypatch.setattr(writer_module, "RETRY_LONGEST", 0.02)
    writer = JournalWriter(journal, structlog.get_logger(), time.time)
    acked: list[int] = []

    def limit(pages: int) -> None:
        journal._journal._connection.execute(f"PRAGMA max_page_count = {pages}")

    async def submit_many() -> None:
        for number in range(500):

            async def then(number: int = number) -> None:
                acked.append(number)
                await trio.lowlevel.checkpoint()

            await writer.submit(Record((delivery(number),)), then)

    with capture_logs() as logs:
        nursery.start_soon(writer.run)
        limit(20)
        nursery.start_soon(submit_many)
        await until(lambda: bool(writer.trouble))
        assert writer.trouble == "database or disk is full"
        assert len(acked) < 500
        limit(100_000)
        await until(lambda: len(acked) == 500)
    assert {log["event"] for log in logs} == {"journal.failed"}
    assert acked == list(range(500))
    assert not writer.trouble
    assert len((await journal.load(0.0)).pending) == 500
    await writer.finish()


async def test_the_writer_groups_what_waits_and_keeps_the_order(journal: AlarmJournal, nursery: trio.Nursery) -> None:
    writer = JournalWriter(journal, structlog.get_logger(), trio.current_time)
    order: list[int] = []
    for number in range(20):

        async def then(number: int = number) -> None:
            # an empty record waits its turn too: an ack says that everything before is durable
            assert len((await journal.load(0.0)).pending) == 10
            order.append(number)

        await writer.submit(Record((delivery(number),) if number % 2 else ()), then)
    writer.settle(Progress(delivery(100).id, DELIVERED, 1, "", 1.0))
    nursery.start_soon(writer.run)
    await writer.write(Record())
    assert order == list(range(20))
    writer.settle(Progress(delivery(1).id, DELIVERED, 1, "", 1.0))
    await writer.finish()
    await wait_all_tasks_blocked(0.05)
    assert len((await journal.load(0.0)).pending) == 9


steps = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.integers(1, 5)),
        st.tuples(st.just("try"), st.integers(0, 100)),
        st.tuples(st.just("done"), st.integers(0, 100)),
        st.tuples(st.just("reopen"), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None)
@given(steps=steps)
def test_the_journal_is_a_dict_that_survives(steps: list[tuple[str, int]]) -> None:
    async def follow(path: Path) -> None:
        pending: dict[str, int] = {}
        count = at = 0
        while at < len(steps):
            async with open_alarm_journal(path) as journal:
                kept = (await journal.load(0.0)).pending
                assert [(one.id, one.attempts) for one in kept] == sorted(pending.items())
                for kind, number in steps[at:]:
                    at += 1
                    if kind == "reopen":
                        break
                    if kind == "record":
                        fresh = tuple(delivery(count + index) for index in range(number))
                        count += number
                        await journal.record(Record(fresh), 1.0)
                        pending |= dict.fromkeys((one.id for one in fresh), 0)
                    elif pending:
                        ident = sorted(pending)[number % len(pending)]
                        state = DELIVERED if kind == "done" else PENDING
                        await journal.record(Record(progress=(Progress(ident, state, number, "", 2.0),)), 2.0)
                        pending[ident] = number
                        if kind == "done":
                            del pending[ident]

    with tempfile.TemporaryDirectory() as folder:
        trio.run(follow, Path(folder) / "journal")
