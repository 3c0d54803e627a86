"""What two looks at counters mean: notices of what happened between them; pure.

Nothing is asked of an app or an emperor, and nothing of theirs has to be up: their counters tell, also of what happened
many times between two looks, which is then one notice with a count.
"""

import signal
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

Values = Mapping[str, str | int]
#: A notification's name and what it carries.
Told = tuple[str, Values]

_SEGFAULT: Final = int(signal.SIGSEGV)
#: A queue is told again once it was this much emptier.
_CALM: Final = 0.5


class WorkerSeen(NamedTuple):
    """A worker's slot: processes it had, those killed for harakiri, the last one's wait status, its generation.

    `owed` are kills whose next process has not been seen yet.
    """

    spawns: int
    harakiris: int
    status: int
    generation: int
    owed: int = 0


class InstanceSeen(NamedTuple):
    """An instance at one look. `uuid` is its segment's: another one is another start. `full` is what was told of."""

    uuid: bytes
    reload_failures: int
    queue: int
    queue_max: int
    queue_errors: int
    workers: tuple[WorkerSeen, ...]
    full: bool = False


class VassalSeen(NamedTuple):
    """A vassal at one look; `blacklist` in milliseconds, `adopted` if it outlived the emperor that started it."""

    running: bool
    accepting: bool
    blacklist: int
    state: str
    adopted: bool = False


def instance_news(name: str, before: InstanceSeen, now: InstanceSeen) -> tuple[InstanceSeen, list[Told]]:
    """What happened to an instance, and what to remember of it; nothing is known of a start not seen before."""
    if before.uuid != now.uuid or len(before.workers) != len(now.workers):
        return now, []
    told: list[Told] = []
    workers = []
    for number, (old, new) in enumerate(zip(before.workers, now.workers, strict=True), 1):
        after, news = _worker_news(old, new)
        workers.append(after)
        told += [(what, {"instance": name, "worker": number, **values}) for what, values in news]
    failures = now.reload_failures - before.reload_failures
    if failures > 0:
        values: Values = {"instance": name, "count": failures, "message": "the generation before serves on"}
        told.append(("reloadFailed", values))
    full, news = _queue_news(before, now)
    told += [(what, {"instance": name, **values}) for what, values in news]
    return now._replace(workers=tuple(workers), full=full), told


def _worker_news(before: WorkerSeen, now: WorkerSeen) -> tuple[WorkerSeen, list[Told]]:
    told: list[Told] = []
    killed = max(now.harakiris - before.harakiris, 0)
    spawned = max(now.spawns - before.spawns, 0)
    owed = before.owed + killed
    died = spawned - min(owed, spawned)
    if killed:
        told.append(("workerHarakiri", {"count": killed, "message": "a request took too long"}))
    if died and now.status and now.generation == before.generation:
        segfault = _signal(now.status) == _SEGFAULT
        values: Values = {"status": now.status, "count": died, "message": ended(now.status)}
        told.append(("workerSegfault" if segfault else "workerDied", values))
    return now._replace(owed=owed - min(owed, spawned)), told


def ended(status: int) -> str:
    """A wait status in words."""
    number = _signal(status)
    if not number:
        return f"exited with code {status >> 8 & 0xFF}"
    known = number in {*signal.Signals}
    return f"ended by {signal.Signals(number).name if known else f'signal {number}'}"


def _signal(status: int) -> int:
    """The signal that ended a process, 0 if it exited: wait(2)."""
    return status & 0x7F


def _queue_news(before: InstanceSeen, now: InstanceSeen) -> tuple[bool, list[Told]]:
    dropped = max(now.queue_errors - before.queue_errors, 0)
    is_full = bool(now.queue_max) and now.queue >= now.queue_max
    calm = now.queue < now.queue_max * _CALM
    if dropped or (is_full and not before.full):
        message = f"{dropped} connections dropped" if dropped else "new connections will be refused"
        values: Values = {"queue": now.queue, "queueMax": now.queue_max, "count": max(dropped, 1), "message": message}
        return True, [("listenQueueFull", values)]
    return before.full and not calm, []


def vassal_news(before: Mapping[str, VassalSeen], now: Mapping[str, VassalSeen]) -> list[Told]:
    """What happened to the emperor's vassals."""
    return [told for name in sorted({*before, *now}) for told in _one_vassal(name, before.get(name), now.get(name))]


def _one_vassal(name: str, before: VassalSeen | None, now: VassalSeen | None) -> Iterator[Told]:
    was_running, was_accepting = (before.running, before.accepting) if before else (False, False)
    if was_running and (now is None or not now.running):
        yield "vassalDown", {"vassal": name, "message": now.state if now else "gone from the configuration"}
    if now is None:
        return
    if now.accepting and not was_accepting and not (before is None and now.adopted):
        yield "vassalUp", {"vassal": name, "message": now.state}
    if now.blacklist and not (before and before.blacklist):
        seconds = -(-now.blacklist // 1000)
        yield "vassalBlacklisted", {"vassal": name, "seconds": seconds, "message": f"held back for {seconds} s"}
