"""What became of pushes: counted, and said in the log when it changes; never once for each attempt."""

import time

import attrs
import structlog

from palatine_stats_exporter.push.retry_policy import Failed, Outcome, Sent

_log = structlog.get_logger()


@attrs.define
class Tally:
    """Since the start: batches delivered, attempts failed, batches given up; when one was last delivered."""

    pushes: int = 0
    errors: int = 0
    dropped: int = 0
    last: int = 0


class Record:
    """One target's fortunes."""

    def __init__(self, target: str, tally: Tally) -> None:
        self.target = target
        self.tally = tally
        #: Why the last attempt failed; "" when it did not.
        self.reason = ""
        self._remark = ""

    def note(self, outcome: Outcome) -> None:
        """An attempt ended so."""
        if isinstance(outcome, Failed):
            self.tally.errors += 1
            if outcome.reason != self.reason:
                event = "push.refused" if outcome.lasting else "push.failing"
                _log.warning(event, target=self.target, reason=outcome.reason)
            self.reason = outcome.reason
            return
        assert isinstance(outcome, Sent)
        self.tally.pushes += 1
        self.tally.last = int(time.time())
        if self.reason:
            _log.info("push.recovered", target=self.target)
        if outcome.note and outcome.note != self._remark:
            _log.warning("push.remark", target=self.target, remark=outcome.note)
        self.reason, self._remark = "", outcome.note
