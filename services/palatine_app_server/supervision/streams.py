"""Standard input, output and error of the app's processes, whose lines all end in the log."""

import io
import os
import sys
from typing import Any, TextIO

from palatine_app_server.system import channel


def take_over(log_fd: int, *, keeps_stdin: bool) -> None:
    """Read from nowhere, unless the app may; write to `log_fd`."""
    sys.stdout.flush()
    sys.stderr.flush()
    if not keeps_stdin:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
    write_to(log_fd)
    sys.stdout, sys.stderr = _line_by_line(sys.stdout), _line_by_line(sys.stderr)


def _line_by_line(stream: TextIO) -> TextIO:
    """One print is one write, hence one line for alarms, also under -u, up to what the pipe to the master holds."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    raw = _Pieces(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, line_buffering=True, write_through=False
    )


class _Pieces(io.FileIO):
    """Writes as much of a long text as the kernel takes at once; whoever buffers in front of it writes the rest."""

    def write(self, data: Any, /) -> int:
        return super().write(memoryview(data)[: channel.BUFFER_BYTES // 2])


def write_to(log_fd: int) -> None:
    """Have stdout and stderr end there."""
    for number in (1, 2):
        os.dup2(log_fd, number)
