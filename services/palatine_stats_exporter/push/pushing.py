"""The pushing itself: a task that reads on time and one that delivers, for each target, with a buffer between them.

A target that is away, slow or wrong holds up no other, and no scrape.
"""

import gzip
import random
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import trio

from palatine.codec.line_protocol import encode
from palatine.codec.otlp import requests
from palatine.errors import PalatineError
from palatine_stats_exporter.board import Facts, Look
from palatine_stats_exporter.push.buffer import BATCH_BYTES, Buffer
from palatine_stats_exporter.push.influx import InfluxSink, InfluxV2Sink, Sink, UdpSink
from palatine_stats_exporter.push.otlp import SCOPE, OtlpSink, measured
from palatine_stats_exporter.push.points import common_tags, points
from palatine_stats_exporter.push.record import Record, Tally
from palatine_stats_exporter.push.retry_policy import Backoff, Failed, Forget, decide
from palatine_stats_exporter.push.settings import Influx, InfluxV2, Otlp, Target

#: Times are whole milliseconds, as telegraf rounds those of short intervals: a float has no more to give.
_NANOS: Final = 1_000_000
#: zlib's fastest: lines shrink to a fifteenth, the slower levels gain a little for three times the time.
_COMPRESSION: Final = 1


class Pusher:
    """One target: reads instances on time into a buffer, and empties it."""

    def __init__(self, target: Target, look: Look, state: Path, tally: Tally, backoff: Backoff | None = None) -> None:
        self._target = target
        self._look = look
        self._directory = state / "push" / target.name
        self._tally = tally
        self._backoff = backoff or Backoff()
        self._buffer: Buffer | None = None
        self._dropped = 0
        self._record = Record(target.name, tally)
        self._readings = 0
        self._last_reading = 0.0

    def statistics(self) -> dict[str, Any]:
        """How it does, for `ctl status`."""
        return {
            "target": self._target.name,
            "readings": self._readings,
            "last_reading": self._last_reading,
            "waiting": self._buffer.waiting if self._buffer else 0,
            "failing": self._record.reason or None,
        }

    async def run(self) -> None:
        """Push until cancelled."""
        try:
            self._buffer = await Buffer.open(self._directory, self._target.buffer_bytes)
        except PalatineError as error:
            self._record.note(Failed(str(error), lasting=True))
            return
        sink = sink_for(self._target)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._collect, self._buffer)
                nursery.start_soon(self._deliver, self._buffer, sink)
        finally:
            with trio.CancelScope(shield=True):
                await sink.aclose()
                await self._buffer.close()

    async def _collect(self, buffer: Buffer) -> None:
        interval = self._target.interval or 0
        while True:
            moment = next_moment(time.time(), interval)
            await trio.sleep(moment - time.time())
            await buffer.put(list(packed(self._target, self._look(), round(moment * 1000) * _NANOS)))
            self._tally.dropped += buffer.dropped - self._dropped
            self._dropped = buffer.dropped
            self._readings += 1
            self._last_reading = moment

    async def _deliver(self, buffer: Buffer, sink: Sink) -> None:
        while True:
            item = await buffer.next()
            attempts = 0
            while True:
                attempts += 1
                outcome = await sink.send(item.raw)
                self._record.note(outcome)
                action = decide(attempts, outcome, random.random(), self._backoff)  # noqa: S311 - jitter, no secret
                if isinstance(action, Forget):
                    break
                await trio.sleep(action.seconds)
            self._tally.dropped += action.lost
            await buffer.done(item)


def sink_for(target: Target) -> Sink:
    """What delivers to a target."""
    if isinstance(target, InfluxV2):
        return InfluxV2Sink(target)
    if isinstance(target, Otlp):
        return OtlpSink(target)
    assert isinstance(target, Influx)
    return UdpSink(target) if target.url.startswith("udp:") else InfluxSink(target)


def next_moment(now: float, interval: float) -> float:
    """The next multiple of `interval` on the clock, so that all hosts read at the same moments; to the millisecond."""
    step = round(interval * 1000)
    return (int(now * 1000) // step + 1) * step / 1000


def packed(target: Target, facts: Iterable[Facts], time_ns: int) -> Iterator[bytes]:
    """One reading as a target wants it: batches of gzip, each of at most BATCH_BYTES before."""
    if isinstance(target, Otlp):
        found = measured(facts, socket.gethostname(), target.tags)
        for body in requests(SCOPE, found, time_ns, BATCH_BYTES // 2):
            yield gzip.compress(body, _COMPRESSION, mtime=0)
    else:
        yield from batches(lines(facts, target.tags, time_ns))


def lines(facts: Iterable[Facts], tags: dict[str, str], time_ns: int) -> Iterator[bytes]:
    """The lines of all instances whose master lives: what a dead one stood at is no news."""
    host = socket.gethostname()
    for one in facts:
        if one.alive:
            for point in points(one, host, common_tags(one.name, host, tags), time_ns):
                yield encode(point)


def batches(found: Iterable[bytes]) -> Iterator[bytes]:
    """Lines packed for the way: gzip, each of at most BATCH_BYTES before."""
    piece: list[bytes] = []
    size = 0
    for line in found:
        if piece and size + len(line) > BATCH_BYTES:
            yield _packed(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield _packed(piece)


def _packed(piece: list[bytes]) -> bytes:
    return gzip.compress(b"".join(piece), _COMPRESSION, mtime=0)
