"""`vacuum`: pidfiles and UNIX sockets go with the instance that made them, and nobody else's do. Plain."""

import os
from collections.abc import Callable, Sequence

from palatine_app_server.config.process_settings import ProcessSettings
from palatine_app_server.supervision.foundation import Sockets
from palatine_app_server.system import sockets
from palatine_app_server.system.sockets import Bound


def clean(settings: ProcessSettings, bound: Sockets, say: Callable[[str], None]) -> None:
    """Remove them, with uWSGI's lines; what cannot be removed is said and left."""
    _remove("pidfile", settings.early_pidfiles, say)
    _remove("pidfile2", settings.pidfiles, say)
    _remove("safe pidfile", settings.safe_pidfiles, say)
    for what, some in (("", bound.requests), (" (stats)", bound.offered), (" (zergpool)", bound.pooled)):
        for one in some:
            if one.path:
                _remove_socket(one, what, say)


def _remove(what: str, paths: Sequence[str], say: Callable[[str], None]) -> None:
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            say(f"unlink({path}): {error.strerror}")
        else:
            say(f"VACUUM: {what} removed.")


def _remove_socket(bound: Bound, what: str, say: Callable[[str], None]) -> None:
    path = os.path.abspath(bound.path)
    try:
        ours = sockets.remove_path(bound)
    except OSError as error:
        say(f"unlink({path}): {error.strerror}")
        return
    if ours:
        say(f"VACUUM: unix socket {path}{what} removed.")
    else:
        say(f"VACUUM WARNING: unix socket {path} changed inode. Skip removal")
