"""What `palatine top` shows of an instance's workers, read from its counters; asks no process."""

from pathlib import Path
from typing import NamedTuple

from palatine.codec.masking import masked_url
from palatine.counters import SegmentView


class Worker(NamedTuple):
    """One worker; times in seconds, sizes in bytes, `serving` what its first busy core does."""

    id: int
    pid: int
    status: str
    requests: int
    avg_time: float
    exceptions: int
    harakiri: int
    respawns: int
    rss: int
    tx: int
    last_spawn: int
    serving: str
    rate: float | None = None


def workers_of(directory: Path) -> list[Worker]:
    """The workers of the instance in a directory; OSError or PalatineError if its counters cannot be read."""
    owner = directory.stat(follow_symlinks=False).st_uid
    with SegmentView.open(directory / "seg", owner=owner) as view:
        slots, own, cores = view.read("slots"), view.read("workers"), view.read("cores")
        texts = view.texts("activity")
        each = len(cores) // len(slots) if slots else 0
        return [
            _worker(number, slot, said, cores[number * each : (number + 1) * each], texts[number * each :])
            for number, (slot, said) in enumerate(zip(slots, own, strict=True))
        ]


def _worker(
    number: int, slot: dict[str, int], said: dict[str, int], cores: list[dict[str, int]], texts: list[bytes]
) -> Worker:
    times = [core["avg_rt"] for core in cores if core["avg_rt"]]
    busy = [at for at, core in enumerate(cores) if core["in_request"]]
    return Worker(
        id=number + 1 if slot["respawn_count"] else 0,
        pid=slot["pid"],
        status=_status(slot, said, busy=bool(busy)),
        requests=sum(core["requests"] for core in cores),
        avg_time=sum(times) / len(times) / 1e6 if times else 0.0,
        exceptions=sum(core["exceptions"] for core in cores),
        harakiri=slot["harakiri_count"],
        respawns=max(0, slot["respawn_count"] - 1),
        rss=slot["rss"],
        tx=sum(core["tx"] for core in cores),
        last_spawn=slot["last_spawn"],
        serving=_serving(texts[busy[0]]) if busy else "",
    )


def _status(slot: dict[str, int], said: dict[str, int], *, busy: bool) -> str:
    """UWSGI's word: the first that holds."""
    if slot["cheaped"]:
        return "cheap"
    if said["running_signal"]:
        return f"sig{said['running_signal'] - 1}"
    if busy:
        return "busy"
    return "pause" if said["suspended"] else "idle"


def _serving(activity: bytes) -> str:
    method, uri, *_ = [*activity.decode("utf-8", "backslashreplace").split("\0"), ""]
    return f"{method} {masked_url(uri)}".strip()
