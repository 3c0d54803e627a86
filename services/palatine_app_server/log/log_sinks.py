"""Where log lines end up: files, descriptors, sockets, syslog, programs. A sink never waits for its reader.

What a slow reader does not take is kept up to a limit and then dropped, oldest first; `write` counts the lost.
"""

import contextlib
import os
import select
import socket
import stat
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from palatine.errors import ConfigError

#: Kept for a pipe, terminal or stream socket whose reader is slow, in bytes.
PENDING_BYTES: Final = 1024 * 1024
#: Between two attempts to start a program that reads log lines.
RESTART_SECONDS: Final = 1.0
SYSLOG_SOCKET: Final = "/dev/log"
SYSLOG_PORT: Final = 514
FILE_MODE: Final = 0o640

#: syslog(3): LOG_INFO, and the facilities by name.
_INFO: Final = 6
FACILITIES: Final = {
    "kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "security": 4, "syslog": 5, "lpr": 6, "news": 7,
    "uucp": 8, "cron": 9, "authpriv": 10, "ftp": 11,
    **{f"local{number}": 16 + number for number in range(8)},
}  # fmt: skip


class Sink(Protocol):
    """Takes lines."""

    def write(self, data: bytes) -> int:
        """Take one line; how many lines were lost on this occasion."""

    def flush(self) -> bool:
        """Pass on what is kept; whether nothing is left."""

    def close(self) -> None:
        """Let go of descriptors."""


class FileSink:
    """A regular file, appended to; with `most_bytes` it is renamed away when it is larger than that."""

    def __init__(
        self, path: str, *, mode: int = 0, most_bytes: int = 0, backup: str = "", truncate: bool = False
    ) -> None:
        self.path = path
        self._mode = mode
        self._most_bytes = most_bytes
        self._backup = backup
        self._fd = self._open(os.O_TRUNC if truncate else 0)

    @property
    def fd(self) -> int:
        """The descriptor as it is now."""
        return self._fd

    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._fd).st_size

    def write(self, data: bytes) -> int:
        """Append; a full disk costs the line."""
        try:
            os.write(self._fd, data)
        except OSError:
            return 1
        if self._most_bytes and self.size() > self._most_bytes:
            self.rotate()
        return 0

    def rotate(self) -> None:
        """Rename the file to its backup name (uWSGI: the path, a dot, unix seconds) and begin it anew."""
        backup = self._backup or f"{self.path}.{int(time.time())}"
        self._say(f"logsize: {self.size()}, triggering rotation to {backup}...")
        try:
            os.rename(self.path, backup)
        except OSError as error:
            self._say(f"unable to rotate log: rename(): {error.strerror}")
            return
        self._replace(os.O_TRUNC)

    def reopen(self) -> None:
        """Open the path anew: something else has moved the file away."""
        now = int(time.time())
        with contextlib.suppress(OSError):
            os.write(self._fd, f"[{now}] logsize: {self.size()}, triggering log-reopen...\n".encode())
        self._replace(0)
        with contextlib.suppress(OSError):
            os.write(self._fd, f"[{now}] {self.path} reopened.\n".encode())

    def flush(self) -> bool:
        """Nothing is kept."""
        return True

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._fd, f"{time.ctime()} - {text}\n".encode())

    def _replace(self, flags: int) -> None:
        """Put the file now at the path behind the same descriptor: whoever inherited a copy keeps the old one."""
        try:
            fd = self._open(flags)
        except ConfigError as error:
            self._say(str(error))
            return
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)

    def _open(self, flags: int) -> int:
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | flags, FILE_MODE)
            if self._mode:
                os.fchmod(fd, self._mode)
        except OSError as error:
            raise ConfigError(f"open({self.path}): {error.strerror}") from error
        return fd


class KeepingSink:
    """Keeps what its reader does not take now; `_pass_on` says what is left of a piece."""

    def __init__(self) -> None:
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0

    def write(self, data: bytes) -> int:
        """Write, or keep what does not go through now."""
        if not self._pending:
            data = self._pass_on(data)
            if not data:
                return 0
        self._pending.append(data)
        self._pending_bytes += len(data)
        self.flush()
        lost = 0
        while self._pending_bytes > PENDING_BYTES and len(self._pending) > 1:
            # the first may be half a line that has begun already
            begun = self._pending.popleft()
            self._pending_bytes -= len(self._pending.popleft())
            self._pending.appendleft(begun)
            lost += 1
        return lost

    def flush(self) -> bool:
        """Try what is kept again."""
        while self._pending:
            rest = self._pass_on(self._pending[0])
            self._pending_bytes -= len(self._pending[0]) - len(rest)
            if rest:
                self._pending[0] = rest
                return False
            self._pending.popleft()
        return True

    def _pass_on(self, data: bytes) -> bytes:
        raise NotImplementedError


