"""Files whose change is an order: the touch-* options. Looks at them once a second, decides nothing else."""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from palatine_app_server.system.part import Part

LOOK_SECONDS = 1.0


class Touch(NamedTuple):
    """A file, the option that names it (without `touch-`), and what it says besides."""

    path: str
    order: str
    argument: str = ""


class Touches(Part):
    """Calls `act` for each file that was changed, created or removed since the last look (mtime in seconds)."""

    def __init__(self, touches: Sequence[Touch], act: Callable[[Touch], None], say: Callable[[str], None]) -> None:
        self._touches = list(touches)
        self._act = act
        self._seen = [_changed_at(touch.path) for touch in touches]
        self._looked = 0.0
        for touch, seen in zip(self._touches, self._seen, strict=True):
            if not seen:
                say(f"unable to stat() {touch.path}, events will be triggered as soon as the file is created")

    def tick(self, now: float) -> None:
        """Look."""
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        for number, touch in enumerate(self._touches):
            found = _changed_at(touch.path)
            if found != self._seen[number]:
                newer = found > self._seen[number] or not found
                self._seen[number] = found
                if newer:  # set back in time it is no order, as in uWSGI
                    self._act(touch)


def _changed_at(path: str) -> int:
    try:
        return int(os.stat(path).st_mtime)
    except OSError:
        return 0
