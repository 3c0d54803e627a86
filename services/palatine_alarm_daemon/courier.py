"""Carries deliveries out: a lane per instance and alarm, one at a time in each; no lane ever waits for another.

What to do next is `delivery_policy`'s decision; this module only does it and tells the journal.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import attrs
import structlog
import trio

from palatine.codec.alarm_grammar import APP_ACTIONS
from palatine_alarm_daemon.counters import Counters
from palatine_alarm_daemon.curl_options import masked
from palatine_alarm_daemon.delivery_policy import (
    Attempt,
    Backoff,
    Due,
    Event,
    Failed,
    Finish,
    Presence,
    State,
    Succeeded,
    Wait,
    decide,
)
from palatine_alarm_daemon.registry import Registry
from palatine_alarm_daemon.values import APP, DELIVERED, OVERFLOWED, PENDING, Delivery, Lane, Progress

#: A journal from before the clock was set right, or the policy's answer to it, is looked at again after this long.
LONGEST_SLEEP: Final = 3600.0

Perform = Callable[[Delivery, Path | None], Awaitable[Succeeded | Failed]]


@attrs.frozen
class Waiting:
    """A delivery not made yet: `doing` is "attempting", "waiting" or "queued", `until` ends a wait (0: none)."""

    delivery: Delivery
    doing: str
    attempts: int
    until: float
    reason: str


@attrs.define(eq=False)
class _Queue:
    """A lane's deliveries; the first is under way, `state` and `doing` are its."""

    lane: Lane
    deliveries: deque[Delivery] = attrs.field(factory=deque)
    state: State | None = None
    doing: str = "queued"


