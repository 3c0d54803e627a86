"""Puts the alarm-daemon together and runs it from start to drain; it must never decide anything itself."""

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any, Final

import trio

from palatine.bus import Batch, Intake, open_intake
from palatine.daemon import Context
from palatine.discovery import Change, watch_instances
from palatine.errors import PalatineError, ProtocolError
from palatine_alarm_daemon.actions import Actions
from palatine_alarm_daemon.control import alarm_handlers
from palatine_alarm_daemon.counters import Counters
from palatine_alarm_daemon.courier import Courier
from palatine_alarm_daemon.journal import AlarmJournal, Kept, Record, open_alarm_journal
from palatine_alarm_daemon.raising import Raiser
from palatine_alarm_daemon.reading import Reader, fetch_config
from palatine_alarm_daemon.registry import Instance, Registry
from palatine_alarm_daemon.settings import Settings
from palatine_alarm_daemon.storm_policy import Last
from palatine_alarm_daemon.values import Lane
from palatine_alarm_daemon.writer import JournalWriter

JOURNAL: Final = "alarms.sqlite"
#: How far back a former run's deliveries still count for the anti-storm rule.
STORM_MEMORY_SECONDS: Final = 3600.0
#: An instance that ends says its last words after its directory went.
PARTING_SECONDS: Final = 2.0
#: How often instances are looked at that had nothing to say.
LOOK_SECONDS: Final = 1.0
#: How often the gauges in the segment are brought up to date.
GAUGE_SECONDS: Final = 1.0


async def serve(ctx: Context) -> None:
    """The daemon's main."""
    path = ctx.state_dir / JOURNAL
    put_aside_if_damaged(path, ctx)
    async with open_alarm_journal(path) as journal, trio.open_nursery() as nursery:
        await Service(ctx, journal, nursery).run()
        nursery.cancel_scope.cancel()


