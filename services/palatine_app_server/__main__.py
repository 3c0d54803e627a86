"""palatine-app-server - run WSGI apps under a master.

SYNOPSIS
    palatine-app-server [uWSGI options] [CONFIG]
    palatine-app-server --keeper --fd N

DESCRIPTION
    Does what the uwsgi binary does with the same words, for Python apps: binds the sockets the config names, forks
    workers that serve HTTP/1.1 and the uwsgi protocol, restarts what dies, reloads without losing a request.

    --name NAME          the instance's name; default: the config file's stem
    --runtime-dir DIR    where the instance's directory is made (also $PALATINE_RUNTIME_DIR)
    --state-dir DIR      where the link keeps alarms nobody has taken yet (also $PALATINE_STATE_DIR)

FILES
    <runtime dir>/i/<name>/seg        counters, readable by group palatine
    <runtime dir>/i/<name>/ctl        requests: ping, status, reload, stop, log-level, alarm.action
    <runtime dir>/i/<name>/events     alarms and log lines, for the alarm-daemon
    <runtime dir>/i/<name>/handoff    stats and SNMP sockets, for the daemons that serve them

SIGNALS
    TERM drains and stops, INT and QUIT stop, HUP reloads, USR1 writes the workers' state to the log, TSTP pauses and
    resumes. With die-on-term QUIT reloads.

SECURITY
    Sockets are bound before privileges are dropped (uid, gid); the app is imported after. Variables named UWSGI_*
    that arrive over a socket are ignored.

EXIT STATUS
    0 stopped as asked; 1 failure; 22 need-app is set and no app could be loaded; 78 the config is wrong.
"""

import os
import sys
from collections.abc import Sequence

from palatine import exits
from palatine.config.effects import IMPLEMENTED, Effects
from palatine_app_server import commands
from palatine_app_server.serve import serve


def fill(text: str) -> str:
    """`text` in indented lines of at most 100 columns."""
    import textwrap

    return textwrap.fill(text, 100, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; `argv` without the program's name."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] == "--keeper":
        from palatine_app_server.keeping import keeper

        return keeper.main(words[1:])
    if words in (["--help"], ["-h"], ["--manual"]):
        names = "  ".join(sorted(Effects().names(IMPLEMENTED)))
        return _show(f"{__doc__}\nOPTIONS OF UWSGI THAT HAVE AN EFFECT (docs/options.md says which)\n{fill(names)}\n")
    if words == ["--version"]:
        sys.stdout.write(f"{commands.version()}\n")
        return exits.OK
    return serve(words, dict(os.environ), cwd=os.getcwd())


def _show(text: str) -> int:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # `uwsgi --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return exits.FAILURE
    return exits.OK


if __name__ == "__main__":
    sys.exit(main())
