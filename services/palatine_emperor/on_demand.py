"""On-demand sockets: bound as uWSGI's Emperor binds them, for a vassal that gets them as descriptor 0."""

import contextlib
import os
import socket
import stat

from palatine.errors import ConfigError

#: uWSGI's: everybody may connect, as the vassal's user is not the emperor's.
_MODE = 0o666


def bind_socket(address: str, backlog: int) -> socket.socket:
    """A listening stream socket at `a.b.c.d:port`, `:port`, `[v6]:port` or a path.

    Raises:
        OSError: it cannot be bound.
        ConfigError: it is no address.
    """
    host, colon, port = address.rpartition(":")
    if not colon or "/" in address:
        return _bind_path(address, backlog)
    if not port.isascii() or not port.isdigit():
        raise ConfigError(f"{address!r} has no port number")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), int(port)))
        listener.listen(backlog)
    except (OSError, OverflowError) as error:
        listener.close()
        raise error if isinstance(error, OSError) else ConfigError(f"{address!r} has no port number") from error
    return listener


def _bind_path(path: str, backlog: int) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        os.chmod(path, _MODE)
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener
