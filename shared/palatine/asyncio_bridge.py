"""One asyncio loop in a thread of its own, for libraries that know no trio; nothing else may run an asyncio loop.

    async with open_bridge() as bridge:
        connection = await bridge.run(asyncpg.connect, dsn)
        async with bridge.iterate(notifications, connection) as items:
            async for item in items: ...

Objects made on the loop stay on the loop: hand them to `run` again, do not touch them from trio. Cancelling a bridged
call cancels its asyncio task and waits until that task has really ended.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Generic, TypeVar, TypeVarTuple

import attrs
import trio

from palatine.errors import PalatineError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: What closing waits for tasks that will not end; their thread then dies with the process.
CLOSE_SECONDS: Final = 5.0


class BridgeClosedError(PalatineError):
    """The asyncio loop has ended, or ended during the call."""

    exit_status = 70


@attrs.frozen
class BridgeStatistics:
    """Counts of a bridge: calls begun, calls not ended yet, and whether its loop runs."""

    calls: int
    running: int
    alive: bool


class _Call(Generic[T]):
    """One asyncio task and its outcome; `task` belongs to the loop's thread, the rest to trio's."""

    def __init__(self, function: Callable[[], Awaitable[T]], at_end: Callable[[], None] | None = None) -> None:
        self.function = function
        self.at_end = at_end
        self.task: asyncio.Task[T] | None = None
        self.done = trio.Event()
        self.value: T
        self.error: BaseException | None = None

    def end(self, error: BaseException | None, *value: T) -> None:
        """Note the outcome, the first one only."""
        if self.done.is_set():
            return
        self.error = error
        if value:
            self.value = value[0]
        if self.at_end:
            self.at_end()
        self.done.set()

    def result(self) -> T:
        """The value; raises what the task raised, and BridgeClosedError for a cancellation nobody here asked for."""
        if isinstance(self.error, asyncio.CancelledError):
            raise BridgeClosedError("the asyncio task was cancelled on its own side") from self.error
        if self.error is not None:
            raise self.error
        return self.value


class Bridge:
    """Calls from one trio run into one asyncio loop; made by `open_bridge`."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._started = trio.Event()
        self._ended = trio.Event()
        self._death: BaseException | None = None
        self._closing = False
        self._calls: set[_Call[Any]] = set()
        self._count = 0

    def statistics(self) -> BridgeStatistics:
        """Figures as they are now."""
        return BridgeStatistics(self._count, len(self._calls), not self._ended.is_set())

    async def run(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Await `function(*args)` on the loop. Raises what it raises, BridgeClosedError when the loop is gone."""
        await trio.lowlevel.checkpoint_if_cancelled()
        call = self._begin(lambda: function(*args))
        try:
            await call.done.wait()
        except trio.Cancelled:
            await self._cancel(call)
            if isinstance(call.error, asyncio.CancelledError | BridgeClosedError):
                raise
        return call.result()

    @asynccontextmanager
    async def iterate(
        self, function: Callable[[*Ts], AsyncIterator[T]], *args: *Ts, buffer: int = 64
    ) -> AsyncIterator[AsyncIterator[T]]:
        """Iterate over the asyncio iterator `function(*args)`; it runs at most `buffer` items ahead of the reader."""
        send, receive = trio.open_memory_channel[T](buffer)
        credit = asyncio.Semaphore(buffer)

        async def pump() -> None:
            async for item in function(*args):
                await credit.acquire()
                self._to_trio(_offer, send, item)

        call = self._begin(pump, at_end=send.close)
        try:
            yield _Items(receive, call, lambda: self._to_asyncio(credit.release))
        finally:
            receive.close()
            await self._cancel(call)

    def _begin(self, function: Callable[[], Awaitable[T]], at_end: Callable[[], None] | None = None) -> _Call[T]:
        if self._closing or self._ended.is_set():
            raise BridgeClosedError("the asyncio loop has ended") from self._death
        call = _Call(function, at_end)
        self._calls.add(call)
        self._count += 1

        def finish(task: asyncio.Task[T]) -> None:
            if task.cancelled():
                self._to_trio(self._end, call, asyncio.CancelledError())
            elif (error := task.exception()) is not None:
                self._to_trio(self._end, call, error)
            else:
                self._to_trio(self._end, call, None, task.result())

        def start() -> None:
            call.task = self._loop.create_task(_awaited(function))
            call.task.add_done_callback(finish)

        self._to_asyncio(start)
        return call

    def _end(self, call: _Call[T], error: BaseException | None, *value: T) -> None:
        self._calls.discard(call)
        call.end(error, *value)

    async def _cancel(self, call: _Call[Any]) -> None:
        """Cancel the asyncio task and wait for its end, which is its own business."""
        if not call.done.is_set():
            self._to_asyncio(lambda: call.task and call.task.cancel())
        with trio.CancelScope(shield=True):
            await call.done.wait()

    def _to_asyncio(self, function: Callable[[], Any]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop was closed a moment ago: `_loop_ended` is on its way and ends every call
            if not self._loop.is_closed():
                raise

    def _to_trio(self, function: Callable[..., Any], *args: Any) -> None:
        try:
            self._token.run_sync_soon(function, *args)
        except trio.RunFinishedError:  # the shutdown deadline passed and trio has gone; nobody is left to tell
            return

    def _loop_ended(self, death: BaseException | None) -> None:
        self._death = death
        self._ended.set()
        self._started.set()
        for call in list(self._calls):
            error = BridgeClosedError(f"the asyncio loop died: {death!r}" if death else "the asyncio loop has ended")
            error.__cause__ = death
            self._end(call, error)

    def _thread(self) -> None:
        """The loop's thread."""
        death: BaseException | None = None
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - handed to every caller
            death = error
        self._to_trio(self._loop_ended, death)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._to_trio(self._started.set)
        await self._stop.wait()

    async def _open(self) -> None:
        threading.Thread(target=self._thread, name="asyncio-bridge", daemon=True).start()
        with trio.CancelScope(shield=True):
            await self._started.wait()

    async def _close(self) -> None:
        self._closing = True
        self._to_asyncio(self._stop.set)
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            await self._ended.wait()
        if not self._ended.is_set():
            stuck = len(self._calls)
            self._loop_ended(None)
            raise BridgeClosedError(f"the asyncio loop did not end in {CLOSE_SECONDS} s; {stuck} calls were under way")


@asynccontextmanager
async def open_bridge() -> AsyncIterator[Bridge]:
    """A bridge whose loop runs until the block ends; tasks still running then are cancelled."""
    bridge = Bridge()
    await bridge._open()  # noqa: SLF001 - the same module
    try:
        yield bridge
    finally:
        await bridge._close()  # noqa: SLF001 - likewise


async def serve_bridge(*, task_status: trio.TaskStatus[Bridge] = trio.TASK_STATUS_IGNORED) -> None:
    """Hold a bridge open until cancelled: for `await nursery.start(serve_bridge)`."""
    async with open_bridge() as bridge:
        task_status.started(bridge)
        await trio.sleep_forever()


async def _awaited(coroutine: Callable[[], Awaitable[T]]) -> T:
    return await coroutine()


def _offer(send: trio.MemorySendChannel[T], item: T) -> None:
    try:
        send.send_nowait(item)
    except trio.BrokenResourceError:  # the reader has left; its task is being cancelled
        return


class _Items(Generic[T]):
    """The trio end of `iterate`: hands out what the pump sent, then raises what ended it."""

    def __init__(self, receive: trio.MemoryReceiveChannel[T], call: _Call[None], taken: Callable[[], None]) -> None:
        self._receive = receive
        self._call = call
        self._taken = taken

    def __aiter__(self) -> "_Items[T]":
        return self

    async def __anext__(self) -> T:
        try:
            item = await self._receive.receive()
        except trio.EndOfChannel:
            await self._call.done.wait()
            self._call.result()
            raise StopAsyncIteration from None
        self._taken()
        return item
