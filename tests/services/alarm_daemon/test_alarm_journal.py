import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from palatine_alarm_daemon import journal as journal_module
from palatine_alarm_daemon.journal import Journal, Record
from palatine_alarm_daemon.values import APP, DELIVERED, PENDING, Delivery, Lane, Progress

LANE = Lane("app", 1000, APP, "note")


def delivery(number: int, lane: Lane = LANE, at: float = 100.0) -> Delivery:
    return Delivery(f"{number:032x}", lane, "cmd", "cat \u00e9", b"line \xff%d" % number, at, at + 60, "log")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "alarms.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal(path)
    yield journal
    journal.close()


def test_what_was_recorded_is_there_for_the_next_run(journal: Journal, path: Path) -> None:
    deliveries = tuple(delivery(number) for number in range(3))
    ruleset = {"alarms": [], "freq": 3}
    journal.record(Record(deliveries, {"app": (1000, ruleset)}, {b"s" * 16: 7}), 100.0)
    journal.settle([Progress(deliveries[1].id, DELIVERED, 1, "", 101.0)])
    journal.settle([Progress(deliveries[2].id, PENDING, 4, "no answer", 101.0)])
    after = Journal(path)  # the first one is not closed: it was killed
    kept = after.load(since=0.0)
    assert kept.pending == (deliveries[0], attrs.evolve(deliveries[2], attempts=4))
    assert kept.rulesets == {"app": (1000, ruleset)}
    assert kept.senders == {b"s" * 16: 7}
    assert kept.lasts[LANE].id == deliveries[2].id
    after.close()


def test_a_newer_ruleset_replaces_and_an_older_number_does_not(journal: Journal) -> None:
    journal.record(Record(rulesets={"app": (1, {"a": 1})}, senders={b"s": 7}), 1.0)
    journal.record(Record(rulesets={"app": (2, {"a": 2})}, senders={b"s": 5}), 2.0)
    kept = journal.load(0.0)
    assert kept.rulesets == {"app": (2, {"a": 2})}
    assert kept.senders == {b"s": 7}


def test_a_settled_delivery_stays_settled(journal: Journal) -> None:
    journal.record(Record((delivery(1),)), 1.0)
    journal.settle([Progress(delivery(1).id, DELIVERED, 1, "", 2.0)])
    journal.settle([Progress(delivery(1).id, PENDING, 1, "late", 3.0)])
    assert not journal.load(0.0).pending


def test_a_record_is_written_whole_or_not(journal: Journal) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        journal.record(Record((delivery(1), delivery(1)), senders={b"s": 1}), 1.0)
    kept = journal.load(0.0)
    assert not kept.pending
    assert not kept.senders
    journal.record(Record((delivery(1),)), 1.0)


def test_the_last_of_each_lane_is_remembered_for_a_while(journal: Journal) -> None:
    other = Lane("app", 1000, APP, "other")
    journal.record(Record((delivery(1, at=10.0), delivery(2, at=50.0), delivery(3, other, at=20.0))), 60.0)
    assert journal.load(30.0).lasts == {LANE: delivery(2, at=50.0)}


def test_only_the_newest_finished_are_kept(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "KEPT_FINISHED", 3)
    journal.record(Record(tuple(delivery(number) for number in range(10)), senders={b"old": 1}), 100.0)
    journal.settle([Progress(delivery(number).id, DELIVERED, 1, "", 101.0) for number in range(1, 10)])
    journal.prune(100.0 + journal_module.SENDER_SECONDS + 1)
    kept = journal.load(0.0)
    assert [one.id for one in kept.pending] == [delivery(0).id]
    assert not kept.senders
    with sqlite3.connect(journal.path) as db:
        assert db.execute("SELECT count(*) FROM deliveries").fetchone() == (4,)
    db.close()


def test_nobody_else_reads_it(journal: Journal, path: Path) -> None:
    journal.record(Record((delivery(1),)), 1.0)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert journal.size() > 0


def test_a_full_disk_loses_nothing(journal: Journal) -> None:
    journal._db.execute("PRAGMA max_page_count = 12")

    def fill() -> None:
        for number in range(1000):
            journal.record(Record((delivery(number),)), 1.0)

    with pytest.raises(sqlite3.OperationalError, match="full"):
        fill()
    written = len(journal.load(0.0).pending)
    journal._db.execute("PRAGMA max_page_count = 100000")
    journal.record(Record((delivery(2000),)), 1.0)
    assert len(journal.load(0.0).pending) == written + 1


def test_a_journal_of_a_newer_version_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(sqlite3.DatabaseError, match="newer version"):
        Journal(path)


class JournalMachine(RuleBasedStateMachine):
    """The journal against a dict, killed (reopened without close) at any time."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name) / "j"
        self._journals = [Journal(self._path)]
        self._pending: dict[str, int] = {}
        self._count = 0

    @rule(count=st.integers(1, 5))
    def record(self, count: int) -> None:
        fresh = tuple(delivery(self._count + number) for number in range(count))
        self._count += count
        self._journals[-1].record(Record(fresh), 1.0)
        self._pending |= {one.id: 0 for one in fresh}

    @rule(data=st.data(), attempts=st.integers(1, 9), done=st.booleans())
    def settle(self, data: st.DataObject, attempts: int, done: bool) -> None:  # noqa: FBT001 - drawn
        if not self._pending:
            return
        ident = data.draw(st.sampled_from(sorted(self._pending)))
        self._journals[-1].settle([Progress(ident, DELIVERED if done else PENDING, attempts, "", 2.0)])
        if done:
            del self._pending[ident]
        else:
            self._pending[ident] = attempts

    @rule()
    def killed(self) -> None:
        self._journals.append(Journal(self._path))

    @invariant()
    def pending_is_pending(self) -> None:
        kept = self._journals[-1].load(0.0).pending
        assert {one.id: one.attempts for one in kept} == self._pending
        assert [one.id for one in kept] == sorted(self._pending)

    def teardown(self) -> None:
        for journal in self._journals:
            journal.close()
        self._folder.cleanup()


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
