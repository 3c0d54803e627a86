"""A worker looks at itself after each request, and leaves for a fresh process when it has served long enough.

It leaves as a draining worker does: whoever it has accepted is answered, the next one meets another process.
"""

import os
import time
from collections.abc import Callable

from palatine_app_server.supervision import recycle_policy
from palatine_app_server.supervision.recycle_policy import Memory, RecycleSettings
from palatine_app_server.system import linux


class Recycling:
    """Of one worker; `leave(reason)` is called once, from the thread that has served the last request."""

    def __init__(self, settings: RecycleSettings, requests: Callable[[], int], leave: Callable[[str], None]) -> None:
        self._settings = settings
        self._requests = requests
        self._leave = leave
        self._born = time.monotonic()
        self._pid = os.getpid()
        self._most_requests = 0
        if settings.max_requests:
            chance = int.from_bytes(os.urandom(4)) / 0xFFFFFFFF
            self._most_requests = recycle_policy.jittered(settings.max_requests, settings.max_requests_delta, chance)
        self._reason = ""
        self._left = False

    def app_raised(self, error: BaseException) -> None:
        """The app let an exception escape."""
        if recycle_policy.is_monitored(self._settings, error):
            self._reason = "exception"

    def request_done(self) -> None:
        """A request was answered and counted."""
        if self._left:
            return
        if not self._reason and self._settings.watches_requests:
            self._reason = recycle_policy.after_request(
                self._settings,
                most_requests=self._most_requests,
                requests=self._requests(),
                age=time.monotonic() - self._born,
                memory=self._memory(),
            )
        if self._reason:
            self._left = True
            self._leave(self._reason)

    def _memory(self) -> Memory:
        if self._settings.reload_on_as or self._settings.reload_on_rss:
            return Memory(*linux.memory_of(self._pid))
        return Memory()
