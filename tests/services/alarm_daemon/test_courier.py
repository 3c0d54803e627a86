# ruff: noqa: ARG001 - pytest-trio takes the clock from a test's own arguments
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import pytest
import structlog
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from palatine.counters import Segment
from palatine.schema import ALARMS, DAEMON
from palatine_alarm_daemon.counters import Counters
from palatine_alarm_daemon.courier import Courier
from palatine_alarm_daemon.delivery_policy import Backoff, Failed, Succeeded
from palatine_alarm_daemon.registry import Registry
from palatine_alarm_daemon.values import APP, Delivery, Lane, Progress

UID = 1000


class Bench:
    """A courier with a scripted outside; time is trio's mock clock."""

    def __init__(self, nursery: trio.Nursery, tmp_path: Path) -> None:
        self.registry = Registry()
        self.segment = Segment.create(tmp_path / "seg", (*DAEMON, *ALARMS), {"alarms": 8}, {})
        self.counters = Counters(self.segment, lambda _: True)
        self.progress: list[Progress] = []
        self.settled = trio.Event()
        self.disk = trio.Event()
        self.disk.set()
        self.attempts: list[tuple[float, Delivery]] = []
        self.script: Callable[[Delivery], Awaitable[Succeeded | Failed]] = self.succeed
        self.courier = Courier(
            nursery,
            self.perform,
            self.registry,
            self.counters,
            self.settle,
            structlog.get_logger(),
            trio.current_time,
        )
        self.courier.backoff = Backoff(1.0, 8.0)
        self._number = 0

    async def perform(self, delivery: Delivery, instance: Path | None) -> Succeeded | Failed:
        assert instance is None or instance == Path("/run/i") / delivery.lane.instance
        self.attempts.append((trio.current_time(), delivery))
        return await self.script(delivery)

    async def succeed(self, _: Delivery) -> Succeeded | Failed:
        await trio.sleep(0.01)
        return Succeeded()

    async def fail(self, _: Delivery) -> Succeeded | Failed:
        await trio.lowlevel.checkpoint()
        return Failed("no answer")

    def appear(self, name: str = "app", uid: int = UID) -> None:
        self.registry.appeared(name, uid, Path("/run/i") / name)

    def raised(
        self, alarm: str = "note", instance: str = "app", *, action: str = "cmd", expire: float = 60.0
    ) -> Delivery:
        self._number += 1
        now = trio.current_time()
        lane = Lane(instance, UID, APP, alarm)
        # 7f: in the middle of the spread
        delivery = Delivery(f"7f{self._number:030x}", lane, action, "", b"%d" % self._number, now, now + expire)
        self.courier.enqueue(delivery)
        return delivery

    def outcomes(self) -> list[tuple[bytes, str]]:
        numbers = {delivery.id: delivery.message for _, delivery in self.attempts}
        return [(numbers.get(step.id, b"?"), step.state) for step in self.progress if step.state != "pending"]

    def settle(self, progress: Progress) -> trio.Event:
        self.progress.append(progress)
        self.settled.set()
        return self.disk

    async def left(self, count: int) -> None:
        """Until only `count` are pending."""
        while len(self.courier.pending()) > count:
            self.settled = trio.Event()
            await self.settled.wait()
            await wait_all_tasks_blocked()

    async def empty(self) -> None:
        await self.left(0)


@pytest.fixture
async def bench(nursery: trio.Nursery, tmp_path: Path) -> Bench:
    return Bench(nursery, tmp_path)


async def test_a_lane_keeps_its_order_over_failures(bench: Bench, autojump_clock: MockClock) -> None:
    bench.appear()
    failures = iter([True, True, False, True, False, False])

    async def script(delivery: Delivery) -> Succeeded | Failed:
        return await (bench.fail if next(failures) else bench.succeed)(delivery)

    bench.script = script
    for _ in range(3):
        bench.raised()
    await bench.empty()
    assert [delivery.message for _, delivery in bench.attempts] == [b"1", b"1", b"1", b"2", b"2", b"3"]
    assert bench.outcomes() == [(b"1", "delivered"), (b"2", "delivered"), (b"3", "delivered")]
    assert round(bench.attempts[2][0] - bench.attempts[1][0], 1) == 2.0
    assert bench.counters.totals()["retries"] == 3
    assert bench.counters.totals()["pending"] == 0


async def test_lanes_do_not_wait_for_each_other(bench: Bench, autojump_clock: MockClock) -> None:
    bench.appear("hung")
    bench.appear("well")

    async def script(delivery: Delivery) -> Succeeded | Failed:
        if delivery.lane == Lane("hung", UID, APP, "note"):
            await trio.sleep_forever()
        return await bench.succeed(delivery)

    bench.script = script
    stuck = bench.raised(instance="hung")
    bench.raised("other", instance="hung")
    for _ in range(100):
        bench.raised(instance="well")
    began = trio.current_time()
    await bench.left(1)
    assert trio.current_time() - began < 1.1
    [left] = bench.courier.pending()
    assert left.delivery is stuck
    assert left.doing == "attempting"


