"""JSON messages over a SOCK_SEQPACKET pair, between the master and its zygotes, workers and link. Plain.

One datagram is one message; the kernel keeps them whole, so many writers may share one end.
"""

import fcntl
import json
import socket
import struct
import termios
from typing import Any, Final

#: The kernel buffer holds bursts of log batches; a message itself is at most this large.
MESSAGE_BYTES: Final = 128 * 1024
BUFFER_BYTES: Final = 1024 * 1024


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends; close-on-exec, blocking."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    return ends


def queue(kind: socket.SocketKind, buffer_bytes: int) -> tuple[socket.socket, socket.socket]:
    """(writer, reader) of the kernel's own queue; close-on-exec, never blocking; 0 bytes: the kernel's default size."""
    ends = socket.socketpair(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    if buffer_bytes:
        for end in ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    return ends


def put(writer: socket.socket, data: bytes) -> bool:
    """Put `data` into a queue; False when it is full."""
    try:
        return writer.send(data) == len(data)
    except BlockingIOError:
        return False


def waiting(reader: socket.socket) -> int:
    """Bytes in a stream's queue that nobody has read."""
    (count,) = struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, bytes(4)))
    return int(count)


def send(end: socket.socket, message: dict[str, Any]) -> None:
    """Send one message; OSError when the other end is gone, BlockingIOError when a non-blocking `end` is full."""
    end.send(json.dumps(message, separators=(",", ":")).encode())


def receive(end: socket.socket) -> dict[str, Any] | None:
    """The next message; None at the end. BlockingIOError when none waits."""
    data = end.recv(MESSAGE_BYTES)
    if not data:
        return None
    message: dict[str, Any] = json.loads(data)
    return message
