"""Tells targets what happened: traps at once, informs until they are acknowledged or too old; loses no inform.

An inform is in the journal, on disk, before it is first sent, and leaves it when it is acknowledged or expired: a
`kill -9` in between costs a repetition at most. Informs of one target leave in the order in which things happened, a
few at a time, so that one the target never acknowledges does not hold up the others for its whole life.
"""

import itertools
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

import attrs
import structlog
import trio

from palatine.bus.journal import Journal
from palatine.errors import PalatineError
from palatine_snmp_agent import inform_policy
from palatine_snmp_agent.notices import Notice, notice_of
from palatine_snmp_agent.tally import Tally
from palatine_snmp_agent.targets import Target

#: Informs under way to one target at a time.
AT_A_TIME: Final = 8
#: Informs kept for all targets; later ones are dropped and counted.
MAX_PENDING: Final = 10_000
#: Those of them about one instance or vassal: one that dies every second must not keep others from being told of.
MAX_PENDING_OF_ONE: Final = 1000
#: Things that happened and are not in the journal yet.
MAX_WAITING: Final = 1000
#: The type of our entries in the journal.
_INFORM: Final = "inform"

_log = structlog.get_logger()


@attrs.frozen
class _Inform:
    """A journalled inform; times are unix seconds."""

    id: int
    target: str
    notice: Notice
    raised: float


class NotKeptError(PalatineError):
    """An inform could not be put on disk."""


class Notifier:
    """Owns what is to be told. Run `run`; everything else may be called meanwhile."""

    def __init__(self, journal: Journal, tally: Tally) -> None:
        self._journal = journal
        self._tally = tally
        self._targets: Mapping[str, Target] = {}
        self._queues: dict[str, trio.MemorySendChannel[_Inform]] = {}
        self._send, self._receive = trio.open_memory_channel[Notice](MAX_WAITING)
        self._pending: Counter[str] = Counter()
        self._nursery: trio.Nursery
        self._failing: set[str] = set()

    def use(self, targets: Mapping[str, Target]) -> None:
        """From here on these targets are told."""
        self._targets = dict(targets)

    def tell(self, notice: Notice) -> None:
        """Tell of something soon; never waits, and drops it where too much waits already."""
        if not self._wanting(notice, ()):
            return
        try:
            self._send.send_nowait(notice)
        except trio.WouldBlock:
            self._tally.add("notifications_dropped")

    def wanted(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._targets)

    async def accept(self, notice: Notice, only: Sequence[str] = ()) -> int:
        """Tell of something, `only` to some targets; informs are on disk when this returns how many are told.

        NotKeptError where an inform could not be put on disk; other targets may have been told.
        """
        wanting = self._wanting(notice, only)
        for target in wanting:
            if target.line.inform:
                await self._keep(target, notice)
            else:
                await self._trap(target, notice)
        return len(wanting)

    def statistics(self) -> list[dict[str, Any]]:
        """The targets, for `ctl status`."""
        return [
            {"target": name, "address": one.line.address, "version": one.line.version, "inform": one.line.inform}
            for name, one in self._targets.items()
        ]

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do the telling, until cancelled; begins with what an earlier run left in the journal."""
        async with trio.open_nursery() as self._nursery:
            for entry in await self._journal.due(float("inf"), MAX_PENDING):
                body = entry.body
                self._queue(_Inform(entry.id, body["target"], notice_of(body["notice"]), body["raised"]))
            task_status.started()
            async for notice in self._receive:
                try:
                    await self.accept(notice)
                except NotKeptError as error:
                    _log.error("notify.not_kept", event_name=notice.name, reason=str(error))

    def _wanting(self, notice: Notice, only: Sequence[str]) -> list[Target]:
        return [
            target
            for name, target in self._targets.items()
            if (not only or name in only) and any(fnmatchcase(notice.name, one) for one in target.line.events)
        ]

    async def _trap(self, target: Target, notice: Notice) -> None:
        name = target.line.called
        try:
            await target.trap(notice)
        except OSError as error:
            self._tally.add("notifications_dropped")
            self._say_failing(name, str(error))
        else:
            self._tally.add("traps")
            self._failing.discard(name)

    async def _keep(self, target: Target, notice: Notice) -> None:
        about = _about(notice)
        if self._pending.total() >= MAX_PENDING or (about and self._pending[about] >= MAX_PENDING_OF_ONE):
            self._tally.add("notifications_dropped")
            raise NotKeptError(f"{self._pending.total()} informs wait already, {self._pending[about]} about {about!r}")
        raised = time.time()
        name = target.line.called
        body = {"target": name, "notice": attrs.asdict(notice), "raised": raised}
        try:
            ident = await self._journal.add(_INFORM, body)
        except sqlite3.Error as error:
            self._tally.add("notifications_dropped")
            raise NotKeptError(f"the journal does not take it: {error}") from error
        self._queue(_Inform(ident, name, notice, raised))

    def _queue(self, inform: _Inform) -> None:
        self._count(inform.notice, +1)
        queue = self._queues.get(inform.target)
        if queue is None:
            queue, receive = trio.open_memory_channel[_Inform](MAX_PENDING)
            self._queues[inform.target] = queue
            for _ in range(AT_A_TIME):
                self._nursery.start_soon(self._carry, receive.clone())
            receive.close()
        queue.send_nowait(inform)

    async def _carry(self, queue: trio.MemoryReceiveChannel[_Inform]) -> None:
        with queue:
            async for inform in queue:
                await self._deliver(inform)
                try:
                    await self._journal.done([inform.id])
                except sqlite3.Error as error:  # a full disk; it will be sent again by the next start
                    _log.error("notify.not_forgotten", target=inform.target, reason=str(error))
                self._count(inform.notice, -1)

    async def _deliver(self, inform: _Inform) -> None:
        """Send an inform until it is acknowledged, expired, or nobody's any more."""
        for attempts in itertools.count(1):
            target = self._targets.get(inform.target)
            if target is None:
                _log.warning("notify.target_gone", target=inform.target, event_name=inform.notice.name)
                self._tally.add("notifications_dropped")
                return
            if time.time() >= inform.raised + target.line.expire:
                _log.warning("notify.expired", target=inform.target, event_name=inform.notice.name)
                self._tally.add("inform_timeouts")
                return
            if attempts == 1:
                self._tally.add("informs")
            if await self._try(target, inform):
                self._tally.add("inform_acks")
                return
            await trio.sleep(inform_policy.pause(attempts, target.line.timeout))

    async def _try(self, target: Target, inform: _Inform) -> bool:
        began = trio.current_time()
        try:
            done = await target.inform(inform.notice)
            reason = "not acknowledged in time"
        except OSError as error:
            done, reason = False, str(error)
            await trio.sleep_until(began + target.line.timeout)  # refused at once: it may be starting
        if done:
            self._failing.discard(inform.target)
        else:
            self._say_failing(inform.target, reason)
        return done

    def _say_failing(self, target: str, reason: str) -> None:
        """Once until something arrives again."""
        if target not in self._failing:
            _log.warning("notify.not_delivered", target=target, reason=reason)
        self._failing.add(target)

    def _count(self, notice: Notice, by: int) -> None:
        about = _about(notice)
        self._pending[about] += by
        if not self._pending[about]:
            del self._pending[about]
        self._tally.add("notifications_pending", by)


def _about(notice: Notice) -> str:
    """The instance or vassal a notice is about; "" for the agent's own."""
    return str(notice.values.get("instance") or notice.values.get("vassal") or "")
