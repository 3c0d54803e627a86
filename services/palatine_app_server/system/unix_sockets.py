"""UNIX sockets of the instance's own besides those that serve: a file of this mode, in the place of an earlier one."""

import os
import socket
import stat

from palatine.errors import ConfigError


def bound(option: str, path: str, mode: int | None, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """A socket bound to `path`, or to an abstract `@name`, that never blocks; `mode` None: what the umask leaves.

    ConfigError, with the `option`'s name, where that cannot be. What lies there and is no socket stays.
    """
    sock = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
    try:
        if path.startswith("@"):
            sock.bind(f"\0{path[1:]}\0")  # uWSGI's abstract names end with a NUL, and it connects to no other
        else:
            if os.path.lexists(path) and stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)
            sock.bind(path)
            if mode is not None:
                os.chmod(path, mode)
    except OSError as error:
        sock.close()
        raise ConfigError(f"{option} {path}: {error.strerror or error}") from error
    return sock


def listening(option: str, path: str, mode: int | None, backlog: int = 128) -> socket.socket:
    """The same, listening for connections."""
    sock = bound(option, path, mode)
    sock.listen(backlog)
    return sock
