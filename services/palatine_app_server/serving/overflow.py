"""What a client has not taken of a response, in order: a little in memory, the rest in a file without a name.

It must never hold more than `MEMORY_BYTES` in memory: many slow readers of much are many times that.
"""

import os
from collections import deque
from typing import Final, Protocol

from palatine_app_server.serving.file_parts import BURST_BYTES, unnamed_file

MEMORY_BYTES: Final = 1024 * 1024


class Channel(Protocol):
    """A connection that takes bytes, and bytes of a file."""

    def write_now(self, data: memoryview) -> memoryview | None:
        """What the client does not take now; None when it took everything. OSError when it is gone."""

    def send_from(self, fd: int, start: int, length: int) -> int:
        """Send some of a file; how many bytes went through, 0 where none can now. OSError when the client is gone."""


class Overflow:
    """A queue of bytes. Owns its file."""

    __slots__ = ("_at", "_end", "_file", "_held", "_pieces")

    def __init__(self) -> None:
        self._pieces: deque[memoryview] = deque()
        self._held = 0
        self._file = -1
        self._at = 0
        self._end = 0

    def __len__(self) -> int:
        return self._held + self._end - self._at

    def append(self, data: memoryview) -> None:
        """Keep `data` behind the rest; OSError, and nothing of it is kept, where the file cannot be or has no room."""
        if self._file < 0:
            if self._held + len(data) <= MEMORY_BYTES:
                self._pieces.append(data)
                self._held += len(data)
                return
            with unnamed_file() as file:
                self._file = os.dup(file.fileno())
        end = self._end
        while data:
            written = os.pwrite(self._file, data, end)
            data, end = data[written:], end + written
        self._end = end

    def pass_on(self, channel: Channel) -> "Overflow | None":
        """Send what the client takes now, of much only a part; what is left afterwards."""
        burst = BURST_BYTES
        while self._pieces:
            piece = self._pieces[0]
            rest = channel.write_now(piece)
            left = 0 if rest is None else len(rest)
            self._held -= len(piece) - left
            burst -= len(piece) - left
            if rest is not None:
                self._pieces[0] = rest
                return self
            self._pieces.popleft()
        while self._at < self._end and burst > 0:
            sent = channel.send_from(self._file, self._at, min(self._end - self._at, burst))
            if not sent:
                break
            self._at += sent
            burst -= sent
        if self._at < self._end:
            return self
        self.close()
        return None

    def close(self) -> None:
        """Let go of the file."""
        self._pieces.clear()
        self._held = self._at = self._end = 0
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