async def test_an_absent_instance_is_waited_for_without_attempts(bench: Bench, autojump_clock: MockClock) -> None:
    first = bench.raised(expire=100.0)
    bench.raised(action="curl", alarm="web", expire=100.0)
    await trio.sleep(50)
    assert [delivery.action for _, delivery in bench.attempts] == ["curl"]
    [waiting] = bench.courier.pending()
    assert (waiting.delivery, waiting.doing, waiting.attempts, waiting.until) == (first, "waiting", 0, first.expires_at)
    bench.appear()
    await bench.empty()
    assert round(bench.attempts[1][0] - first.raised_at, 1) == 50.0


async def test_another_users_instance_of_the_same_name_gets_nothing(bench: Bench, autojump_clock: MockClock) -> None:
    bench.appear(uid=UID + 1)
    bench.raised(expire=10.0)
    await trio.sleep(5)
    bench.registry.vanished("app")
    bench.appear(uid=UID + 2)
    await bench.empty()
    assert not bench.attempts
    assert bench.progress[-1].state == "expired"


async def test_an_instance_that_comes_back_is_tried_at_once(bench: Bench, autojump_clock: MockClock) -> None:
    bench.appear()
    bench.script = bench.fail
    bench.raised(expire=1000.0)
    await trio.sleep(20)
    bench.script = bench.succeed
    before = len(bench.attempts)
    bench.registry.vanished("app")
    await trio.sleep(0.5)
    bench.appear()
    await wait_all_tasks_blocked()
    assert len(bench.attempts) == before + 1
    await bench.empty()


async def test_a_restart_too_quick_to_see_is_tried_at_once_too(bench: Bench, autojump_clock: MockClock) -> None:
    bench.appear()
    bench.script = bench.fail
    bench.raised(expire=1000.0)
    await trio.sleep(20)
    bench.script = bench.succeed
    bench.registry.vanished("app")
    bench.appear()
    began = trio.current_time()
    await bench.empty()
    assert trio.current_time() - began < 0.1


async def test_expiry_ends_it_while_waiting_and_while_gone(bench: Bench, autojump_clock: MockClock) -> None:
    bench.appear()
    bench.script = bench.fail
    bench.raised(expire=10.0)
    bench.raised(instance="gone", expire=5.0)
    await bench.empty()
    assert [
        (step.state, round(step.at - bench.attempts[0][0])) for step in bench.progress if step.state == "expired"
    ] == [
        ("expired", 5),
        ("expired", 10),
    ]
    assert bench.counters.totals()["failed"] == 2


async def test_a_lasting_refusal_lets_the_next_go(bench: Bench, autojump_clock: MockClock) -> None:
    bench.appear()

    async def script(delivery: Delivery) -> Succeeded | Failed:
        await trio.lowlevel.checkpoint()
        return Failed("never", lasting=True) if delivery.message == b"1" else Succeeded("note")

    bench.script = script
    bench.raised()
    bench.raised()
    await bench.empty()
    assert bench.outcomes() == [(b"1", "failed"), (b"2", "delivered")]


async def test_a_surprise_is_a_failure_like_others(bench: Bench, autojump_clock: MockClock) -> None:
    bench.appear()
    surprises = iter([RuntimeError("bug")])

    async def script(delivery: Delivery) -> Succeeded | Failed:
        for surprise in surprises:
            raise surprise
        return await bench.succeed(delivery)

    bench.script = script
    bench.raised()
    await bench.empty()
    assert [step.reason for step in bench.progress] == ["RuntimeError: bug", ""]


async def test_too_many_pending_give_up_the_oldest_that_waits(bench: Bench, autojump_clock: MockClock) -> None:
    bench.courier.max_pending = 3
    for number in range(5):
        bench.raised("note" if number else "other")
    bench.raised(instance="unharmed")
    await wait_all_tasks_blocked()
    left = [one.delivery.message for one in bench.courier.pending() if one.delivery.lane.instance == "app"]
    assert left == [b"1", b"2", b"5"]
    assert [step.state for step in bench.progress] == ["overflowed", "overflowed"]
    assert bench.counters.totals()["pending"] == 4


async def test_draining_ends_attempts_and_begins_none(bench: Bench, autojump_clock: MockClock) -> None:
    bench.appear()
    for _ in range(3):
        bench.raised()
    bench.raised(instance="gone")
    await wait_all_tasks_blocked()
    await bench.courier.drain()
    await wait_all_tasks_blocked()
    assert bench.outcomes() == [(b"1", "delivered")]
    assert len(bench.attempts) == 1


async def test_attempts_of_an_earlier_run_count_for_the_delay(bench: Bench, autojump_clock: MockClock) -> None:
    bench.appear()
    bench.script = bench.fail
    now = trio.current_time()
    lane = Lane("app", UID, APP, "note")
    bench.courier.enqueue(attrs.evolve(Delivery("7f" * 16, lane, "cmd", "", b"x", now, now + 100), attempts=3))
    await trio.sleep(20)
    assert [round(at - now) for at, _ in bench.attempts] == [0, 8, 16]


async def test_after_a_kill_at_most_one_delivery_to_others_is_repeated(bench: Bench, autojump_clock: MockClock) -> None:
    bench.disk = trio.Event()
    for _ in range(3):
        bench.raised("web", action="curl")
    bench.appear()
    for _ in range(3):
        bench.raised()
    await trio.sleep(30)
    assert sorted(delivery.lane.alarm for _, delivery in bench.attempts) == ["note", "note", "note", "web"]
    bench.disk.set()
    await bench.empty()
    assert len(bench.attempts) == 6
