"""Imperial monitors: who should live. Each watches one source and says what it wants; none knows what became of it."""

from palatine_emperor.monitors.interface import Monitor, Report
from palatine_emperor.monitors.schemes import open_monitor

__all__ = ["Monitor", "Report", "open_monitor"]
