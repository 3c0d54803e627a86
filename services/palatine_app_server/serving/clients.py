"""What a worker knows of clients before it hears from one: sockets, limits, what may become of a connection. No I/O.

The master loads this for its settings, and nothing of what serves requests.
"""

import enum
import socket
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from palatine.codec import uwsgi_packet

#: Read from a client in one go, and of a file sent together with its head.
READ_BYTES: Final = 65536
DEFAULT_IDLE_SECONDS: Final = 30.0
#: A body up to this size stays in memory; `post-buffering` replaces it.
BODY_MEMORY_BYTES: Final = 65536


#: The modifiers of the uwsgi protocol that are answered, and what each is treated as.
MODIFIERS: Final[Mapping[int, int]] = {
    number: number
    for number in (uwsgi_packet.WSGI, uwsgi_packet.WSGI_STRIP_SCRIPT_NAME, uwsgi_packet.PING, uwsgi_packet.SIGNAL)
}


class ClientGoneError(OSError):
    """The client closed the connection, or does not read what it asked for."""


class Limits(NamedTuple):
    """What the config allows a client: sizes in bytes, times in seconds."""

    head_bytes: int = 4096
    body_bytes: int = 0  # limit-post; 0: no limit
    uwsgi_variables: bool = False  # UWSGI_* of a uwsgi packet reach the app
    expected_bytes: int = 0  # of a body a client asks about first (Expect: 100-continue); 0: no limit
    body_memory_bytes: int = BODY_MEMORY_BYTES
    chunk_seconds: float = 0.0  # for a chunk its app reads itself; 0: an app is called when all of a body is here
    chunk_bytes: int = 1024 * 1024  # of such a chunk
    head_seconds: float = 0.0  # 0: as read_seconds
    read_seconds: float = 4.0
    write_seconds: float = 4.0
    idle_seconds: float = DEFAULT_IDLE_SECONDS
    modifiers: Mapping[int, int] = MODIFIERS  # of the uwsgi protocol: what is treated as what


class Next(enum.Enum):
    """What to do with a connection after reading from it."""

    WAIT = 1  # for more bytes
    SERVE = 2  # a request is complete: `environ`, `head` and `body` are set
    CLOSE = 3
    PING = 4  # the uwsgi protocol's: no request
    SIGNAL = 6  # the uwsgi protocol's, number `signal`: no request either
    TURN = 5  # a pipelined request waits: `receive` reads it, when the others have had their turn


class Listener(NamedTuple):
    """A bound socket a worker accepts from, and the variables every request that comes by it has in common."""

    socket: socket.socket
    fd: int
    name: str
    protocol: str  # "http", "https", "redirect", "uwsgi", or one of socket_settings.CGI
    variables: dict[str, str]
    tls: Any = None  # the ssl.SSLContext of an HTTPS socket
    proxied: bool = False  # a connection may begin with a PROXY header
    redirect_port: str = ""  # of "redirect"; "": 443
