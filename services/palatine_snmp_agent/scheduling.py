"""Has the kernel run the agent's event loop before ordinary processes (sched(7)); must never take more than its share.

SCHED_RR at its lowest priority, for the loop's thread alone: threads it makes are ordinary ones. It needs CAP_SYS_NICE
or an RLIMIT_RTPRIO above 0, which the systemd unit gives; where it is not allowed, as in most containers, the agent is
scheduled like everybody else, and where whoever started it chose a policy, that stays. Should something of ours go
round in circles, RLIMIT_RTTIME ends the lead.
"""

import os
import resource
import signal
import time
from typing import Any, Final

import structlog

from palatine_snmp_agent import scheduling_policy
from palatine_snmp_agent.scheduling_policy import Lead

_PRIORITY: Final = 1
#: Microseconds of CPU without a wait after which the kernel sends SIGXCPU: the rows of 300 large instances take longer.
_FUSE_MICROSECONDS: Final = 100_000
#: Seconds that are surely a wait: a shorter one is over before the thread has left its CPU.
_MOMENT: Final = 1e-4

_log = structlog.get_logger()


class Scheduling:
    """The place of the thread that makes it in the queue for a CPU: as it was before, until `use`."""

    def __init__(self) -> None:
        self._share = 0.0
        self._lead = Lead(first=False, left=0.0)
        self._refusal = ""
        self._yielded = 0
        self._ours = os.sched_getscheduler(0) == os.SCHED_OTHER
        if self._ours:
            signal.signal(signal.SIGXCPU, self._blown)

    def use(self, share: float) -> None:
        """Go first with this share of a CPU from here on, 0 for never; where that is not allowed, say so once."""
        told, self._refusal = self._refusal, "" if self._ours else "started with another policy"
        self._share = share if self._ours else 0.0
        self._follow(scheduling_policy.begun(self._share, time.thread_time(), time.monotonic()))
        if self._refusal and not told:
            _log.info("scheduling.ordinary", reason=self._refusal, effect="replies wait while all CPUs are busy")

    def look(self) -> None:
        """Go on, or not, by what was used since the last time; to be called every 64 datagrams at least."""
        if self._share:
            self._follow(scheduling_policy.decide(self._share, self._lead, time.thread_time(), time.monotonic()))

    def statistics(self) -> dict[str, Any]:
        """How it is, for `ctl status`."""
        refused = {"refused": self._refusal} if self._refusal else {}
        return {"realtime": self._lead.first, "share": self._share, "yielded": self._yielded, **refused}

    def _follow(self, lead: Lead) -> None:
        before, self._lead = self._lead, lead
        if lead.first == before.first:
            return
        try:
            _go_first() if lead.first else _go_along()
        except OSError as error:
            self._refusal = error.strerror or str(error)
            self._share, self._lead = 0.0, before
        else:
            self._yielded += bool(self._share) and not lead.first

    def _blown(self, *_: object) -> None:
        """SIGXCPU, in whatever we are doing: the next looks give the lead back when it has been paid for."""
        self._follow(self._lead._replace(first=False))


def _go_first() -> None:
    os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(_PRIORITY))
    time.sleep(_MOMENT)  # what was counted before is forgotten by a wait only
    # Each time anew: the kernel moves the limit when it is reached.
    resource.setrlimit(resource.RLIMIT_RTTIME, (_FUSE_MICROSECONDS, resource.getrlimit(resource.RLIMIT_RTTIME)[1]))


def _go_along() -> None:
    # With the flag, which cannot be taken back without the right to it.
    os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
