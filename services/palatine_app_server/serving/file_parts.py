"""Parts of regular files on their way to a client: by sendfile(2), in pieces, so that nobody waits for a reader.

What a client has not taken is an `UnsentFile` of its connection; it holds a descriptor and no memory.
"""

import os
import stat
from typing import IO, Any, Final, NamedTuple, Protocol

#: Sent in one go: a client on a fast line gets its turn again after the others had theirs.
BURST_BYTES: Final = 1024 * 1024


class FilePart(NamedTuple):
    """`length` bytes of an open file from `start`."""

    fd: int
    start: int
    length: int


class Channel(Protocol):
    """A connection bytes of a file are sent on."""

    def send_from(self, fd: int, start: int, length: int) -> int:
        """Send some of it; how many bytes went through, 0 where none can now. OSError when the client is gone."""


class UnsentFile:
    """A part of a file a client has yet to take. Owns a copy of the descriptor."""

    __slots__ = ("_at", "_fd", "_left")

    def __init__(self, part: FilePart) -> None:
        self._fd = os.dup(part.fd)
        self._at = part.start
        self._left = part.length

    def __len__(self) -> int:
        return self._left

    def pass_on(self, channel: Channel) -> "UnsentFile | None":
        """Send what the client takes now; what is left afterwards."""
        burst = BURST_BYTES
        while self._left and burst > 0:
            sent = channel.send_from(self._fd, self._at, min(self._left, burst))
            if not sent:
                break
            self._at += sent
            self._left -= sent
            burst -= sent
        if self._left:
            return self
        self.close()
        return None

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class FileSlice:
    """A part of a file as `wsgi.file_wrapper` takes it. Owns `fd`."""

    def __init__(self, part: FilePart) -> None:
        self.part = part
        self._read = 0

    def read(self, size: int) -> bytes:
        """At most `size` bytes; nothing at the end."""
        part = self.part
        data = os.pread(part.fd, min(size, part.length - self._read), part.start + self._read)
        self._read += len(data)
        return data

    def close(self) -> None:
        """Close the file."""
        os.close(self.part.fd)


def part_of(file: Any) -> FilePart | None:
    """From where a file object stands to its end; None where it is anything but a regular file."""
    if isinstance(file, FileSlice):
        return file.part
    try:
        fd, start = file.fileno(), file.tell()
        status = os.fstat(fd)
    except (AttributeError, OSError, ValueError):  # io.UnsupportedOperation is both of these
        return None
    if not stat.S_ISREG(status.st_mode) or not isinstance(start, int):
        return None
    return FilePart(fd, start, max(0, status.st_size - start))


def unnamed_file() -> IO[bytes]:
    """A file in `$TMPDIR`, else /tmp, that no name leads to (open(2), O_TMPFILE)."""
    directory = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - without a name there is nothing to guess
    try:
        return open(os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), "w+b")
    except OSError:  # no such directory, or a file system that does not know it: tempfile finds another
        from tempfile import TemporaryFile  # a third of a megabyte, for the few

        return TemporaryFile()
