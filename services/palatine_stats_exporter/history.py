"""What instances stood at over the last hours, in memory of a fixed size: the page's panels; never a database.

Every instance has a fine ring (one sample in ten seconds for half an hour) and a coarse one (one in a minute for six
hours), and so has the host as a whole. Counters are kept as what happened between two samples, so that a restart of an
app or of its master shows as what it is and never as a negative number. Of workers the least, mean and greatest value
is kept: sixty-four lines in one panel are no information.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from palatine_stats_exporter.board import Facts
from palatine_stats_exporter.instance_metrics import by_status

#: Series of a sample. Rates are per second, `..._time` in seconds, `running_...` the share of time spent in requests;
#: `harakiri`, `respawns` and `exceptions` are how many in the sample's interval; the rest is what was at its end.
SERIES: Final = (
    "requests",
    "tx",
    "worker_requests_min",
    "worker_requests_mean",
    "worker_requests_max",
    "request_time_min",
    "request_time_mean",
    "request_time_max",
    "running_min",
    "running_mean",
    "running_max",
    "harakiri",
    "respawns",
    "exceptions",
    "busy",
    "idle",
    "cheap",
    "pause",
    "workers",
    "queue",
    "queue_capacity",
    "in_request",
)
#: Series of which a coarser sample has the sum, and those of which it has the greatest; of the rest it has the mean.
_SUMS: Final = frozenset({"harakiri", "respawns", "exceptions"})
_MOSTS: Final = frozenset({"queue", "queue_capacity", "worker_requests_max", "request_time_max", "running_max"})
_LEASTS: Final = frozenset({"worker_requests_min", "request_time_min", "running_min"})

FINE_SECONDS: Final = 10
COARSE_SECONDS: Final = 60
_FINE_SAMPLES: Final = 180
_COARSE_SAMPLES: Final = 360
_FINE_SPAN: Final = FINE_SECONDS * _FINE_SAMPLES
_COARSE_SPAN: Final = COARSE_SECONDS * _COARSE_SAMPLES
#: Instances known from an earlier run are found again within that time, or are gone.
AWAITED_SECONDS: Final = 60.0
#: Instances whose history is kept; 1,000 of them take 50 MB.
MOST_INSTANCES: Final = 1000
#: The name under which the whole host is kept: no instance can be called so.
HOST: Final = ""
_MICRO: Final = 1e6

Sample = Sequence[float]


class Reading(NamedTuple):
    """An instance's counters at a moment, to be compared with those before: totals, and a column a worker."""

    time: float
    harakiri: int
    respawns: int
    exceptions: int
    tx: int
    requests: Sequence[int]
    running: Sequence[int]


class Ring:
    """The last samples, each with its time; 4 bytes a number."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._times: array[float] = array("d")
        self._values: array[float] = array("f")

    def add(self, time: float, sample: Sample) -> None:
        """Append one, forget the oldest beyond the size."""
        self._times.append(time)
        self._values.extend(sample)
        if len(self._times) > self._samples:
            del self._times[0]
            del self._values[: len(SERIES)]

    def __len__(self) -> int:
        return len(self._times)

    def packed(self) -> bytes:
        """Times, then values, as the machine has them."""
        return self._times.tobytes() + self._values.tobytes()

    @classmethod
    def unpacked(cls, times: bytes, values: bytes) -> "Ring":
        """A ring that has these samples, as `packed` gave them."""
        ring = cls(len(times) // 8)
        ring._times.frombytes(times)
        ring._values.frombytes(values)
        return ring

    def between(self, first: float, last: float) -> Iterator[tuple[float, Sample]]:
        """Each sample from `first` to `last` with its time."""
        size = len(SERIES)
        for at, time in enumerate(self._times):
            if first <= time <= last:
                yield time, self._values[at * size : (at + 1) * size]

    def since(self, time: float) -> tuple[list[float], list[list[float]]]:
        """Times after `time`, and a column for each of SERIES."""
        first = next((at for at, when in enumerate(self._times) if when > time), len(self._times))
        values = self._values[first * len(SERIES) :]
        return self._times[first:].tolist(), [values[at :: len(SERIES)].tolist() for at in range(len(SERIES))]

    def last(self, count: int) -> list[Sample]:
        """The last samples, oldest first."""
        size = len(SERIES)
        values = self._values[-count * size :]
        return [values[at : at + size] for at in range(0, len(values), size)]


class _Kept:
    def __init__(self) -> None:
        self.fine = Ring(_FINE_SAMPLES)
        self.coarse = Ring(_COARSE_SAMPLES)
        self.before: Reading | None = None
        self.fresh = 0
        #: Until when an instance restored from disk may not have been found yet.
        self.awaited_until = 0.0


class History:
    """Rings by instance; `take` is to be called once in FINE_SECONDS."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {HOST: _Kept()}

    def take(self, facts: Iterable[Facts], time: float) -> None:
        """One more sample of every living instance; instances that are gone are forgotten."""
        samples = []
        names = {HOST}
        for one in facts:
            names.add(one.name)
            if not one.alive or (one.name not in self._kept and len(self._kept) > MOST_INSTANCES):
                continue
            kept = self._kept.setdefault(one.name, _Kept())
            now = reading(one, time)
            if kept.before is not None and time > kept.before.time:
                samples.append(sample := compare(one, kept.before, now))
                _add(kept, time, sample)
            kept.before = now
        for name in self._kept.keys() - names:
            if self._kept[name].awaited_until <= time:
                del self._kept[name]
        if samples:
            _add(self._kept[HOST], time, together(samples))

    def series(self, name: str, since: float, *, coarse: bool) -> dict[str, list[float]] | None:
        """Times and a list for each of SERIES, after `since` (unix time); None for an instance not kept."""
        kept = self._kept.get(name)
        if kept is None:
            return None
        times, columns = (kept.coarse if coarse else kept.fine).since(since)
        rounded = [[round(value, 6) for value in column] for column in columns]
        return {"time": times, **dict(zip(SERIES, rounded, strict=True))}

    def rings(self) -> Iterator[tuple[str, bool, Ring]]:
        """Every ring: of whom, and whether it is the coarse one."""
        for name, kept in self._kept.items():
            yield name, False, kept.fine
            yield name, True, kept.coarse

    def restore(self, name: str, ring: Ring, now: float, *, coarse: bool) -> None:
        """Take over what a ring of an earlier run has of the last hours; to be called before the first `take`."""
        if name not in self._kept and len(self._kept) > MOST_INSTANCES:
            return
        kept = self._kept.setdefault(name, _Kept())
        kept.awaited_until = now + AWAITED_SECONDS
        into, span = (kept.coarse, _COARSE_SPAN) if coarse else (kept.fine, _FINE_SPAN)
        for time, sample in ring.between(now - span, now):
            into.add(time, sample)

    @property
    def instances(self) -> int:
        """How many instances are kept."""
        return len(self._kept) - 1


