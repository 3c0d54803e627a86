"""When the serving generation gets another zygote after one has died. No clock: the time comes with every question."""

from palatine_app_server.supervision import worker_policy


class ZygoteRespawn:
    """Counts deaths without a loaded app between them; each makes the next wait longer."""

    def __init__(self) -> None:
        self._failures = 0
        self._due: float | None = None

    @property
    def due(self) -> float | None:
        """When it is to be started; None where none is."""
        return self._due

    def died(self, now: float, unit: float) -> float:
        """One has died: another is due after this many seconds, which are counted in `unit`s."""
        delay = worker_policy.respawn_delay(self._failures, unit)
        self._failures += 1
        self._due = now + delay
        return delay

    def take(self, now: float) -> bool:
        """Whether one is due; it is not any more."""
        if self._due is None or now < self._due:
            return False
        self._due = None
        return True

    def loaded(self) -> None:
        """All is well again."""
        self._failures, self._due = 0, None
