"""The sender's events on disk, so that a kill -9 loses none that were flushed; synchronous, for one thread at a time.

| file                 | what                                                  | written                      |
|----------------------|-------------------------------------------------------|------------------------------|
| `sender`             | JSON: uuid of the numbering, times opened (`epoch`)   | once per open, fsync, rename |
| `acked`              | the last acknowledged number and its CRC              | in place                     |
| `<first number>.seg` | records: number, length, CRC, the event as JSON       | appended                     |

An append reaches the page cache: it survives a kill -9, not a power cut; `sync` makes it survive both.
Numbers start at `epoch << 40`, so no number is ever given twice, whatever a power cut took from the files: a consumer
would take the second for a duplicate. A file is read up to its first bad record; a new run starts a new file.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import attrs
import msgspec
import structlog

from palatine.bus.endpoint import Claim, claim
from palatine.bus.events import EVENT_BYTES
from palatine.bus.outbox import Item
from palatine.codec.frames import ID_BYTES
from palatine.errors import ConfigError

EPOCH_BITS: Final = 40
SEGMENT_BYTES: Final = 4 * 1024 * 1024
SEGMENTS: Final = 8
#: A file of which everything is acknowledged is removed; the one being written only from this size on.
RECYCLE_BYTES: Final = 256 * 1024
#: Events of one write.
APPEND_EVENTS: Final = 1024

_RECORD: Final = struct.Struct(">QII")
_ACKED: Final = struct.Struct(">QI")
_NAME: Final = re.compile(r"\d{20}\.seg")

log = structlog.get_logger("palatine.bus")


class _Identity(msgspec.Struct):
    uuid: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    epoch: Annotated[int, msgspec.Meta(ge=0, lt=1 << (63 - EPOCH_BITS))]


@attrs.define(eq=False)
class _Segment:
    path: Path
    size: int
    last: int


class Appended(NamedTuple):
    """What an append did: events written (all, unless the disk failed midway), and old ones given up for the limit."""

    written: int
    lost: int


class Spool:
    """An ordered file queue: `append` at its end, `read` at its cursor, `ack` at its beginning."""

    def __init__(self, directory: Path, limit: int) -> None:
        """Open or create. AlreadyRunningError if a live sender has it; ConfigError if it cannot be used."""
        self.directory = directory
        self._limit = limit
        self._segments: list[_Segment] = []
        self._file: int | None = None  # the last segment, if it is this run's
        self._dirty = self._names_dirty = False
        self._cursor: _Segment | None = None  # None: the reader stands before the first segment
        self._offset = 0
        #: Events on disk that `read` has not returned, and bytes on disk.
        self.unread = 0
        self.bytes = 0
        self._segment_bytes = max(EVENT_BYTES, min(SEGMENT_BYTES, limit // SEGMENTS))
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._claim: Claim = claim(directory / "sender")
            self._identify()
            self._acked_file = os.open(directory / "acked", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self.acked = self._read_acked()
            self._load()
        except OSError as error:
            raise ConfigError(f"cannot be used as a spool: {error.strerror}", str(directory)) from error

    def append(self, items: Sequence[Item]) -> Appended:
        """Write events to the page cache, and drop the oldest files beyond the limit. OSError if none was written."""
        written = lost = 0
        while written < len(items):
            chunk = items[written : written + APPEND_EVENTS]
            data = b"".join([_RECORD.pack(item.seq, len(item.raw), _crc(item)) + item.raw for item in chunk])
            try:
                self._write(data, chunk[0].seq)
            except OSError:
                if not written:
                    raise
                break
            self._segments[-1].last = chunk[-1].seq
            self.unread += len(chunk)
            written += len(chunk)
            while self.bytes > self._limit and len(self._segments) > 1:
                lost += self._give_up_oldest()
        return Appended(written, lost)

    def skip(self) -> None:
        """The reader has everything appended so far: it was given it from memory."""
        self._cursor, self._offset = self._segments[-1], self._segments[-1].size
        self.unread = 0

    def read(self, count: int, size: int) -> list[Item]:
        """The next events for memory: at most `count`, and about `size` bytes."""
        found: list[Item] = []
        while self._segments:
            if self._cursor is None:
                self._cursor, self._offset = self._segments[0], 0
            for item in _records(self._cursor.path, self._offset):
                if len(found) >= count or size <= 0:
                    return found
                self._offset += _RECORD.size + len(item.raw)
                if item.seq > self.acked:
                    found.append(item)
                    size -= len(item.raw)
                    self.unread -= 1
            following = self._segments.index(self._cursor) + 1
            if following == len(self._segments):
                break
            self._cursor, self._offset = self._segments[following], 0
        if not found:
            self.unread = 0  # whatever is missing was damaged after it was counted
        return found

    def ack(self, seq: int) -> None:
        """Everything up to `seq`, all of it read, is not needed any more."""
        self.acked = seq
        os.pwrite(self._acked_file, _ACKED.pack(seq, zlib.crc32(seq.to_bytes(8, "big"))), 0)
        while self._segments and self._segments[0].last <= seq:
            if len(self._segments) == 1 and self._file is not None:
                if self._segments[0].size < RECYCLE_BYTES:
                    return
                self._close_file()
            self._remove_oldest()

    def sync(self) -> None:
        """Everything appended so far survives a power cut."""
        if self._file is not None and self._dirty:
            os.fdatasync(self._file)
        if self._names_dirty:
            _sync_directory(self.directory)
        self._dirty = self._names_dirty = False

    def close(self) -> None:
        """Sync, and let another process have it."""
        try:
            self.sync()
        finally:
            self._close_file()
            os.close(self._acked_file)
            self._claim.close()

    def _write(self, data: bytes, first: int) -> None:
        if self._file is None or self._segments[-1].size >= self._segment_bytes:
            self._roll(first)
        assert self._file is not None
        segment = self._segments[-1]
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, segment.size)
            raise
        segment.size += len(data)
        self.bytes += len(data)
        self._dirty = True

    def _roll(self, first: int) -> None:
        if self._file is not None:
            self.sync()
            self._close_file()
        path = self.directory / f"{first:020d}.seg"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._segments.append(_Segment(path, 0, first))
        self._names_dirty = True

    def _give_up_oldest(self) -> int:
        oldest = self._segments[0]
        lost = 0
        if self._cursor is None or self._cursor is oldest:
            start = self._offset if self._cursor is oldest else 0
            lost = sum(item.seq > self.acked for item in _records(oldest.path, start))
        self.unread -= lost
        self._remove_oldest()
        return lost

    def _remove_oldest(self) -> None:
        oldest = self._segments.pop(0)
        self.bytes -= oldest.size
        if self._cursor is oldest:
            self._cursor = None
        oldest.path.unlink(missing_ok=True)

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _identify(self) -> None:
        path = self.directory / "sender"
        try:
            known = msgspec.json.decode(path.read_bytes(), type=_Identity)
            identity = _Identity(known.uuid, known.epoch + 1)
        except (FileNotFoundError, msgspec.DecodeError) as error:
            # Events still on disk are delivered under the new name: no consumer can take them for known ones.
            highest = max((int(path.stem) for path in self._files()), default=0)
            identity = _Identity(os.urandom(ID_BYTES).hex(), (highest >> EPOCH_BITS) + 1)
            if not isinstance(error, FileNotFoundError):
                log.error("bus.spool.renamed", spool=str(self.directory), error=str(error))  # noqa: TRY400 - the file's
        self.uuid = bytes.fromhex(identity.uuid)
        temporary = path.with_name("sender.new")
        with temporary.open("wb") as file:
            file.write(msgspec.json.encode(identity))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_directory(self.directory)
        #: The number before the first of this run.
        self.base = identity.epoch << EPOCH_BITS

    def _files(self) -> list[Path]:
        return sorted(path for path in self.directory.iterdir() if _NAME.fullmatch(path.name))

    def _read_acked(self) -> int:
        data = os.pread(self._acked_file, _ACKED.size, 0)
        if len(data) == _ACKED.size:
            seq, crc = _ACKED.unpack(data)
            if crc == zlib.crc32(data[:8]):
                return int(seq)
        return 0

    def _load(self) -> None:
        for path in self._files():
            last = count = 0
            for item in _records(path):
                last = item.seq
                count += item.seq > self.acked
            if count:
                self._segments.append(_Segment(path, path.stat().st_size, last))
                self.unread += count
            else:
                path.unlink()
        self.bytes = sum(segment.size for segment in self._segments)


def _crc(item: Item) -> int:
    return zlib.crc32(item.raw, (item.seq ^ item.seq >> 32) & 0xFFFFFFFF)


def _records(path: Path, offset: int = 0) -> Iterator[Item]:
    """The events of a file up to its end or its first bad record, which a kill in the middle of a write leaves."""
    with path.open("rb") as file:
        file.seek(offset)
        while True:
            head = file.read(_RECORD.size)
            if len(head) < _RECORD.size:
                return
            seq, length, crc = _RECORD.unpack(head)
            if not 0 < length <= EVENT_BYTES:  # zeros are what a power cut leaves
                return
            item = Item(seq, file.read(length))
            if len(item.raw) < length or _crc(item) != crc:
                return
            yield item


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
