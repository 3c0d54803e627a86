"""What every process of an instance shares besides the segment: made once by the master, inherited by all it forks.

Queues and shared memory made here survive reloads; a config that changes them makes the master succeed itself.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from palatine.counters import SharedLock
from palatine_app_server.config.feature_settings import Features
from palatine_app_server.config.settings import AppSettings
from palatine_app_server.sharing import spool
from palatine_app_server.sharing.mule_queues import MuleQueues
from palatine_app_server.sharing.signals_table import SignalsTable

if TYPE_CHECKING:  # loaded only where the config asks for it
    from palatine_app_server.sharing.metric_table import MetricTable
    from palatine_app_server.sharing.stores import Stores


#: Bytes of the instance's lock file; user locks and SNMP have those from 0 on, the stores those beyond.
METRICS_SLOT: Final = 1 << 16


class Commons(NamedTuple):
    """The shared things; None or empty where the config asks for none."""

    signals: SignalsTable
    queues: MuleQueues | None
    spools: tuple[str, ...]  # absolute directories: of each spooler process, then those of others
    stores: "Stores | None"
    metrics: "MetricTable | None"
    metrics_lock: SharedLock


def make_spools(features: Features, cwd: str, owner: tuple[int, int] | None) -> None:
    """Make what must be made with the rights the master was started with; `owner` is whose it will be."""
    for directory in dict.fromkeys((*features.spoolers.directories, *features.spoolers.external)):
        path = os.path.join(cwd, directory)
        made = not os.path.isdir(path)
        spool.prepare(path)
        if made and owner is not None:
            os.chown(path, *owner)


def make(settings: AppSettings, cwd: str, locks: Path, active: Callable[[int], bool]) -> Commons:
    """Everything the config asks for; `locks` is the lock file, `active` says whether a worker takes requests."""
    features = settings.features
    mules, farms = len(features.mules.programs), features.mules.farms
    return Commons(
        signals=SignalsTable(
            settings.processes, mules=mules, farms=farms, buffer_bytes=features.signal_queue_bytes, active=active
        ),
        queues=MuleQueues(mules, farms, features.mules.queue_bytes) if mules else None,
        spools=tuple(
            os.path.realpath(os.path.join(cwd, directory))
            for directory in (*features.spoolers.directories, *features.spoolers.external)
        ),
        stores=_stores(features, cwd, locks),
        metrics=metric_table(settings),
        metrics_lock=SharedLock(locks, METRICS_SLOT),
    )


def metric_table(settings: AppSettings) -> "MetricTable | None":
    """Every metric of the instance, in the order of its rows."""
    if not settings.features.metrics.enabled:
        return None
    from palatine_app_server.sharing import metric_table

    sockets = len(settings.sockets)
    return metric_table.make(settings.features.metrics, settings.processes, settings.threads, sockets)


def _stores(features: Features, cwd: str, locks: Path) -> "Stores | None":
    if not (features.caches or features.queue.slots or features.areas):
        return None
    from palatine_app_server.sharing import stores

    return stores.make(features, cwd, locks)


def locks(settings: AppSettings, cwd: str) -> tuple[str, ...]:
    """What uWSGI calls the locks of all this; here a row each, because its stats show them."""
    features = settings.features
    spools = [os.path.realpath(os.path.join(cwd, directory)) for directory in features.spoolers.directories]
    return (
        *(f"sharedarea{number}" for number in range(len(features.areas))),
        "snmp",
        *(["queue"] if features.queue.slots else []),
        *(f"cache_{cache.name}" for cache in features.caches),
        *(["metrics"] if features.metrics.enabled else []),
        *(f"spooler on {directory}" for directory in spools),
    )


def rows(settings: AppSettings) -> dict[str, int]:
    """Rows of the segment for all of it."""
    features = settings.features
    mules, spoolers = len(features.mules.programs), len(features.spoolers.directories)
    metrics = metric_table(settings)
    return {
        "mules": mules,
        "mule_work": mules,
        "spoolers": spoolers,
        "spooler_tasks": spoolers,
        "crons": len(features.crons),
        "caches": len(features.caches),
        "metrics": len(metrics.entries) if metrics else 0,
    }


def labels(settings: AppSettings, cwd: str) -> dict[str, list[dict[str, Any]]]:
    """What those rows stand for."""
    features = settings.features
    farms = features.mules.farms
    metrics = metric_table(settings)
    return {
        "mules": [
            {"name": program, "farms": [farm.name for farm in farms if number in farm.mules]}
            for number, program in enumerate(features.mules.programs, 1)
        ],
        "spoolers": [
            {"dir": os.path.realpath(os.path.join(cwd, directory))} for directory in features.spoolers.directories
        ],
        "crons": [{**job.time._asdict(), "command": job.command, "unique": int(job.unique)} for job in features.crons],
        "caches": [
            {
                "name": cache.name,
                "hash": cache.hash,
                "hashsize": cache.hashsize,
                "keysize": cache.keysize,
                "max_items": cache.items,
                "blocks": cache.blocks,
                "blocksize": cache.blocksize,
            }
            for cache in features.caches
        ],
        "metrics": metrics.labels() if metrics else [],
    }
