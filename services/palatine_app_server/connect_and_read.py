"""`--connect-and-read ADDR`: print what a stats socket says, as uWSGI's helper does; sends nothing, serves nobody."""

import os
from typing import Final

from palatine.errors import PeerError
from palatine_app_server.system.dialling import dial

#: Seconds without a byte after which it is over, as uWSGI's socket-timeout.
_PATIENCE_SECONDS: Final = 4.0


def connect_and_read(address: str, out: int = 1) -> None:
    """Copy what comes from `HOST:PORT`, `[IPV6]:PORT`, a path or `@abstract` to descriptor `out`, until its end.

    PeerError if nobody listens there.
    """
    try:
        sock = dial(address, _PATIENCE_SECONDS)
    except (OSError, ValueError) as error:
        raise PeerError(f"--connect-and-read {address}: {error}", "unavailable") from error
    with sock:
        try:
            while data := sock.recv(65536):
                os.write(out, data)
        except (TimeoutError, ConnectionResetError):
            return
