"""The pushes apps' configs ask for (`stats-push`, `carbon`, `rrdtool`): their masters say which, and are done by us.

An instance's task asks its master and pushes until that master is gone or has another config. One instance's faults
never touch another's.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
import trio

from palatine.discovery import InstanceRef, watch_instances
from palatine.errors import PalatineError, PeerError, ProtocolError
from palatine.handoff import Offer
from palatine.handoff_client import fetch_offers
from palatine_stats_exporter.board import Facts
from palatine_stats_exporter.instances import DAEMON
from palatine_stats_exporter.push.record import Record, Tally
from palatine_stats_exporter.push.turns import ToAsyncio, Turn
from palatine_stats_exporter.push.uwsgi_formats import Wish
from palatine_stats_exporter.push.uwsgi_pushers import Pusher, pusher_for

KIND: Final = "stats-push"
#: Seconds after which a master that could not be asked is asked again: first, longest.
_RETRY_SECONDS: Final = (0.1, 5.0)

#: Threads one instance's connections and files may take, however long they hang.
_THREADS: Final = 4

_log = structlog.get_logger()

One = Callable[[str], Facts | None]


class AppPushes:
    """All instances' pushes; `one` reads an instance by name."""

    def __init__(self, runtime: Path, one: One, to_asyncio: ToAsyncio, tally: Tally) -> None:
        self._runtime = runtime
        self._to_asyncio = to_asyncio
        self._one = one
        self._tally = tally
        self._records: dict[tuple[str, int], Record] = {}

    def statistics(self) -> list[dict[str, Any]]:
        """How each does, for `ctl status`."""
        return [{"target": record.target, "failing": record.reason or None} for record in self._records.values()]

    async def run(self) -> None:
        """Push until cancelled."""
        scopes: dict[str, trio.CancelScope] = {}
        async with trio.open_nursery() as nursery, watch_instances(self._runtime) as changes:
            async for change in changes:
                if change.kind == "changed":
                    continue  # its master closes the handoff
                if (gone := scopes.pop(change.ref.name, None)) is not None:
                    gone.cancel()
                if change.kind == "appeared":
                    scope = scopes[change.ref.name] = trio.CancelScope()
                    nursery.start_soon(self._keep, change.ref, scope)

    async def _keep(self, ref: InstanceRef, scope: trio.CancelScope) -> None:
        pause, longest = _RETRY_SECONDS
        with scope:
            while True:
                try:
                    await self._serve(ref)
                    pause = _RETRY_SECONDS[0]
                except (PalatineError, OSError) as error:
                    _log.debug("push.waiting", instance=ref.name, reason=str(error))
                await trio.sleep(pause)
                pause = min(2 * pause, longest)

    async def _serve(self, ref: InstanceRef) -> None:
        """Push for one master until it closes the handoff."""
        with await fetch_offers(ref.path, DAEMON, [KIND]) as handoff:
            limiter = trio.CapacityLimiter(_THREADS)
            try:
                async with trio.open_nursery() as nursery:
                    number = 0
                    while handoff.offers:
                        nursery.start_soon(self._push, ref, number, handoff.offers.pop(0), limiter)
                        number += 1
                    await handoff.wait_closed()
                    nursery.cancel_scope.cancel()
            finally:
                for key in [key for key in self._records if key[0] == ref.name]:
                    del self._records[key]

    async def _push(self, ref: InstanceRef, number: int, offer: Offer, limiter: trio.CapacityLimiter) -> None:
        """Push for one wish, at once and then every so often."""
        record = self._records[ref.name, number] = Record(f"{ref.name} {offer.name}", self._tally)
        descriptors = _Descriptors(ref, number, offer)
        try:
            wish = msgspec.convert(offer.options, Wish)
            pusher = pusher_for(wish, own=ref.uid == os.geteuid())
        except (msgspec.ValidationError, ProtocolError) as error:
            descriptors.close()
            _log.warning("push.refused", target=record.target, reason=str(error))
            return
        try:
            await self._rounds(ref, wish, pusher, descriptors, record, limiter)
        finally:
            pusher.close()
            descriptors.close()

    async def _rounds(
        self,
        ref: InstanceRef,
        wish: Wish,
        pusher: Pusher,
        descriptors: "_Descriptors",
        record: Record,
        limiter: trio.CapacityLimiter,
    ) -> None:
        while True:
            began = trio.current_time()
            facts = self._one(ref.name)
            if facts is not None and facts.alive:
                record.note(await pusher.push(Turn(ref, facts, descriptors.take, self._to_asyncio, limiter)))
            await trio.sleep_until(began + wish.seconds)


class _Descriptors:
    """The descriptor that came with the offer, then fresh ones from the master."""

    def __init__(self, ref: InstanceRef, number: int, offer: Offer) -> None:
        self._ref = ref
        self._number = number
        self._name = offer.name
        self._first = offer.fd

    async def take(self) -> int:
        """A descriptor that is the caller's to close; PeerError if the master has none any more."""
        if self._first >= 0:
            first, self._first = self._first, -1
            return first
        with await fetch_offers(self._ref.path, DAEMON, [KIND]) as handoff:
            if self._number < len(handoff.offers) and handoff.offers[self._number].name == self._name:
                return handoff.offers.pop(self._number).fd
        raise PeerError(f"{self._ref.name} offers {self._name} no more", code="gone")

    def close(self) -> None:
        """Close the first one if nobody took it."""
        if self._first >= 0:
            os.close(self._first)
            self._first = -1
