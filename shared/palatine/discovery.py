"""Which app-server instances there are, by scan and inotify; never follows a link and never trusts a file's owner.

An instance is a directory `<runtime>/i/<name>` with a `seg` that opens and belongs to the directory's owner. Inotify
says at once that something happened; a rescan every few seconds makes up for what it cannot say: a runtime directory
that does not exist yet, a full event queue, a user's limit of watches. Looking at an instance takes a few system calls
on a tmpfs, made in the calling task.
"""

import errno
import math
import os
import stat
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal, Self

import attrs
import structlog
import trio
from inotify_simple import INotify, flags  # type: ignore[import-untyped]  # it has no annotations

from palatine.counters import NotReadyError, SegmentView
from palatine.errors import PeerError, ProtocolError
from palatine.places import safe_name

RESCAN_SECONDS: Final = 3.0
#: A segment is marked ready microseconds after it gets its name: it is looked at again at this pace, for so long.
_SETTLE_PAUSE: Final = 0.02
_SETTLE_SECONDS: Final = 1.0

_NAMES: Final = flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO

_log = structlog.get_logger()


@attrs.frozen
class InstanceRef:
    """An instance: its directory `path` is `<runtime>/i/<name>` and belongs to `uid`."""

    name: str
    path: Path
    uid: int


@attrs.frozen
class Change:
    """What happened to an instance; "changed" is a new segment in place of the one before."""

    kind: Literal["appeared", "vanished", "changed"]
    ref: InstanceRef


@attrs.frozen
class Statistics:
    """How many instances are shown, directories refused, and directories watched by inotify."""

    shown: int
    refused: int
    watched: int


@attrs.frozen
class _Seen:
    """What an instance looked like: `file` is the device and inode of its segment."""

    ref: InstanceRef
    file: tuple[int, int]
    uuid: bytes


def scan_instances(runtime: Path) -> list[InstanceRef]:
    """The instances there are now, by name; what is refused is logged."""
    instances = _Instances(runtime / "i")
    found = [instances.look(name, math.inf) for name in sorted(instances.names())]
    return [change.ref for changes in found for change in changes]


@asynccontextmanager
async def watch_instances(runtime: Path, *, rescan: float = RESCAN_SECONDS) -> AsyncIterator["Changes"]:
    """Changes from here on, beginning with an "appeared" for each instance present. One task may wait for them."""
    changes = Changes(runtime, rescan)
    try:
        yield changes
    finally:
        changes.close()


class Changes:
    """An endless iterator of changes. What nobody asks for is not looked at, so it needs no task and no buffer."""

    def __init__(self, runtime: Path, rescan: float) -> None:
        """Use `watch_instances`."""
        self._instances = _Instances(runtime / "i")
        self._watches = _Watches(runtime)
        self._pending: deque[Change] = deque()
        self._rescan = rescan
        self._next_rescan = -math.inf

    def statistics(self) -> Statistics:
        """How things stand, as of the last change handed out."""
        return Statistics(len(self._instances.seen), len(self._instances.refused), self._watches.count())

    def close(self) -> None:
        """Give the watches up."""
        self._watches.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        await trio.lowlevel.checkpoint()
        while not self._pending:
            self._look(trio.current_time())
            if not self._pending:
                await self._watches.wait(self._next_look())
        return self._pending.popleft()

    def _look(self, now: float) -> None:
        said = self._watches.read()
        names = said.names | self._instances.settling(now)
        if said.everything or now >= self._next_rescan:
            self._next_rescan = now + self._rescan
            self._watches.watch_roots()
            names |= self._instances.names()
        for name in sorted(names):
            self._watches.watch(name)
            self._pending.extend(self._instances.look(name, now, closely=name in said.names))

    def _next_look(self) -> float:
        now = trio.current_time()
        return min(self._next_rescan, now + _SETTLE_PAUSE if self._instances.settling(now) else math.inf)


class _Instances:
    """What is known of each instance; knows nothing of inotify. `refused` holds the reason by name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seen: dict[str, _Seen] = {}
        self.refused: dict[str, str] = {}
        self._settling: dict[str, float] = {}

    def names(self) -> set[str]:
        """Everything that is there or was."""
        try:
            there = os.listdir(self.root)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
            there = []
        return {*there, *self.seen, *self.refused}

    def settling(self, now: float) -> set[str]:
        """Names with a segment that should be ready any moment."""
        return {name for name, until in self._settling.items() if now < until}

    def look(self, name: str, now: float, *, closely: bool = False) -> list[Change]:
        """See what became of an instance; `closely` opens its segment even if it seems to be the same file."""
        if closely:
            self._settling.pop(name, None)
        before = self.seen.pop(name, None)
        after = self._examine(name, before, now, closely=closely)
        if after is not None:
            self.seen[name] = after
        return _changes(before, after)

    def _examine(self, name: str, before: _Seen | None, now: float, *, closely: bool) -> _Seen | None:
        try:
            found = _find(self.root / name, None if closely else before)
        except FileNotFoundError:
            self.refused.pop(name, None)
            found = None
        except NotReadyError as error:
            if now < self._settling.setdefault(name, now + _SETTLE_SECONDS):
                return before
            self._refuse(name, error)
            return None
        except (ProtocolError, PeerError, OSError) as error:
            self._refuse(name, error)
            found = None
        else:
            self.refused.pop(name, None)
        self._settling.pop(name, None)
        return found

    def _refuse(self, name: str, error: Exception) -> None:
        reason = str(error)
        if self.refused.get(name) != reason:
            _log.warning("discovery.refused", instance=name, reason=reason)
        self.refused[name] = reason


class _Said:
    """What inotify said: names of instances to look at, or that everything must be."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.everything = False