def reading(facts: Facts, time: float) -> Reading:
    """The counters of an instance now."""
    workers = facts.columns.workers
    harakiri, respawns, exceptions, tx = (
        sum(map(int, workers[key])) for key in ("harakiri_count", "respawn_count", "exceptions", "tx")
    )
    requests, running = ([int(number) for number in workers[key]] for key in ("requests", "running_time"))
    return Reading(time, harakiri, respawns, exceptions, tx, requests, running)


def compare(facts: Facts, before: Reading, now: Reading) -> Sample:
    """The sample between two readings, in the order of SERIES."""
    seconds = now.time - before.time
    requests = _grown_each(before.requests, now.requests)
    running = _grown_each(before.running, now.running)
    started = [at for at, number in enumerate(facts.columns.workers["id"]) if number]
    per_worker = [requests[at] / seconds for at in started]
    times = [running[at] / requests[at] / _MICRO for at in started if requests[at]]
    shares = [min(running[at] / _MICRO / seconds / max(1, facts.cores), 1.0) for at in started]
    status = by_status(facts)
    found = {
        "requests": sum(requests) / seconds,
        "tx": _grown(before.tx, now.tx) / seconds,
        **_spread("worker_requests", per_worker),
        **_spread("request_time", times),
        **_spread("running", shares),
        "harakiri": _grown(before.harakiri, now.harakiri),
        "respawns": _grown(before.respawns, now.respawns),
        "exceptions": _grown(before.exceptions, now.exceptions),
        **{word: status[word] for word in ("idle", "cheap", "pause")},
        "busy": status["busy"] + status["signal"],
        "workers": sum(1 for pid in facts.columns.workers["pid"] if pid),
        "queue": sum(row.get("queue", 0) for row in facts.sockets),
        "queue_capacity": sum(row.get("max_queue", 0) for row in facts.sockets),
        "in_request": sum(facts.columns.cores["in_request"]),
    }
    return [float(found[name]) for name in SERIES]


def together(samples: Sequence[Sample]) -> Sample:
    """The host's sample: sums, but for workers' values the least, mean and greatest of all that served anything."""
    found = []
    for name, column in zip(SERIES, zip(*samples, strict=True), strict=True):
        busy = [value for value in column if value] or [0.0]
        if name in _LEASTS:
            found.append(min(busy))
        elif name.endswith("_mean"):
            found.append(sum(busy) / len(busy))
        elif name.endswith("_max"):
            found.append(max(busy))
        else:
            found.append(sum(column))
    return found


def coarser(samples: Sequence[Sample]) -> Sample:
    """One sample for several that follow each other: events are added, of a queue the longest is kept."""
    found = []
    for name, column in zip(SERIES, zip(*samples, strict=True), strict=True):
        if name in _SUMS:
            found.append(sum(column))
        elif name in _MOSTS:
            found.append(max(column))
        elif name in _LEASTS:
            found.append(min(column))
        else:
            found.append(sum(column) / len(column))
    return found


def _add(kept: _Kept, time: float, sample: Sample) -> None:
    kept.fine.add(time, sample)
    kept.fresh += 1
    if kept.fresh >= COARSE_SECONDS // FINE_SECONDS:
        kept.coarse.add(time, coarser(kept.fine.last(kept.fresh)))
        kept.fresh = 0


def _spread(name: str, values: Sequence[float]) -> Mapping[str, float]:
    least, mean, most = (min(values), sum(values) / len(values), max(values)) if values else (0.0, 0.0, 0.0)
    return {f"{name}_min": least, f"{name}_mean": mean, f"{name}_max": most}


def _grown(before: int, now: int) -> int:
    """How much a counter has grown; one that is smaller than before has begun again."""
    return now - before if now >= before else now


def _grown_each(before: Sequence[int], now: Sequence[int]) -> list[int]:
    padded = [*before, *([0] * (len(now) - len(before)))]
    return [_grown(was, number) for was, number in zip(padded, now, strict=False)]
