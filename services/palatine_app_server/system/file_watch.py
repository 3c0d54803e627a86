"""Files the kernel tells about (inotify(7)), for the master's loop. Plain; it reads no file and decides nothing.

A file that is replaced or did not exist yet is watched anew as soon as it is there, which uWSGI's monitors are not.
"""

import os
from collections.abc import Callable

from palatine_app_server.system import linux
from palatine_app_server.system.loop import Loop


class FileWatch:
    """Calls `changed(path, number)` once for each batch of events on a path."""

    def __init__(self, loop: Loop, changed: Callable[[str, int], None]) -> None:
        self._loop = loop
        self._changed = changed
        self._fd = linux.inotify()
        self._numbers: dict[str, list[int]] = {}
        self._watched: dict[int, set[str]] = {}  # a file may be watched by two of its names
        loop.watch(self._fd, self._read)

    def add(self, path: str, number: int) -> None:
        """Tell of changes of `path`, a file or directory, by `number`."""
        self._numbers.setdefault(path, []).append(number)
        self._watch(path)

    def look_again(self) -> None:
        """Watch what is there again or for the first time; that it has come is a change."""
        missing = set(self._numbers).difference(*self._watched.values())
        for path in sorted(missing):
            if self._watch(path):
                self._tell(path)

    def close(self) -> None:
        """Watch nothing any more."""
        self._loop.forget(self._fd)
        os.close(self._fd)

    def close_in_child(self) -> None:
        """In a forked child: the watches are the master's."""
        os.close(self._fd)

    def _watch(self, path: str) -> bool:
        number = linux.watch(self._fd, path, linux.IN_CHANGES)
        if number < 0:
            return False
        self._watched.setdefault(number, set()).add(path)
        return True

    def _read(self) -> None:
        changed: dict[str, None] = {}
        for number, mask, _name in linux.drain(self._fd):
            paths = self._watched.get(number, set())
            if mask & (linux.IN_IGNORED | linux.IN_MOVE_SELF):  # `look_again` finds who has the name now
                self._watched.pop(number, None)
                if mask & linux.IN_MOVE_SELF:
                    linux.unwatch(self._fd, number)
            if not mask & linux.IN_IGNORED:
                changed.update(dict.fromkeys(paths))
        for path in changed:
            self._tell(path)

    def _tell(self, path: str) -> None:
        for number in self._numbers[path]:
            self._changed(path, number)
