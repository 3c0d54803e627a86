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
        sock = _connected(address)
    except (OSError, ValueError) as error:
        raise PeerError(f"--connect-and-read {address}: {error}", "unavailable") from error
    with sock:
        try:
            while data := sock.recv(65536):
                os.write(out, data)
        except (TimeoutError, ConnectionResetError):
            return


def _connected(address: str) -> socket.socket:
    host, colon, port = address.rpartition(":")
    if colon:
        return socket.create_connection((host.strip("[]") or "127.0.0.1", int(port)), _PATIENCE_SECONDS)
    if not address.startswith("@"):
        return _unix(address)
    try:
        return _unix(f"\0{address[1:]}")
    except ConnectionRefusedError:
        return _unix(f"\0{address[1:]}\0")  # as uWSGI itself binds abstract names


def _unix(name: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(_PATIENCE_SECONDS)
    try:
        sock.connect(name)
    except OSError:
        sock.close()
        raise
    return sock
