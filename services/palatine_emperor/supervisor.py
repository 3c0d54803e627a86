"""Holds every vassal's state, feeds events to the policy, its decisions to the hands; a vassal never stops another."""

import contextlib
import os
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Final

import attrs
import trio

from palatine.codec import keeper as records
from palatine_emperor import broodlord_policy, lines
from palatine_emperor import vassal as life
from palatine_emperor.hands import Hands
from palatine_emperor.keeper_link import Holdings, KeeperLink
from palatine_emperor.monitors import Report
from palatine_emperor.vassal import Event, Limits, Phase, Say, Vassal, Wanted
from palatine_emperor.vassal_note import key_of, read_held, split_key
from palatine_emperor.vassal_policy import deadline, decide
from palatine_emperor.vassal_steps import ALIVE

#: Blacklist entries of vassals nobody wants any more; older ones are dropped.
MOST_ABSENT: Final = 1000
#: The keeper's socket takes what is left to say within this, or it hangs.
FLUSH_SECONDS: Final = 2.0


@attrs.define
class Totals:
    """What happened so far, all vassals together."""

    spawns: int = 0
    deaths: int = 0
    reloads: int = 0
    refused: int = 0
    scans: int = 0
    scan_errors: int = 0
    last_scan: float = 0
    commands: int = 0
    commands_refused: int = 0


