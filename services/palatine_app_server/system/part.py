"""Something the master looks after beside its workers: attached daemons, mules, spoolers, crons. Plain.

The master calls every method from its loop; none may block, and what is to happen later is said by `due`.
"""


class Part:
    """A part that does nothing: override what yours does. Times are seconds of the monotonic clock."""

    def start(self, now: float) -> None:
        """The first generation is about to be loaded."""

    def serving(self, generation: int) -> None:
        """`generation` serves now, at the start and after every reload."""

    def tick(self, now: float) -> None:
        """Do what time has made due; called at least once a second."""

    def due(self, now: float) -> float | None:
        """When `tick` should be called next; None where once a second will do."""
        del now
        return None

    def reaped(self, pid: int, status: int, now: float) -> bool:
        """A child of the master ended with the wait `status`; whether it was one of ours."""
        del pid, status, now
        return False

    def close_in_child(self) -> None:
        """In a freshly forked child: drop the descriptors only the master may hold."""

    def stop(self, now: float) -> None:
        """The workers are gone, the master ends: let go of everything; `running` says when that is done."""

    @property
    def running(self) -> bool:
        """Whether the master must still wait for something of this part before it may end."""
        return False
