"""`--connect-and-read ADDR`: print what a stats socket says, as uWSGI's helper does; sends nothing, serves nobody."""

import os
import socket
from typing import Final

from palatine.errors import PeerError

#: Seconds without a byte after which it is over, as uWSGI's socket-timeout.
_PATIENCE_SECONDS: Final = 4.0


def connect_and_read(address: str, out: int = 1) -> None:
    """Copy what comes from `HOST:PORT`, `[IPV6]:PORT`, a path or `@abstract` to descriptor `out`, until its end.

    PeerError if nobody listens there.
    """
    try:
        sock = connected(address)
    except (OSError, ValueError) as error:
        raise PeerError(f"--connect-and-read {address}: {error}", "unavailable") from error
    with sock:
        try:
            while data := sock.recv(65536):
                os.write(out, data)
        except (TimeoutError, ConnectionResetError):
            return


def connected(address: str, seconds: float = _PATIENCE_SECONDS) -> socket.socket:
    """A socket connected to `address`; OSError, or ValueError for a port that is no number."""
    host, colon, port = address.rpartition(":")
    if colon:
        return socket.create_connection((host.strip("[]") or "127.0.0.1", int(port)), seconds)
    if not address.startswith("@"):
        return _unix(address, seconds)
    try:
        return _unix(f"\0{address[1:]}", seconds)
    except ConnectionRefusedError:
        return _unix(f"\0{address[1:]}\0", seconds)  # as uWSGI itself binds abstract names


def _unix(name: str, seconds: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(seconds)
    try:
        sock.connect(name)
    except OSError:
        sock.close()
        raise
    return sock
