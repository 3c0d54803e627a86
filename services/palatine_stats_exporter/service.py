"""The daemon's parts put together: serving thread, instances, pages, and the counters of what they did."""

import gc
import resource
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import structlog
import trio

from palatine.counters import Segment
from palatine.daemon import Context
from palatine.errors import PalatineError
from palatine_stats_exporter import history_file
from palatine_stats_exporter.access import Http
from palatine_stats_exporter.board import Board
from palatine_stats_exporter.history import FINE_SECONDS, History
from palatine_stats_exporter.instances import Instances
from palatine_stats_exporter.live import Live
from palatine_stats_exporter.neighbours import Neighbours
from palatine_stats_exporter.pages import Pages
from palatine_stats_exporter.push.targets import Pushing
from palatine_stats_exporter.push.targets import Tally as PushTally
from palatine_stats_exporter.serving import StatsServer
from palatine_stats_exporter.waiting import Tally

#: How often counts go to the segment and the serving thread is looked at: a wake-up costs as much as a scrape.
_ROUND_SECONDS: Final = 3.0

#: How often the history goes to the disk: what a `kill -9` takes from the page.
_KEEP_SECONDS: Final = 300.0

_log = structlog.get_logger()


async def serve(ctx: Context, http: Http) -> None:
    """Serve until the daemon drains; pages where `http` says. `ctx.settings.push` is followed."""
    allow_descriptors()
    server = StatsServer(on_error=Complaints().say)
    counts = Counts(ctx.segment, server.tally)
    instances = Instances(ctx.runtime_dir, server, on_change=lambda: counts.instances(instances))
    board, neighbours = Board(instances.served), Neighbours(ctx.runtime_dir)
    pages = Pages(board, neighbours, http.probe)
    pushing = Pushing(lambda: board.look()[0], ctx.state_dir, ctx.runtime_dir, board.one, ctx.to_asyncio)
    counts.pushing = pushing.tally
    ctx.on_statistics(
        lambda: {
            "sockets": instances.statistics(),
            "push": pushing.statistics(),
            "counts": counts.write(pages),
        }
    )

    async def reload() -> None:
        pushing.change(ctx.settings.push)

    await reload()
    ctx.on_reload(reload)
    with closing(board), closing(neighbours):
        async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
            nursery.start_soon(keep_running, server)
            nursery.start_soon(instances.run)
            nursery.start_soon(pushing.run)
            nursery.start_soon(_rounds, server, counts, pages)
            if http.listen:
                from palatine_stats_exporter import web  # hypercorn is a third of the start-up

                live = Live(pages.live, time.time)
                nursery.start_soon(live.run)
                nursery.start_soon(_samples, pages, ctx.state_dir / "history")
                application = web.Application(pages, live, ctx.draining, http)
                outer.start_soon(web.serve, web.listen(http.listen), application, ctx.draining)  # ends by itself
            gc.collect()
            gc.freeze()  # a collection that walks everything there is takes as long as twenty scrapes
            ctx.ready("serving instances as they come")
            await ctx.draining.wait()
            nursery.cancel_scope.cancel()


async def keep_running(server: StatsServer) -> None:
    """Run the serving thread until cancelled; what it raises ends the daemon."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.to_thread.run_sync, server.run))
        try:
            await trio.sleep_forever()
        finally:
            server.stop()


async def _samples(pages: Pages, kept: Path) -> None:
    """Feed the history of the page, and keep it on disk: every few minutes, and at the end."""
    remember(pages.history, kept)
    due = time.monotonic() + _KEEP_SECONDS
    try:
        while True:
            pages.sample()
            if time.monotonic() >= due:
                await trio.to_thread.run_sync(keep, kept, history_file.packed(pages.history))
                due = time.monotonic() + _KEEP_SECONDS
            await trio.sleep(FINE_SECONDS)
    finally:
        keep(kept, history_file.packed(pages.history))


def remember(history: History, path: Path) -> None:
    """Begin with what an earlier run has kept; what cannot be read is said and left."""
    try:
        history_file.load(path, history, time.time())
    except FileNotFoundError:
        return
    except (OSError, PalatineError) as error:
        _log.warning("history.not_read", path=str(path), reason=str(error), effect="the page begins anew")


def keep(path: Path, data: bytes) -> None:
    """Write the history; a disk that takes none costs the next run its panels and nothing else."""
    try:
        history_file.save(path, data)
    except OSError as error:
        _log.warning("history.not_kept", path=str(path), reason=str(error))


async def _rounds(server: StatsServer, counts: "Counts", pages: Pages) -> None:
    while True:
        if server.rescue():
            _log.error("stats.listener_hung", effect="that instance's stats socket was shut down")
        counts.write(pages)
        await trio.sleep(_ROUND_SECONDS)


def allow_descriptors() -> None:
    """Idle clients cost a descriptor each: take as many as the system gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Complaints:
    """Documents that could not be made, each reason said once until another comes between."""

    def __init__(self) -> None:
        self._last = ""

    def say(self, error: Exception) -> None:
        """Called by the serving thread."""
        if str(error) != self._last:
            _log.warning("stats.failed", reason=str(error))
        self._last = str(error)


class Counts:
    """The exporter's own row in its segment."""

    def __init__(self, segment: Segment, tally: Tally) -> None:
        self._segment = segment
        self._tally = tally
        self.pushing = PushTally()
        self._exporter = segment.cells("exporter")
        self._daemon = segment.cells("daemon")

    def instances(self, instances: Instances) -> None:
        """Note how many instances and sockets there are."""
        self._daemon[self._segment.word("daemon", "instances")] = len(instances.served)
        self._store("endpoints", sum(len(one.addresses) for one in instances.served.values()))

    def write(self, pages: Pages) -> dict[str, int]:
        """Store what was served; the row as it is then."""
        tally = self._tally
        self._store("scrapes_raw", tally.raw)
        self._store("scrapes_http", tally.http)
        self._store("scrapes_metrics", pages.metrics_pages)
        self._store("scrape_errors", tally.errors + pages.errors)
        self._store("pages", pages.pages)
        self._store("bytes_out", tally.bytes_out + pages.bytes_out)
        self._store("clients", tally.clients)
        self._store("pushes", self.pushing.pushes)
        self._store("push_errors", self.pushing.errors)
        self._store("push_dropped", self.pushing.dropped)
        self._store("last_push", self.pushing.last)
        return {name: self._exporter[self._segment.word("exporter", name)] for name in _COUNTS}

    def _store(self, field: str, value: int) -> None:
        self._exporter[self._segment.word("exporter", field)] = value


_COUNTS: Final = (
    "scrapes_raw",
    "scrapes_http",
    "scrapes_metrics",
    "scrape_errors",
    "pages",
    "bytes_out",
    "clients",
    "endpoints",
    "pushes",
    "push_errors",
    "push_dropped",
    "last_push",
)
