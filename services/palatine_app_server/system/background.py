"""daemonize and daemonize2: leave the terminal before anything is made, and say when the instance serves. Plain."""

import os
import sys
from collections.abc import MutableMapping
from typing import Final

from palatine import exits

#: The descriptor by which a detached master tells who started it that it serves.
VARIABLE: Final = "PALATINE_READY_FD"


def detach(environ: MutableMapping[str, str], log: str, *, wait: bool) -> int | None:
    """Go on in another session; None there, and the exit code here, in the process that was started.

    With `wait` that is known when the instance serves, or has ended. Output goes to the file `log` from now on.
    """
    sys.stdout.flush()
    sys.stderr.write("*** daemonizing uWSGI ***\n")
    sys.stderr.flush()
    reader, writer = os.pipe2(os.O_CLOEXEC)
    if os.fork():
        os.close(writer)
        told = os.read(reader, 1) if wait else b"1"
        os.close(reader)
        return exits.OK if told else exits.FAILURE
    os.close(reader)
    os.setsid()
    if os.fork():  # no leader of a session, so that no terminal can become its own
        os._exit(exits.OK)
    environ[VARIABLE] = str(writer)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    if ":" not in log:
        fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        os.close(fd)
    return None


def herald(environ: MutableMapping[str, str]) -> int:
    """Take the descriptor out of `environ`; -1 where nobody waits."""
    number = environ.pop(VARIABLE, "")
    return int(number) if number.isdigit() else -1


def tell(fd: int) -> None:
    """The instance serves."""
    if fd >= 0:
        try:
            os.write(fd, b"1")
        except OSError:  # nobody waits: daemonize without 2
            return
        finally:
            os.close(fd)
