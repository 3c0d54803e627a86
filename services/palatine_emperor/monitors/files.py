"""dir:// and glob://: config files on disk, watched by inotify and scanned every `emperor-freq` seconds as well."""

import contextlib
import errno
import glob
import os
from collections.abc import Callable
from typing import Final

import trio
from inotify_simple import Event, INotify, flags  # type: ignore[import-untyped]  # it has no annotations

from palatine_emperor.monitors.interface import Report
from palatine_emperor.monitors.scan import Found, scan_directory, scan_glob, watched_directories
from palatine_emperor.settings import Settings

_DONE: Final = (
    flags.CLOSE_WRITE
    | flags.ATTRIB
    | flags.MOVED_FROM
    | flags.MOVED_TO
    | flags.DELETE
    | flags.DELETE_SELF
    | flags.MOVE_SELF
    | flags.Q_OVERFLOW
)
#: More directories than this are only scanned.
MOST_WATCHES: Final = 4096


class FileMonitor:
    """Both file monitors: `scan` finds the vassals, `places` the directories in which something may change."""

    def __init__(
        self, url: str, key: str, scan: Callable[[], Found], places: Callable[[], list[str]], freq: float
    ) -> None:
        self.url = url
        self.key = key
        self._scan = scan
        self._places = places
        self._freq = freq
        self._asked = trio.Event()
        self._told: frozenset[tuple[str, str]] = frozenset()

    def rescan(self) -> None:
        """Look again now."""
        self._asked.set()

    async def watch(self, reports: trio.MemorySendChannel[Report]) -> None:
        """Report after every scan."""
        async with trio.open_nursery() as nursery:
            watches = _Watches()
            nursery.start_soon(watches.run, self.rescan)
            while True:
                self._asked = trio.Event()
                complaint = await self._place(watches)
                reports.send_nowait(await trio.to_thread.run_sync(self._report, complaint))
                with trio.move_on_after(self._freq):
                    await self._asked.wait()

    async def _place(self, watches: "_Watches") -> str:
        """Watch what there is now; what is made in a new directory before it is watched needs another look."""
        before: list[str] = []
        complaint = ""
        while (places := await trio.to_thread.run_sync(self._places)) != before:
            complaint = watches.place(places)
            before = places
        return complaint

    def _report(self, complaint: str) -> Report:
        try:
            found = self._scan()
        except OSError as error:
            return Report(error=f"{self.url}: {error.strerror}")
        complaints = frozenset({*found.refused, *([("", complaint)] if complaint else [])})
        news = sorted(line for _, line in complaints - self._told)
        self._told = complaints
        return Report(found.wanted, complete=True, said=tuple(news))


class _Watches:
    """inotify over a changing set of directories; where the kernel has no more of it, the scans must do."""

    def __init__(self) -> None:
        self._inotify: INotify | None = None
        self._placed: dict[str, int] = {}

    def place(self, directories: list[str]) -> str:
        """Watch these directories and no others; returns what kept it from doing so."""
        if self._inotify is None:
            return ""
        complaint = ""
        placed = {}
        for path in directories:
            try:  # again each time: the path may lead to another directory by now
                placed[path] = self._inotify.add_watch(path, _DONE | flags.CREATE)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    complaint = f"[emperor] {path} is scanned, not watched: {os.strerror(error.errno or 0)}"
        for watch in set(self._placed.values()) - set(placed.values()):
            with contextlib.suppress(OSError):  # its directory is gone, and the watch with it
                self._inotify.rm_watch(watch)
        self._placed = placed
        return complaint

    async def run(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever something was finished in a watched directory."""
        try:
            inotify = INotify(nonblocking=True)
        except OSError:  # the user's inotify instances are all taken: then only the scans look
            return
        self._inotify = inotify
        changed()
        try:
            while True:
                await trio.lowlevel.wait_readable(inotify.fileno())
                if any(map(self._matters, inotify.read(timeout=0))):
                    changed()
        finally:
            self._inotify = None
            inotify.close()

    def _matters(self, event: Event) -> bool:
        """Whether it is worth a look: a file just created is still empty, a directory or link is complete."""
        if event.mask & (_DONE | flags.ISDIR):
            return True
        path = next((path for path, watch in self._placed.items() if watch == event.wd), "")
        return bool(event.mask & flags.CREATE) and os.path.islink(os.path.join(path, event.name))


def directory_monitor(url: str, path: str, settings: Settings, *, may_come: bool = False) -> FileMonitor:
    """dir://PATH; with `may_come` it need not be there yet: then what is watched is where it will be."""
    path = os.path.abspath(path)
    seen = not may_come

    def scan() -> Found:
        nonlocal seen
        seen = seen or os.path.isdir(path)  # one that is gone again is an error, and its vassals go on
        return scan_directory(path, settings) if seen else _nothing_at(path)

    def places() -> list[str]:
        return [path] if seen or os.path.isdir(path) else watched_directories(path, "/", MOST_WATCHES)

    return FileMonitor(url, f"dir:{path}", scan, places, settings.emperor_freq)


def glob_monitor(url: str, pattern: str, cwd: str, settings: Settings) -> FileMonitor:
    """glob://PATTERN, relative to the directory the emperor was started in."""

    def scan() -> Found:
        found = scan_glob(pattern, cwd, settings)
        path = os.path.join(cwd, pattern)
        somewhere = watched_directories(pattern, cwd, 1) if glob.has_magic(pattern) else os.path.exists(path)
        return found if somewhere else _nothing_at(path)

    return FileMonitor(
        url,
        f"glob:{cwd}:{pattern}",
        scan,
        lambda: watched_directories(pattern, cwd, MOST_WATCHES),
        settings.emperor_freq,
    )


def _nothing_at(path: str) -> Found:
    """Said once: a monitor tells what has not been told before."""
    return Found((), (("", f"[emperor] WARNING: nothing is at {path} yet; what appears there is started"),))