class Courier:
    """Owns everything pending."""

    def __init__(
        self,
        nursery: trio.Nursery,
        perform: Perform,
        registry: Registry,
        counters: Counters,
        settle: Callable[[Progress], trio.Event],
        log: structlog.stdlib.BoundLogger,
        clock: Callable[[], float],
    ) -> None:
        self._nursery = nursery
        self._perform = perform
        self._registry = registry
        self._counters = counters
        self._settle = settle
        self._log = log
        self._clock = clock
        self._queues: dict[Lane, _Queue] = {}
        self._held: dict[tuple[str, int], int] = {}
        self._resting = trio.Event()
        self.backoff = Backoff()
        self.max_pending = 10_000
        self.draining = trio.Event()

    def enqueue(self, delivery: Delivery) -> None:
        """Take charge of a journalled delivery."""
        lane = delivery.lane
        holder = (lane.instance, lane.uid)
        self._counters.queued(lane)
        if self._held.get(holder, 0) >= self.max_pending:
            self._overflow(lane)
        self._held[holder] = self._held.get(holder, 0) + 1
        queue = self._queues.get(lane)
        if queue is not None:
            queue.deliveries.append(delivery)
            return
        self._queues[lane] = queue = _Queue(lane, deque([delivery]))
        self._nursery.start_soon(self._run, queue)

    def has(self, lane: Lane) -> bool:
        """Whether anything of this lane is pending."""
        return lane in self._queues

    def pending(self) -> list[Waiting]:
        """Everything pending, oldest first."""
        waiting: list[Waiting] = []
        for queue in self._queues.values():
            for index, delivery in enumerate(queue.deliveries):
                state = queue.state if index == 0 else None
                if state is None:
                    waiting.append(Waiting(delivery, "queued", delivery.attempts, 0.0, ""))
                else:
                    waiting.append(Waiting(delivery, queue.doing, state.attempts, state.until, state.reason))
        return sorted(waiting, key=lambda one: one.delivery.raised_at)

    def oldest(self) -> float:
        """When the oldest pending delivery was raised; 0 for none."""
        return min((queue.deliveries[0].raised_at for queue in self._queues.values() if queue.deliveries), default=0.0)

    async def drain(self) -> None:
        """Let attempts under way end, begin no more; what is pending stays in the journal."""
        self.draining.set()
        while any(queue.doing == "attempting" for queue in self._queues.values()):
            self._resting = trio.Event()
            await self._resting.wait()

    async def _run(self, queue: _Queue) -> None:
        while queue.deliveries:
            delivery = queue.deliveries[0]
            if not await self._deliver(queue, delivery):
                return
            queue.deliveries.popleft()
            queue.state = None
            self._release(queue.lane)
        del self._queues[queue.lane]

    async def _deliver(self, queue: _Queue, delivery: Delivery) -> bool:
        """Follow the policy to the end of one delivery; False if the daemon stops before."""
        wants_peer = delivery.lane.origin == APP and delivery.action in APP_ACTIONS
        state = State(
            delivery.expires_at, wants_peer, attempts=delivery.attempts, seed=int(delivery.id[:2], 16), until=0.0
        )
        event: Event = Due()
        while isinstance(event, Succeeded | Failed) or not self.draining.is_set():
            if isinstance(event, Due):
                state = attrs.evolve(state, present=self._registry.present(delivery.lane) is not None)
            state, action = decide(state, event, self._clock(), self.backoff)
            queue.state = state
            match action:
                case Finish(outcome, reason):
                    settled = self._finish(delivery, outcome, state.attempts, reason)
                    if not wants_peer:  # an instance knows a repeated id; others get one repeat after a kill at most
                        await settled.wait()
                    return True
                case Attempt():
                    event = await self._attempt(queue, delivery, state)
                case Wait(until, _):
                    event = await self._wait(queue, delivery.lane, state, until)
        return False

    async def _attempt(self, queue: _Queue, delivery: Delivery, state: State) -> Event:
        instance = self._registry.present(delivery.lane)
        if state.attempts > 1:
            self._counters.retried()
        queue.doing = "attempting"
        try:
            result = await self._perform(delivery, instance.path if instance else None)
        except Exception as error:  # noqa: BLE001 - one delivery's surprise must not end the others; it is logged in full
            self._log.exception("delivery.surprised", **_names(delivery))
            result = Failed(f"{type(error).__name__}: {error}")
        finally:
            queue.doing = "waiting"
            self._resting.set()
        if isinstance(result, Failed) and not result.lasting:
            self._log.warning(
                "delivery.retried",
                **_names(delivery),
                action=delivery.action,
                arg=masked(delivery.action, delivery.arg),
                attempt=state.attempts,
                reason=result.reason,
            )
            self._settle(Progress(delivery.id, PENDING, state.attempts, result.reason, self._clock()))
        return result

    async def _wait(self, queue: _Queue, lane: Lane, state: State, until: float) -> Event:
        """Until the time has come, the instance comes or goes, or the daemon drains."""
        queue.doing = "waiting"
        epoch = self._registry.epoch(lane.instance)
        with trio.move_on_after(min(max(0.0, until - self._clock()), LONGEST_SLEEP)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when, self.draining, nursery.cancel_scope)
                if state.wants_peer:
                    nursery.start_soon(_cancel_when, self._registry.changed(lane.instance), nursery.cancel_scope)
                await trio.sleep_forever()
        present = self._registry.present(lane) is not None
        if state.wants_peer and present != state.present:
            return Presence(present)
        came_back = state.wants_peer and present and self._registry.epoch(lane.instance) != epoch
        return Due() if came_back or self._clock() >= until else Presence(state.present)

    def _finish(self, delivery: Delivery, outcome: str, attempts: int, reason: str) -> trio.Event:
        now = self._clock()
        settled = self._settle(Progress(delivery.id, outcome, attempts, reason, now))
        self._counters.finished(delivery.lane, outcome, now)
        facts = {**_names(delivery), "action": delivery.action, "attempts": attempts}
        if outcome == DELIVERED:
            self._log.debug("delivery.made", **facts, note=reason or None, seconds=round(now - delivery.raised_at, 3))
        else:
            self._log.error("delivery.given_up", **facts, outcome=outcome, reason=reason)
        return settled

    def _overflow(self, lane: Lane) -> None:
        """Give up the oldest waiting delivery of the instance's longest lane."""
        holder = (lane.instance, lane.uid)
        queues = [queue for queue in self._queues.values() if (queue.lane.instance, queue.lane.uid) == holder]
        longest = max(queues, key=lambda queue: len(queue.deliveries), default=None)
        if longest is None or len(longest.deliveries) < 2:
            return
        victim = longest.deliveries[1]
        del longest.deliveries[1]
        self._release(victim.lane)
        self._finish(victim, OVERFLOWED, victim.attempts, f"more than {self.max_pending} pending")

    def _release(self, lane: Lane) -> None:
        holder = (lane.instance, lane.uid)
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]


def _names(delivery: Delivery) -> dict[str, str]:
    return {"instance": delivery.lane.instance, "alarm": delivery.lane.alarm, "id": delivery.id}


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
