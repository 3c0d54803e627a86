"""Shared memory of an instance by what it is for: caches, the queue, areas. Made by the master before it forks."""

import os
from pathlib import Path
from typing import Final, NamedTuple

from palatine.counters import SharedLock
from palatine.counters.cache import Cache, Shape
from palatine.counters.memory import SharedMemory
from palatine.counters.queue import Queue
from palatine.errors import ConfigError
from palatine_app_server.feature_settings import AreaSettings, CacheSettings, Features, QueueSettings

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
    return Stores(
        tuple((each.name, _cache(each, cwd, locks, slot)) for slot, each in enumerate(features.caches, CACHE_SLOTS)),
        _queue(features.queue, cwd, locks) if features.queue.slots else None,
        tuple(_area(each, cwd, locks, slot) for slot, each in enumerate(features.areas, AREA_SLOTS)),
    )


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