def put_aside_if_damaged(path: Path, ctx: Context) -> None:
    """Rename a journal that cannot be read: new alarms matter more than old ones."""
    if not path.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        return  # no rights, no space, locked: the file itself may be well, and opening it will say more
    except sqlite3.DatabaseError as error:
        aside = path.with_name(f"{JOURNAL}.damaged-{int(time.time())}")
        path.rename(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(JOURNAL + suffix).unlink(missing_ok=True)
        ctx.log.warning("journal.damaged", reason=str(error), kept_as=str(aside))


class Service:
    """All parts of one run."""

    def __init__(self, ctx: Context, journal: AlarmJournal, nursery: trio.Nursery) -> None:
        self._ctx = ctx
        self._nursery = nursery
        self._journal = journal
        self._registry = Registry()
        self._counters = Counters(ctx.segment, self._wanted)
        self._writer = JournalWriter(journal, ctx.log, time.time)
        self._actions = Actions(nursery, ctx.log, ctx.runtime_dir)
        self._raiser = Raiser(self._counters, ctx.log, lambda: self._settings.expire)
        self._courier = Courier(
            nursery,
            self._actions.attempt,
            self._registry,
            self._counters,
            self._writer.settle,
            ctx.log,
            time.time,
        )

    async def run(self) -> None:
        """Load what is left, serve, and leave nothing half done."""
        kept = await self._journal.load(time.time() - STORM_MEMORY_SECONDS)
        reader = Reader(self._registry, self._raiser, self._counters, self._ctx.log, time.time, self._journal.last_seq)
        self._restore(kept, reader)
        await self._configure()
        self._ctx.on_reload(self._configure)
        self._ctx.on_statistics(self._statistics)
        self._ctx.handlers.update(alarm_handlers(self._registry, self._raiser, self._courier, self._make, time.time))
        for delivery in kept.pending:
            self._courier.enqueue(delivery)
        writing = trio.Event()
        self._nursery.start_soon(self._write, writing)
        async with open_intake() as intake:
            with trio.CancelScope() as reading:
                self._nursery.start_soon(self._stop_reading, reading)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(reader.run, intake, self._submit, lambda one: self._ask(reader, one))
                    nursery.start_soon(self._watch, intake)
                    nursery.start_soon(self._look, intake)
                    nursery.start_soon(self._measure)
                    self._ctx.ready(f"{len(kept.pending)} alarms pending" if kept.pending else "")
            await self._courier.drain()
            await self._writer.finish()
            await writing.wait()
        await self._actions.aclose()

    @property
    def _settings(self) -> Settings:
        settings: Settings = self._ctx.settings
        return settings

    async def _configure(self) -> None:
        """Take the settings as they stand; ConfigError keeps the old ones."""
        self._raiser.host = self._settings.host_rules(self._ctx.document.path)
        self._courier.backoff = self._settings.backoff
        self._courier.max_pending = self._settings.max_pending
        await trio.lowlevel.checkpoint()

    def _restore(self, kept: Kept, reader: Reader) -> None:
        for name, (uid, body) in kept.rulesets.items():
            try:
                reader.adopt(self._registry.known(name, uid), body)
            except ProtocolError as error:
                self._ctx.log.warning("journal.ruleset_refused", instance=name, reason=str(error))
        for lane, delivery in kept.lasts.items():
            instance = self._registry.get(lane.instance)
            if instance is not None and instance.uid == lane.uid:
                instance.lasts[lane] = Last(delivery.message, delivery.raised_at)

    async def _submit(self, record: Record, batch: Batch) -> None:
        async def then() -> None:
            for delivery in record.deliveries:
                self._courier.enqueue(delivery)
            await batch.ack()

        await self._writer.submit(record, then)

    async def _make(self, record: Record) -> None:
        await self._writer.write(record)
        for delivery in record.deliveries:
            self._courier.enqueue(delivery)

    async def _write(self, done: trio.Event) -> None:
        await self._writer.run()
        done.set()

    async def _stop_reading(self, scope: trio.CancelScope) -> None:
        await self._ctx.draining.wait()
        scope.cancel()

    async def _watch(self, intake: Intake) -> None:
        async with watch_instances(self._ctx.runtime_dir) as changes, trio.open_nursery() as nursery:
            async for change in changes:
                self._change(change, intake, nursery)

    def _change(self, change: Change, intake: Intake, nursery: trio.Nursery) -> None:
        ref = change.ref
        self._ctx.log.info("instance.seen", what=change.kind, instance=ref.name, uid=ref.uid)
        if change.kind == "vanished":
            self._registry.vanished(ref.name)
            nursery.start_soon(self._part, ref.name, intake)
            return
        self._registry.appeared(ref.name, ref.uid, ref.path)
        _connect(intake, ref.name, ref.path)

    async def _look(self, intake: Intake) -> None:
        """An instance without alarms has no `events` until it has something to say."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            for instance in self._registry:
                if instance.path is not None:
                    _connect(intake, instance.name, instance.path)

    async def _part(self, name: str, intake: Intake) -> None:
        """Let an instance finish what it was saying."""
        epoch = self._registry.epoch(name)
        await trio.sleep(PARTING_SECONDS)
        if self._registry.epoch(name) == epoch:
            intake.disconnect(name)

    def _ask(self, reader: Reader, instance: Instance) -> None:
        """An instance speaks whose rules nobody has (a new state directory): ask for them."""
        self._nursery.start_soon(self._ask_config, reader, instance)

    async def _ask_config(self, reader: Reader, instance: Instance) -> None:
        try:
            body: Any = await fetch_config(instance)
            if instance.ruleset is None:
                reader.adopt(instance, body)
                await self._make(Record(rulesets={instance.name: (instance.uid, body)}))
        except PalatineError as error:
            self._ctx.log.warning("config.missing", instance=instance.name, reason=str(error))

    async def _measure(self) -> None:
        while True:
            self._counters.gauges(self._courier.oldest(), self._writer.bytes, self._present())
            await trio.sleep(GAUGE_SECONDS)

    def _wanted(self, lane: Lane) -> bool:
        return self._registry.present(lane) is not None or self._courier.has(lane)

    def _statistics(self) -> dict[str, Any]:
        return {
            "instances": self._present(),
            "alarms": self._counters.totals(),
            "host_alarms": len(self._raiser.host.alarms),
            "journal": str(self._journal.path),
            "journal_trouble": self._writer.trouble,
        }

    def _present(self) -> int:
        return sum(instance.path is not None for instance in self._registry)


def _connect(intake: Intake, name: str, directory: Path) -> None:
    endpoint = directory / "events"
    if name not in intake.sources() and endpoint.exists():
        intake.connect(name, endpoint)
