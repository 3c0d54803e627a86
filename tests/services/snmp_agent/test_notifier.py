import itertools
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from palatine.bus.journal import Journal, open_journal
from palatine.codec import usm
from palatine.daemon import Secret
from palatine.schema import AGENT
from palatine.schema.notifications import DEFAULT_BASE
from palatine_snmp_agent import notifier
from palatine_snmp_agent.engine import Engine
from palatine_snmp_agent.notices import Notice
from palatine_snmp_agent.notifier import MAX_WAITING, Notifier, NotKeptError
from palatine_snmp_agent.settings import TargetLine
from palatine_snmp_agent.tally import Tally
from palatine_snmp_agent.targets import Target
from palatine_snmp_agent.usm_gate import UsmGate

(TABLE,) = AGENT
NOTICE = Notice("alarmRaised", {"instance": "app", "alarm": "page", "message": "m"}, 7)


class Nms(Target):
    """A target that answers as told, without a network: `answers` are taken one after the other, then it is silent."""

    def answer(self, *answers: bool) -> "Nms":
        self.taken: list[Notice] = []
        self.answers = iter(answers)
        return self

    async def trap(self, notice: Notice) -> None:
        self.taken.append(notice)

    async def inform(self, notice: Notice) -> bool:
        await trio.sleep(self.line.timeout / 2)
        self.taken.append(notice)
        return next(self.answers, False)


def nms(name: str = "nms", *, inform: bool = True, expire: float = 1000.0, answers: Any = ()) -> Nms:
    line = TargetLine("127.0.0.1:9", name, community=Secret("x"), inform=inform, expire=expire)
    engine = Engine(b"12345", 1)
    return Nms(line, DEFAULT_BASE, engine, UsmGate(engine, {}), usm.Keys(), None).answer(*answers)


class Told:
    def __init__(self, journal: Journal) -> None:
        self.cells = memoryview(bytearray(8 * len(TABLE.fields))).cast("Q")
        self.journal = journal
        self.notifier = Notifier(journal, Tally(self.cells, TABLE.word))

    def count(self, field: str) -> int:
        return self.cells[TABLE.word(field)]


@asynccontextmanager
async def running(path: Path, *targets: Nms) -> AsyncIterator[Told]:
    async with open_journal(path / "journal.db") as journal, trio.open_nursery() as nursery:
        told = Told(journal)
        told.notifier.use({target.line.called: target for target in targets})
        await nursery.start(told.notifier.run)
        yield told
        nursery.cancel_scope.cancel()


async def until(told: Told, field: str, count: int) -> None:
    with trio.fail_after(30):
        while told.count(field) != count:  # noqa: ASYNC110 - a counter has no event
            await trio.sleep(0.01)


async def test_a_notice_goes_to_who_wants_it_and_informs_leave_the_journal(tmp_path: Path) -> None:
    trap, inform, other = nms("trap", inform=False), nms(answers=itertools.repeat(True, 9)), nms("other", inform=False)
    object.__setattr__(other.line, "events", ("cold*",))
    async with running(tmp_path, trap, inform, other) as told:
        assert await told.notifier.accept(NOTICE) == 2
        assert await told.notifier.accept(NOTICE, ["nobody"]) == 0
        told.notifier.tell(Notice("coldStart"))
        await until(told, "inform_acks", 2)
        await until(told, "notifications_pending", 0)
        assert await told.journal.due(float("inf")) == []
    assert [one.name for one in trap.taken] == ["alarmRaised", "coldStart"]
    assert [one.name for one in other.taken] == ["coldStart"]
    assert (told.count("traps"), told.count("informs")) == (3, 2)


async def test_what_was_not_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, nms()) as told:
        await told.notifier.accept(NOTICE)
        assert told.count("notifications_pending") == 1
    again = nms(answers=[True])
    async with running(tmp_path, again) as told:
        await until(told, "inform_acks", 1)
    assert again.taken == [NOTICE]


async def test_an_inform_for_nobody_is_given_up(tmp_path: Path) -> None:
    async with running(tmp_path, nms()) as told:
        await told.notifier.accept(NOTICE)
    async with running(tmp_path) as told:
        await until(told, "notifications_dropped", 1)
        await until(told, "notifications_pending", 0)


async def test_an_old_inform_expires(tmp_path: Path) -> None:
    async with running(tmp_path, nms(expire=1e-9)) as told:
        await told.notifier.accept(NOTICE)
        await until(told, "inform_timeouts", 1)


async def test_a_journal_that_takes_nothing_ends_nothing(tmp_path: Path) -> None:
    trap, inform = nms("trap", inform=False), nms(answers=[True])
    async with running(tmp_path, inform, trap) as told:
        taking = told.journal.add

        async def full(*_: Any, **__: Any) -> int:
            raise sqlite3.OperationalError("database or disk is full")

        told.journal.add = full  # type: ignore[method-assign]
        with pytest.raises(NotKeptError, match="disk is full"):
            await told.notifier.accept(NOTICE)
        told.notifier.tell(NOTICE)
        await until(told, "notifications_dropped", 2)
        told.journal.add = taking  # type: ignore[method-assign]
        told.notifier.tell(NOTICE)
        await until(told, "inform_acks", 1)


async def test_one_instance_cannot_fill_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "MAX_PENDING_OF_ONE", 3)
    async with running(tmp_path, nms(answers=[])) as told:
        for _ in range(3):
            await told.notifier.accept(Notice("workerDied", {"instance": "hostile"}))
        with pytest.raises(NotKeptError, match="3 about 'hostile'"):
            await told.notifier.accept(Notice("workerHarakiri", {"instance": "hostile"}))
        assert await told.notifier.accept(Notice("workerDied", {"instance": "shop"})) == 1
        assert told.count("notifications_dropped") == 1
    async with running(tmp_path, nms(answers=itertools.repeat(True, 4))) as told:
        await until(told, "notifications_pending", 0)
        assert await told.notifier.accept(Notice("workerDied", {"instance": "hostile"})) == 1


async def test_a_storm_is_dropped_and_counted_not_kept(tmp_path: Path) -> None:
    async with running(tmp_path, nms(answers=[])) as told:
        for _ in range(MAX_WAITING + 5):
            told.notifier.tell(NOTICE)
        assert told.count("notifications_dropped") == 4  # the first goes straight to who waits for it