class StreamSink(KeepingSink):
    """A descriptor somebody else opened: a file, pipe, terminal or stream socket. Owns `fd`."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)

    def close(self) -> None:
        """Close our copy."""
        os.close(self._fd)

    def broken(self) -> bool:
        """Whether nobody reads the other end of this pipe any more."""
        poll = select.poll()
        poll.register(self._fd, 0)
        return bool(poll.poll(0))

    def _pass_on(self, data: bytes) -> bytes:
        """What the reader did not take; nothing when the reader is gone."""
        try:
            if self._is_socket:
                with socket.socket(fileno=os.dup(self._fd)) as sock:
                    return data[sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
            return data[os.write(self._fd, data) :]
        except BlockingIOError:
            return data
        except OSError:
            return b""


def inherited(fd: int) -> StreamSink:
    """A sink on a copy of `fd` that does not block, and leaves `fd` itself, which others use, as it is."""
    kind = os.fstat(fd).st_mode
    if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
        # O_NONBLOCK belongs to the open file, not to the descriptor: it takes an open file of our own
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
            return StreamSink(os.open(f"/proc/self/fd/{fd}", flags))
    return StreamSink(os.dup(fd))


class DatagramSink(KeepingSink):
    """A datagram socket: one line, one datagram, in the form `shape` gives it. Nobody waits for a receiver.

    With `piece_bytes` a longer line becomes several. What a UNIX socket (a local syslog) has no room for is kept: its
    kernel's default are ten datagrams, less than a traceback.
    """

    def __init__(self, address: str, port: int, shape: Callable[[bytes], bytes], piece_bytes: int = 0) -> None:
        super().__init__()
        self._lost = 0  # a receiver was away
        self._shape = shape
        self._piece_bytes = piece_bytes
        self._address: str | tuple[str, int] = address
        family = socket.AF_UNIX
        if not address.startswith(("/", "@")) and (port or ":" in address):
            host, colon, number = address.rpartition(":")
            try:
                self._address = (socket.gethostbyname(host if colon else address), int(number) if colon else port)
            except (OSError, ValueError) as error:
                raise ConfigError(f"{address!r} is no address for log lines: {error}") from error
            family = socket.AF_INET
        elif address.startswith("@"):
            self._address = "\0" + address[1:]
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def write(self, data: bytes) -> int:
        """Send a line; a receiver that is away costs the line."""
        step = self._piece_bytes or max(1, len(data))
        kept = [
            super(DatagramSink, self).write(self._shape(data[at : at + step]))
            for at in range(0, max(1, len(data)), step)
        ]
        lost, self._lost = self._lost, 0
        return sum(kept) + min(1, lost)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _pass_on(self, data: bytes) -> bytes:
        try:
            self._socket.sendto(data, self._address)
        except BlockingIOError:
            if self._socket.family == socket.AF_UNIX:
                return data
            self._lost += 1
        except OSError:
            self._lost += 1
        return b""


class ProgramSink:
    """A program that reads lines from its standard input; started by the first line, and again when it has ended."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._stream: StreamSink | None = None
        self._again_at = 0.0

    def write(self, data: bytes) -> int:
        """Pass a line to the program."""
        if self._stream is not None and self._stream.broken():
            self.close()
        if self._stream is None:
            self._start()
        return 1 if self._stream is None else self._stream.write(data)

    def flush(self) -> bool:
        """Try what is kept again."""
        return self._stream is None or self._stream.flush()

    def close(self) -> None:
        """The program reads the end of its input."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _start(self) -> None:
        if time.monotonic() < self._again_at:
            return
        self._again_at = time.monotonic() + RESTART_SECONDS
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            os.posix_spawn(
                "/bin/sh", ["sh", "-c", self._command], os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0)], setsid=True,
            )  # fmt: skip
        finally:
            os.close(reader)
        os.set_blocking(writer, False)
        self._stream = StreamSink(writer)


def syslog_shape(argument: str) -> Callable[[bytes], bytes]:
    """The datagrams of `syslog:[ident[,facility]]` as syslog(3) sends them to /dev/log."""
    ident, _, facility = argument.partition(",")
    priority = FACILITIES.get(facility, FACILITIES["daemon"]) << 3 | _INFO
    name = ident or "uwsgi"
    return lambda data: f"<{priority}>{_stamp()} {name}: ".encode() + data.removesuffix(b"\n")


#: Of a packet, for all that is not the message: uWSGI's figure.
RSYSLOG_HEAD_BYTES: Final = 30


def rsyslog_shape(argument: str, hostname: str, packet_bytes: int) -> Callable[[bytes], bytes]:
    """The datagrams of `rsyslog:host[:port][,ident[,priority]]`: RFC 3164, cut to `packet_bytes`."""
    ident, _, priority = argument.partition(",")
    start = f"<{int(priority) if priority.isdigit() else 29}>".encode()
    name = f" {ident or f'{hostname} uwsgi'}: ".encode()
    most = packet_bytes - RSYSLOG_HEAD_BYTES
    return lambda data: start + _stamp().encode() + name + data.removesuffix(b"\n")[:most]


def _stamp() -> str:
    """RFC 3164 4.1.2: `Nov  2 09:01:05`."""
    return time.ctime()[4:19]