class _Watches:
    """Inotify on the runtime directory, `i` and each instance's directory; where there is none, only time passes."""

    def __init__(self, runtime: Path) -> None:
        self._runtime = runtime
        self._runtime_number: int | None = None
        self._root_number: int | None = None
        self._names: dict[int, str] = {}
        self._numbers: dict[str, int] = {}
        self._limited = False
        self._inotify: INotify | None = None
        try:
            self._inotify = INotify(nonblocking=True)
        except OSError as error:
            self._complain(error)

    def close(self) -> None:
        """Forget all watches."""
        if self._inotify is not None:
            self._inotify.close()

    def count(self) -> int:
        """How many instance directories are watched."""
        return len(self._names)

    def watch_roots(self) -> None:
        """Watch the runtime directory and `i`, whichever exist."""
        self._runtime_number = self._add(self._runtime, flags.ONLYDIR)
        self._root_number = self._add(self._runtime / "i", flags.ONLYDIR)

    def watch(self, name: str) -> None:
        """Watch an instance's directory, or stop if it is gone; watching again what is watched changes nothing."""
        number = None
        if _safe(name):
            number = self._add(self._runtime / "i" / name, flags.ONLYDIR | flags.DONT_FOLLOW)
        before = self._numbers.pop(name, None)
        if before is not None and before != number and self._names.get(before) == name:
            self._remove(before)
        if number is not None:
            self._numbers[name] = number
            self._names[number] = name

    async def wait(self, until: float) -> None:
        """Return when there is something to read, or at `until` of trio's clock."""
        if self._inotify is None:
            await trio.sleep_until(until)
            return
        with trio.move_on_at(until):
            await trio.lowlevel.wait_readable(self._inotify.fileno())

    def read(self) -> _Said:
        """What has been said since the last time."""
        said = _Said()
        for event in self._inotify.read(timeout=0) if self._inotify is not None else ():
            if event.mask & flags.Q_OVERFLOW:
                said.everything = True
            elif event.wd == self._runtime_number:
                said.everything |= event.name == "i"
            elif event.wd == self._root_number:
                said.everything |= bool(event.mask & flags.IGNORED)
                said.names |= {event.name} - {""}
            elif event.mask & flags.IGNORED:
                name = self._names.pop(event.wd, None)
                if name is not None:
                    self._numbers.pop(name, None)
                    said.names.add(name)
            elif event.name == "seg" and event.wd in self._names:
                said.names.add(self._names[event.wd])
        return said

    def _add(self, path: Path, mask: int) -> int | None:
        if self._inotify is None:
            return None
        try:
            return int(self._inotify.add_watch(path, mask | _NAMES))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES):
                self._complain(error)
            return None

    def _remove(self, number: int) -> None:
        del self._names[number]
        if self._inotify is not None:
            try:
                self._inotify.rm_watch(number)
            except OSError as error:
                if error.errno != errno.EINVAL:  # the directory went, and the watch with it
                    raise

    def _complain(self, error: OSError) -> None:
        if not self._limited:
            _log.warning("discovery.limited", reason=str(error), effect="changes are seen by rescans only")
        self._limited = True


def _safe(name: str) -> bool:
    return safe_name(name) == name


def _find(path: Path, before: _Seen | None) -> _Seen:
    """The instance at `path`, or `before` if nothing about it changed; raises what is wrong with it."""
    directory = os.lstat(path)
    if not _safe(path.name):
        raise ProtocolError(f"{str(path)!r}: not an instance's name")
    if not stat.S_ISDIR(directory.st_mode):
        raise ProtocolError(f"{path}: not a directory")
    ref = InstanceRef(path.name, path, directory.st_uid)
    facts = os.lstat(path / "seg")
    file = (facts.st_dev, facts.st_ino)
    if before is not None and before.ref == ref and before.file == file:
        return before
    with SegmentView.open(path / "seg", owner=ref.uid) as view:
        return _Seen(ref, file, view.uuid)


def _changes(before: _Seen | None, after: _Seen | None) -> list[Change]:
    if before is not None and after is not None and before.ref == after.ref:
        return [] if before.uuid == after.uuid else [Change("changed", after.ref)]
    gone = [] if before is None else [Change("vanished", before.ref)]
    come = [] if after is None else [Change("appeared", after.ref)]
    return gone + come
