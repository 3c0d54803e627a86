"""How long the agent may go before everybody else on its CPU: a bucket of CPU seconds; pure.

Beside saturated workers a datagram waits for whoever runs to use up his slice, 3 to 6 ms; before everybody else it does
not. But what a flood of forged addresses costs, which no limit by source bounds, must not be taken from the apps.
"""

from typing import Final, NamedTuple

#: Of one CPU, on average: some twenty thousand requests a second, and what a fair scheduler would give it anyway.
DEFAULT_SHARE: Final = 0.5
#: Seconds whose share may be used up at once: a worker is kept from this CPU for 0.1 s at most by the default.
WINDOW: Final = 0.1


class Lead(NamedTuple):
    """Whether the agent goes first, the CPU seconds it may do so for, and the clocks (seconds) when that was so."""

    first: bool
    left: float
    cpu: float = 0.0
    now: float = 0.0


def begun(share: float, cpu: float, now: float) -> Lead:
    """The beginning: a full bucket. `cpu` is the CPU seconds the agent has used, `now` the time."""
    return Lead(share > 0, share * WINDOW, cpu, now)


def decide(share: float, lead: Lead, cpu: float, now: float) -> Lead:
    """How it goes on: the lead is lost when the bucket is empty, and given back when it is half full."""
    most = share * WINDOW
    left = min(lead.left - (cpu - lead.cpu) + share * max(now - lead.now, 0.0), most)
    first = left > 0 if lead.first else left >= most / 2 > 0
    return Lead(first, left, cpu, now)
