"""What every daemon's life has in common; a daemon gives a Spec and an async main. It must never know any one daemon.

    SPEC = Spec(name="snmp-agent", doc=__doc__, main=serve, tables=AGENT, rows={...})

    def main() -> int:
        return run(SPEC)

`run` reads the options and the YAML file, makes the directories, drops privileges, claims the daemon's lock, publishes
its counter segment, answers on `ctl`, handles signals, tells systemd, and turns what went wrong into an exit code.
"""

from palatine.daemon.context import Context
from palatine.daemon.runner import run
from palatine.daemon.settings import Document, Secret, parse_document, read_document, typed
from palatine.daemon.spec import Spec

__all__ = ["Context", "Document", "Secret", "Spec", "parse_document", "read_document", "run", "typed"]
