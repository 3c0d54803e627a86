"""The master's share of caches and queue: what has expired goes, what is kept in files is written, counts are shown."""

import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from palatine.counters import Segment
from palatine.counters.cache import Cache
from palatine_app_server.config.feature_settings import Features
from palatine_app_server.sharing.stores import Stores
from palatine_app_server.system.part import Part

#: Items looked at in one go, so that a large cache does not hold the master up: a thousand take a millisecond.
SWEEP_ITEMS: Final = 1000


class Store(NamedTuple):
    """Something kept in a file: written every `seconds`, and at the end."""

    flush: Callable[[], None]
    release: Callable[[], None]  # in a forked child
    seconds: int


def of(features: Features, stores: Stores, segment: Segment, say: Callable[[str], None]) -> "Sweeper":
    """The sweeper of what the config asks for."""
    kept = [
        Store(cache.flush, cache.release_in_child, settings.store_sync)
        for (_, cache), settings in zip(stores.caches, features.caches, strict=True)
        if settings.store
    ]
    if stores.queue is not None and features.queue.store:
        kept.append(Store(stores.queue.flush, stores.queue.release_in_child, features.queue.store_sync))
    return Sweeper(
        stores.caches,
        kept,
        segment,
        say,
        every=features.sweep_seconds,
        report=features.report_freed,
        kept_whole=frozenset(cache.name for cache in features.caches if cache.no_expire),
    )


class Sweeper(Part):
    """Looks after `caches`, in the order of their rows; those in `kept_whole` never expire by themselves."""

    def __init__(
        self,
        caches: Sequence[tuple[str, Cache]],
        stores: Sequence[Store],
        segment: Segment,
        say: Callable[[str], None],
        *,
        every: int,
        report: bool,
        kept_whole: frozenset[str],
    ) -> None:
        self._caches = list(caches)
        self._stores = list(stores)
        self._segment = segment
        self._say = say
        self._every = every
        self._report = report
        self._kept_whole = kept_whole
        self._show_at = 0.0
        self._sweep_at = 0.0
        self._flush_at = [0.0] * len(stores)

    def tick(self, now: float) -> None:
        """Sweep, show and write what is due."""
        if now < self._show_at:
            return
        self._show_at = now + 1.0
        if now >= self._sweep_at:
            self._sweep_at = now + self._every
            self._sweep()
        self._show()
        for number, store in enumerate(self._stores):
            if store.seconds and now >= self._flush_at[number]:
                self._flush_at[number] = now + store.seconds
                self._write(store)

    def stop(self, now: float) -> None:
        """The master ends: write everything once more."""
        del now
        for store in self._stores:
            self._write(store)

    def close_in_child(self) -> None:
        """In a forked child: files are the master's."""
        for store in self._stores:
            store.release()

    def _sweep(self) -> None:
        unix = int(time.time())
        for name, cache in self._caches:
            freed = 0 if name in self._kept_whole else cache.sweep(unix, SWEEP_ITEMS)
            if freed and self._report:
                self._say(f'[uwsgi-cache] freed {freed} items for cache "{name}"')

    def _show(self) -> None:
        for row, (_, cache) in enumerate(self._caches):
            cells = self._segment.cells("caches", row)
            items, hits, miss, full, modified = cache.statistics()
            values = {"items": items, "hits": hits, "miss": miss, "full": full, "last_modified_at": modified}
            for name, value in values.items():
                cells[self._segment.word("caches", name)] = value

    def _write(self, store: Store) -> None:
        try:
            store.flush()
        except OSError as error:
            self._say(f"[uwsgi-cache] a store cannot be written: {error.strerror}")
