"""A connection to an address as uWSGI writes it. Plain; for whoever may wait a while."""

import socket
from typing import Final

_LAST_PORT: Final = 65535


def dial(address: str, seconds: float) -> socket.socket:
    """A socket connected to `HOST:PORT`, `:PORT` (here), `[IPV6]:PORT`, a path or `@abstract`, with this timeout.

    OSError; ValueError for what no address can be.
    """
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        if int(port) > _LAST_PORT:
            raise ValueError(f"{address}: there is no such port")
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
    except BaseException:
        sock.close()
        raise
    return sock
