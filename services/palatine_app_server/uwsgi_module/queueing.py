"""The queue: `uwsgi.queue_push` and its kin, straight on shared memory."""

import time
from typing import Any

from palatine.counters.queue import Queue
from palatine_app_server.uwsgi_module import arguments


class Queueing:
    """Calls on the queue."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def functions(self) -> dict[str, Any]:
        """What the module offers where a queue is configured."""
        queue = self._queue
        return {
            "queue_size": queue.slots,
            "queue_get": lambda slot: queue.get(arguments.long(slot)),
            "queue_set": self._set,
            "queue_last": self._last,
            "queue_push": self._push,
            "queue_pull": queue.pull,
            "queue_pop": queue.pop,
            "queue_slot": lambda: queue.position,
            "queue_pull_slot": lambda: queue.pull_position,
        }

    def _push(self, message: str | bytes) -> bool | None:
        return True if self._queue.push(arguments.data(message, "queue_push"), int(time.time())) else None

    def _set(self, slot: int, message: str | bytes) -> bool | None:
        data = arguments.data(message, "queue_set", 2)
        return True if self._queue.put(arguments.long(slot), data, int(time.time())) else None

    def _last(self, number: int = 0) -> bytes | list[bytes | None] | None:
        wanted = arguments.long(number)
        return self._queue.last(wanted) if wanted > 0 else self._queue.last(1)[0]
