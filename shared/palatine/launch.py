"""The daemons' commands: each is imported by name, once its extra is known to be there; none is imported here."""

import importlib
import signal
import sys

from palatine.companions import missing
from palatine.exits import UNAVAILABLE


def launch(daemon: str) -> int:
    """Run a daemon's main; 69, naming the extra, where what it needs is not installed."""
    problem = missing(daemon)
    if problem:
        sys.stderr.write(f"{problem}\n")
        return UNAVAILABLE
    main = importlib.import_module(f"palatine_{daemon.replace('-', '_')}.__main__").main
    status: int = main()
    return status


def app_server() -> int:
    """palatine-app-server; an INT before its master listens just ends it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return launch("app-server")


def snmp_agent() -> int:
    """palatine-snmp-agent."""
    return launch("snmp-agent")


def stats_exporter() -> int:
    """palatine-stats-exporter."""
    return launch("stats-exporter")


def alarm_daemon() -> int:
    """palatine-alarm-daemon."""
    return launch("alarm-daemon")


def emperor() -> int:
    """palatine-emperor."""
    return launch("emperor")
