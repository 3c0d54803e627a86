"""Files and directories whose change the kernel tells at once (inotify(7)): the fs-* options."""

import os
from collections.abc import Callable, Sequence

from palatine_app_server.orders.touches import LOOK_SECONDS, Touch
from palatine_app_server.system.file_watch import FileWatch
from palatine_app_server.system.loop import Loop
from palatine_app_server.system.part import Part


class TreeWatch(Part):
    """Calls `act` once for each batch of events on a path; of a directory, that is what it holds itself."""

    def __init__(self, touches: Sequence[Touch], act: Callable[[Touch], None], loop: Loop) -> None:
        self._files = FileWatch(loop, lambda _path, number: act(touches[number]))
        for number, touch in enumerate(touches):
            self._files.add(os.path.abspath(touch.path), number)
        self._looked = 0.0

    def tick(self, now: float) -> None:
        """Watch what has come back, or come first, since we looked last."""
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._files.look_again()
