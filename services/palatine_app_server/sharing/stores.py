"""Shared memory of an instance by what it is for: caches, the queue, areas. Made by the master before it forks."""

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from palatine.counters import SharedLock
from palatine.counters.cache import Cache, Outcome, Shape
from palatine.counters.memory import SharedMemory
from palatine.counters.queue import Queue
from palatine.errors import ConfigError
from palatine_app_server.config.feature_settings import AreaSettings, CacheItem, CacheSettings, Features, QueueSettings

#: Bytes of the instance's lock file; locks of small things have those from 0 on.
QUEUE_SLOT: Final = (1 << 16) + 1
CACHE_SLOTS: Final = 1 << 17
AREA_SLOTS: Final = 1 << 18


class Area(NamedTuple):
    """A shared area, and the lock apps ask for; nothing else takes it."""

    memory: SharedMemory
    lock: SharedLock


class Stores(NamedTuple):
    """All of it, in the config's order."""

    caches: tuple[tuple[str, Cache], ...] = ()
    queue: Queue | None = None
    areas: tuple[Area, ...] = ()


def make(features: Features, cwd: str, locks: Path) -> Stores:
    """The memory `features` ask for; `locks` is the instance's lock file. ConfigError names what cannot be had."""
    caches = tuple(
        (each.name, _cache(each, cwd, locks, slot)) for slot, each in enumerate(features.caches, CACHE_SLOTS)
    )
    for item in features.cache_items:
        _fill(item, caches, cwd)
    return Stores(
        caches,
        _queue(features.queue, cwd, locks) if features.queue.slots else None,
        tuple(_area(each, cwd, locks, slot) for slot, each in enumerate(features.areas, AREA_SLOTS)),
    )


def _fill(item: CacheItem, caches: Iterable[tuple[str, Cache]], cwd: str) -> None:
    """Put there what the config wants there from the start; the log says whether that could be done."""
    key, equals, text = item.text.partition("=") if item.kind == "item" else (item.text, "=", "")
    value = os.fsencode(text)
    try:
        if item.kind != "item":
            with open(os.path.join(cwd, key), "rb") as file:
                value = file.read()
        if item.kind == "gzip":
            import zlib

            value = zlib.compress(value, wbits=31)  # in gzip's wrapper
    except OSError:
        sys.stderr.write(f'[cache-error] unable to read file "{key}"\n')
        return
    if not equals:
        sys.stderr.write(f"[cache] unable to store item {item.text}\n")
        return
    for name, cache in caches:
        if item.cache in {"", name}:
            outcome = cache.store(os.fsencode(key), value, 0, int(time.time()), update=False)
            word = "[cache]" if outcome in {Outcome.STORED, Outcome.PURGED} else "[cache-error] unable to store"
            sys.stderr.write(f'{word}{" stored" if word == "[cache]" else ""} "{key}" in "{name}"\n')


def _cache(settings: CacheSettings, cwd: str, locks: Path, slot: int) -> Cache:
    shape = Shape(
        items=settings.items,
        blocks=settings.blocks if settings.bitmap else settings.items,
        blocksize=settings.blocksize,
        keysize=settings.keysize,
        hashsize=settings.hashsize,
        chained=settings.bitmap,
        purge_lru=settings.purge_lru,
        clear_on_full=settings.clear_on_full,
        math_initial=settings.math_initial,
    )
    path = os.path.join(cwd, settings.store) if settings.store else ""
    if path and settings.store_delete and os.path.exists(path):
        # a store that does not fit is thrown away instead of refused
        try:
            return _cache_in(_memory(path, shape.size), shape, locks, slot)
        except ConfigError:
            os.unlink(path)
    return _cache_in(_memory(path, shape.size), shape, locks, slot)


def _cache_in(memory: SharedMemory, shape: Shape, locks: Path, slot: int) -> Cache:
    try:
        return Cache(shape, memory, SharedLock(locks, slot))
    except ConfigError:
        memory.release_in_child()
        raise


def _queue(settings: QueueSettings, cwd: str, locks: Path) -> Queue:
    path = os.path.join(cwd, settings.store) if settings.store else ""
    size = Queue.size(settings.slots, settings.blocksize)
    return Queue(settings.slots, settings.blocksize, _memory(path, size), SharedLock(locks, QUEUE_SLOT))


def _area(settings: AreaSettings, cwd: str, locks: Path, slot: int) -> Area:
    if not settings.file:
        return Area(SharedMemory.anonymous(settings.size), SharedLock(locks, slot))
    path = os.path.join(cwd, settings.file)
    try:
        return Area(SharedMemory.window(path, settings.size, settings.offset), SharedLock(locks, slot))
    except (OSError, ValueError) as error:
        raise ConfigError(f"sharedarea: {error}", path) from error


def _memory(path: str, size: int) -> SharedMemory:
    if not path:
        return SharedMemory.anonymous(size)
    try:
        return SharedMemory.of_file(path, size)
    except OSError as error:
        raise ConfigError(f"store: {error.strerror}", path) from error
