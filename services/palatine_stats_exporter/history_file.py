"""The history on disk, so that a restart of the exporter does not empty its panels; a damaged file is never an error.

    PALHIST1  crc32 of the rest  bytes of the head  head (JSON)  times (f64) and values (f32) of each ring in turn

Written whole beside the old one and renamed: 50 KB an instance, bounded as the rings are.
"""

import os
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from palatine.errors import ProtocolError
from palatine_stats_exporter.history import SERIES, History, Ring

_MAGIC: Final = b"PALHIST1"
_FIXED: Final = struct.Struct("<II")
_TIME, _VALUE = 8, 4


class _Ring(msgspec.Struct, frozen=True):
    """Whose samples follow, and how many."""

    name: str
    coarse: bool
    count: int


class _Head(msgspec.Struct, frozen=True):
    """What must fit for the numbers to mean what they meant."""

    series: list[str]
    byteorder: str
    rings: list[_Ring]


def packed(history: History) -> bytes:
    """All rings of all instances."""
    rings = list(history.rings())
    head = msgspec.json.encode(
        _Head(list(SERIES), sys.byteorder, [_Ring(name, coarse, len(ring)) for name, coarse, ring in rings])
    )
    rest = b"".join((_FIXED.pack(0, len(head))[4:], head, *(ring.packed() for _, _, ring in rings)))
    return b"".join((_MAGIC, zlib.crc32(rest).to_bytes(4, "little"), rest))


def unpacked(data: bytes) -> Iterator[tuple[str, bool, bytes, bytes]]:
    """Name, whether coarse, times and values of each ring; ProtocolError for anything but what `packed` gives."""
    start = len(_MAGIC) + _FIXED.size
    if data[: len(_MAGIC)] != _MAGIC or len(data) < start:
        raise ProtocolError("is no history of this version")
    crc, size = _FIXED.unpack_from(data, len(_MAGIC))
    if zlib.crc32(memoryview(data)[len(_MAGIC) + 4 :]) != crc:
        raise ProtocolError("is damaged")
    try:
        head = msgspec.json.decode(data[start : start + size], type=_Head)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"has a head that cannot be read: {error}") from error
    if head.series != list(SERIES) or head.byteorder != sys.byteorder:
        raise ProtocolError("has other series than this version keeps")
    at = start + size
    for ring in head.rings:
        middle = at + ring.count * _TIME
        end = middle + ring.count * len(SERIES) * _VALUE
        yield ring.name, ring.coarse, data[at:middle], data[middle:end]
        at = end


def save(path: Path, data: bytes) -> None:
    """Replace the file; OSError, the old one untouched, where that cannot be done."""
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load(path: Path, history: History, now: float) -> int:
    """Put what the file has of the last hours into `history`; how many rings. OSError, ProtocolError: nothing was."""
    rings = [
        (name, coarse, Ring.unpacked(times, values)) for name, coarse, times, values in unpacked(path.read_bytes())
    ]
    for name, coarse, ring in rings:
        history.restore(name, ring, now, coarse=coarse)
    return len(rings)
