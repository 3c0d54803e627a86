import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
import trio

from palatine import asyncio_bridge
from palatine.asyncio_bridge import BridgeClosedError, open_bridge


async def test_a_value_and_an_error_come_back() -> None:
    async def add(one: int, other: int) -> int:
        await asyncio.sleep(0)
        return one + other

    async def fail() -> None:
        raise LookupError("no")

    async with open_bridge() as bridge:
        assert await bridge.run(add, 2, 3) == 5
        with pytest.raises(LookupError, match="no"):
            await bridge.run(fail)
        assert bridge.statistics() == asyncio_bridge.BridgeStatistics(calls=2, running=0, alive=True)
    assert not bridge.statistics().alive


async def test_the_loop_lives_in_one_other_thread() -> None:
    async def where() -> int:
        return threading.get_ident()

    async with open_bridge() as bridge:
        threads = {await bridge.run(where) for _ in range(3)}
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_cancelling_waits_for_the_task_to_end() -> None:
    ended: list[str] = []
    begun = trio.Event()
    token = trio.lowlevel.current_trio_token()

    async def slow() -> None:
        token.run_sync_soon(begun.set)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.02)
            ended.append("cleaned up")

    async with open_bridge() as bridge, trio.open_nursery() as nursery:
        nursery.start_soon(bridge.run, slow)
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert ended == ["cleaned up"]


async def test_a_value_that_came_in_spite_of_the_cancellation_is_not_lost() -> None:
    begun = trio.Event()
    token = trio.lowlevel.current_trio_token()
    results: list[int] = []

    async def stubborn() -> int:
        token.run_sync_soon(begun.set)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return 7
        return 0

    async with open_bridge() as bridge:

        async def caller() -> None:
            results.append(await bridge.run(stubborn))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller)
            await begun.wait()
            nursery.cancel_scope.cancel()
    assert results == [7]


async def test_a_call_that_is_cancelled_before_it_begins_never_begins() -> None:
    async def never() -> None:
        raise AssertionError

    async with open_bridge() as bridge:
        with trio.CancelScope() as scope:
            scope.cancel()
            await bridge.run(never)
        assert bridge.statistics().calls == 0


async def test_a_task_cancelled_on_its_own_side_is_an_error_here() -> None:
    async def suicide() -> None:
        task = asyncio.current_task()
        assert task
        task.cancel()
        await asyncio.sleep(60)

    async with open_bridge() as bridge:
        with pytest.raises(BridgeClosedError, match="its own side"):
            await bridge.run(suicide)


async def test_the_death_of_the_loop_is_an_error_for_every_caller() -> None:
    waiting = trio.Event()
    token = trio.lowlevel.current_trio_token()
    seen: list[str] = []

    async def wait() -> None:
        token.run_sync_soon(waiting.set)
        await asyncio.sleep(60)

    async def die() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(60)

    async with open_bridge() as bridge:

        async def caller() -> None:
            with pytest.raises(BridgeClosedError):
                await bridge.run(wait)
            seen.append("first")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller)
            await waiting.wait()
            with pytest.raises(BridgeClosedError):
                await bridge.run(die)
        with pytest.raises(BridgeClosedError, match=r"has ended|died"):
            await bridge.run(wait)
    assert seen == ["first"]


async def test_iteration_is_bounded_and_ordered() -> None:
    made: list[int] = []

    async def numbers(stop: int) -> AsyncIterator[int]:
        for number in range(stop):
            made.append(number)
            yield number

    async with open_bridge() as bridge, bridge.iterate(numbers, 20, buffer=4) as items:
        assert await anext(items) == 0
        assert len(made) <= 6  # the first, four in the channel, one in the pump's hand
        assert [item async for item in items] == list(range(1, 20))


async def test_the_end_of_the_loop_ends_an_iteration() -> None:
    async def endless() -> AsyncIterator[int]:
        while True:
            yield 1
            await asyncio.sleep(0)

    async with open_bridge() as bridge, bridge.iterate(endless, buffer=1) as items:
        assert await anext(items) == 1
        await bridge._close()
        assert await anext(items) == 1
        with pytest.raises(BridgeClosedError):
            await anext(items)


async def test_an_error_ends_the_iteration_after_what_came_before_it() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise LookupError("two")

    got: list[int] = []
    async with open_bridge() as bridge:

        async def read() -> None:
            async with bridge.iterate(broken) as items:
                got.extend([item async for item in items])

        with pytest.raises(LookupError, match="two"):
            await read()
        async with bridge.iterate(broken) as items:
            assert await anext(items) == 1
    assert got == []


async def test_leaving_an_iteration_ends_its_generator() -> None:
    closed: list[bool] = []

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    async with open_bridge() as bridge, bridge.iterate(endless) as items:
        assert await anext(items) == 1
    assert closed == [True]


async def test_closing_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio_bridge, "CLOSE_SECONDS", 0.05)
    release = threading.Event()

    async def hold() -> None:
        release.wait(20)

    async with trio.open_nursery() as nursery:

        async def close_while_held() -> None:
            async with open_bridge() as bridge:
                nursery.start_soon(bridge._begin(hold).done.wait)

        with pytest.raises(BridgeClosedError, match="did not end"):
            await close_while_held()
    release.set()