class Supervisor:
    """The registry of vassals by key (monitor and name); everything here runs in the one trio thread.

    `say` gets every line for the log, `changed` every vassal whose state is another one (phase ABSENT: it is gone),
    `spawned` the key and pid of each that was started, `buried` the key of each whose process has ended.
    """

    def __init__(
        self,
        limits: Limits,
        say: Callable[[Say], None],
        changed: Callable[[str, Vassal], None],
        clock: Callable[[], float],
        buried: Callable[[str], None] = lambda _: None,
        spawned: Callable[[str, int], None] = lambda _key, _pid: None,
    ) -> None:
        self.limits = limits
        self.vassals: dict[str, Vassal] = {}
        self.totals = Totals()
        self.link: KeeperLink | None = None
        self.hands: Hands | None = None
        self._say = say
        self._changed = changed
        self._clock = clock
        self._buried = buried
        self._spawned = spawned
        self._events: deque[tuple[str, Event]] = deque()
        self._working = False
        self._unburied: dict[str, int | None] = {}
        self._rearm = trio.Event()
        self._quiet = trio.Event()

    # What happens

    def happened(self, key: str, event: Event) -> None:
        """Decide about one event, and about what follows from it, in order."""
        self._events.append((key, event))
        if self._working:
            return
        self._working = True
        try:
            while self._events:
                key, event = self._events.popleft()
                try:
                    self._decide(key, event)
                except Exception:  # noqa: BLE001 - a fault of ours that one vassal met must not stop its neighbours
                    trace = traceback.format_exc()
                    self._say(Say("vassal.fault", f"[emperor] {split_key(key)[1]}: {event}: {trace}"))
        finally:
            self._working = False
        self._rearm.set()
        if not self.processes():
            self._quiet.set()

    def report(self, monitor: str, report: Report) -> None:
        """Let a monitor's report happen."""
        for line in report.said:
            self._say(Say("monitor.said", line, stamped=False))
        self.totals.scans += report.complete or bool(report.error)
        self.totals.commands += 0 if report.complete else len(report.wanted) + len(report.gone)
        self.totals.commands_refused += 0 if report.complete else len(report.said)
        if report.error:
            self.totals.scan_errors += 1
            self._say(Say("monitor.unreadable", f"[emperor] {report.error}: its vassals stay as they are"))
            return
        self.totals.last_scan = self._clock()
        wanted = {key_of(monitor, vassal.name): vassal for vassal in report.wanted}
        for key, vassal in wanted.items():
            self.happened(key, life.Want(vassal))
        self._lead(wanted)
        gone = [key_of(monitor, name) for name in report.gone]
        if report.complete:
            gone = [key for key in self.vassals if split_key(key)[0] == monitor and self._base(key) not in wanted]
        for key in gone:
            self.happened(key, life.Unwant())
        self._bury(key for key in self._unburied if split_key(key)[0] == monitor)

    def everyone(self, event: Event) -> None:
        """Let the same happen to all."""
        for key in list(self.vassals):
            self.happened(key, event)
        if isinstance(event, life.Stop):
            self._bury(self._unburied)

    def retire_monitors(self, keep: set[str]) -> None:
        """Let go of the vassals of every monitor that is not in `keep`."""
        retired = [key for key in self.vassals if split_key(key)[0] not in keep]
        for key in retired:
            self.happened(key, life.Unwant())
        self._bury(retired)

    # Zergs

    def _summon(self, key: str, caller: Vassal) -> None:
        """Start a zerg for who asked, if it gets one."""
        monitor, name = split_key(key)
        known = {
            split_key(other)[1] if split_key(other)[0] == monitor else other: vassal
            for other, vassal in self.vassals.items()
        }
        zerg = broodlord_policy.reinforcement(caller, known, self._clock(), self.limits)
        if zerg is not None:
            self._say(lines.broodlord(name))
            self._events.append((key_of(monitor, zerg.name), life.Want(zerg)))

    def _zergs(self, key: str) -> list[str]:
        """The keys of a vassal's zergs."""
        return [other for other in self.vassals if other != key and self._base(other) == key]

    def _base(self, key: str) -> str:
        """The key of the vassal a zerg helps; of others, their own."""
        vassal = self.vassals.get(key)
        wanted = vassal and (vassal.wanted or vassal.started)
        return key_of(split_key(key)[0], wanted.zerg_of) if wanted and wanted.zerg else key

    def _lead(self, wanted: Mapping[str, Wanted]) -> None:
        """Let the zergs of these vassals have what those have now."""
        for key, vassal in list(self.vassals.items()):
            zerg = vassal.wanted
            if zerg is not None and zerg.zerg and (base := wanted.get(self._base(key))):
                after = attrs.evolve(base, name=zerg.name, zerg_of=zerg.zerg_of, zerg=zerg.zerg, socket="")
                self.happened(key, life.Want(after))

    # What there is

    def processes(self) -> int:
        """Vassals with a process, or one on its way."""
        return sum(vassal.phase in ALIVE for vassal in self.vassals.values())

    def named(self, name: str) -> Iterator[str]:
        """Keys of the vassals of this name that somebody wants."""
        return (key for key, vassal in self.vassals.items() if split_key(key)[1] == name and vassal.wanted)

    async def wait_quiet(self) -> None:
        """Return once no vassal has a process."""
        while self.processes():
            self._quiet = trio.Event()
            await self._quiet.wait()

    # Life with a keeper

    async def govern(
        self,
        find_keeper: Callable[[], Awaitable[tuple[KeeperLink, Holdings]]],
        make_hands: Callable[[trio.Nursery], Hands],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Take over what the keeper holds, then serve it until cancelled; a keeper that dies is replaced.

        Raises:
            PeerError, DeadlineError, ProtocolError: there is no keeper to be had.
        """
        async with trio.open_nursery() as nursery:
            self.hands = make_hands(nursery)
            try:
                link, held = await find_keeper()
                self._take_link(link)
                self._adopt(held)
                nursery.start_soon(self._tick)
                task_status.started()
                while True:
                    await self._serve(link)
                    link.close()
                    self.hands.link = None
                    self._say(Say("keeper.lost", f"[emperor] the keeper (pid {link.pid}) is gone, starting another"))
                    await link.reap()
                    link, held = await find_keeper()
                    self._hand_over(link, held)
            finally:
                if self.link is not None:
                    self.link.close()
                self.hands.close()

    async def leave_to_keeper(self, *, release: bool) -> None:
        """Before leaving: the keeper knows all there is to know; `release` lets it end with its last vassal."""
        if self.link is not None:
            if release:
                self.link.order(records.Release())
            with trio.move_on_after(FLUSH_SECONDS):
                await self.link.flush()

    async def _serve(self, link: KeeperLink) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.send)
            while (delivery := await link.receive()) is not None:
                self._heard(delivery.record, delivery.descriptors)
            nursery.cancel_scope.cancel()

    def _heard(self, record: records.Record, descriptors: list[int]) -> None:
        assert self.hands is not None
        match record:
            case records.Spawned(key, pid, born, parts):
                self.totals.spawns += 1
                self.hands.connect(key, born, parts, descriptors)
                self.happened(key, life.Started(pid))
                self._spawned(key, pid)
            case records.Died(key, _, status):
                self._died(key, status)
            case records.Failed(key, reason) if key in self.vassals:
                self.happened(key, life.NotStarted(reason))
            case _:
                for descriptor in descriptors:
                    os.close(descriptor)
                self._say(Say("keeper.confused", f"[emperor] the keeper says what makes no sense: {record!r}"))

    def _died(self, key: str, status: int | None) -> None:
        assert self.hands is not None
        self.hands.drain(key)
        vassal = self.vassals.get(key)
        if vassal is not None and not vassal.asked:
            self.totals.deaths += 1
        self._buried(key)
        self.happened(key, life.Died(status))

    def _adopt(self, held: Holdings) -> None:
        """Take over vassals; one that died meanwhile is dealt with when its monitor has said what it should be now."""
        assert self.hands is not None
        for one, descriptors in held:
            vassal = read_held(one, self._clock(), self.limits)
            self.vassals[one.key] = vassal
            self.hands.connect(one.key, one.born, one.parts, descriptors)
            if vassal.phase is Phase.WAITING:
                self.hands.watch(one.key)
            if vassal.pid and one.dead:
                self._unburied[one.key] = one.status
            elif vassal.pid:
                self._say(
                    Say("vassal.adopted", f"[emperor] adopted vassal {split_key(one.key)[1]} (pid: {vassal.pid})")
                )
            self._changed(one.key, vassal)

    def _bury(self, keys: Iterable[str]) -> None:
        for key in list(keys):
            if key in self._unburied:
                self._died(key, self._unburied.pop(key))

    def _take_link(self, link: KeeperLink) -> None:
        assert self.hands is not None
        self.link = link
        self.hands.link = link

    def _hand_over(self, link: KeeperLink, held: Holdings) -> None:
        """Tell a new keeper of everything; it cannot know anything itself yet."""
        assert self.hands is not None
        self._take_link(link)
        unknown = [(one, descriptors) for one, descriptors in held if one.key not in self.vassals]
        self._adopt(unknown)
        for key, vassal in list(self.vassals.items()):
            self.hands.hand_over(key, vassal)
            if vassal.phase in ALIVE and not vassal.pid and vassal.started is not None:
                self.hands.act(key, vassal, life.Start(vassal.started, vassal.foreign))

    # Decisions

    def _decide(self, key: str, event: Event) -> None:
        before = self.vassals.get(key) or Vassal()
        after, actions = decide(before, event, self._clock(), self.limits)
        if after.phase is Phase.ABSENT and after.blame is None:
            self.vassals.pop(key, None)
        else:
            self.vassals[key] = after
        if isinstance(event, life.Unwant | life.Stop):
            self._events.extend((zerg, life.Unwant()) for zerg in self._zergs(key))
        for action in actions:
            if isinstance(action, life.Summon):
                self._summon(key, after)
            elif isinstance(action, Say):
                self._say(action)
                self.totals.reloads += action.event == "vassal.reload"
                self.totals.refused += action.event == "vassal.refused"
            elif self.hands is not None:
                self.hands.act(key, after, action)
        if after != before:
            if self.hands is not None:
                self.hands.note(key, after)
            if after.phase is Phase.ABSENT:
                self._drop_oldest_absent()
            self._changed(key, after)

    def _drop_oldest_absent(self) -> None:
        absent = [key for key, vassal in self.vassals.items() if vassal.phase is Phase.ABSENT]
        for key in absent[: max(0, len(absent) - MOST_ABSENT)]:
            self._changed(key, Vassal())
            del self.vassals[key]

    async def _tick(self) -> None:
        """Wake every vassal whose time has come, then sleep until the next one's."""
        while True:
            now = self._clock()
            for key, vassal in list(self.vassals.items()):
                if 0 < deadline(vassal) <= now:
                    self.happened(key, life.Tick())
            upcoming = [at for at in map(deadline, self.vassals.values()) if at]
            self._rearm = trio.Event()
            with contextlib.ExitStack() as stack:
                if upcoming:
                    stack.enter_context(trio.move_on_after(max(0.0, min(upcoming) - self._clock())))
                await self._rearm.wait()
