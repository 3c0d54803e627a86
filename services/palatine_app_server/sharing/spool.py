"""Spool files, in uWSGI's own format: one file a task, a uwsgi packet of modifier 17 and the body behind it. Plain.

A task is written under another name, synced and renamed: it exists whole or not at all. Whoever runs it holds a lock on
its file (fcntl(2), over the whole file, as uWSGI's spooler does) that ends with the process.
"""

import os
import re
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, Final, NamedTuple

from palatine.codec.uwsgi_packet import HEADER_BYTES, PacketHeader, encode_header, parse_header
from palatine.counters import ofd
from palatine.errors import ProtocolError

#: What a spooler function returns, uWSGI's numbers.
SPOOL_OK, SPOOL_RETRY, SPOOL_IGNORE = -2, -1, 0
MODIFIER: Final = 17
PREFIX: Final = "uwsgi_spoolfile_on_"
#: The packet's length is 16 bits; what is larger goes into the body.
MOST_ARGUMENT_BYTES: Final = 0xFFFF
_DIRECTORY_MODE: Final = 0o710
_NUMBERS: Final = re.compile(r"(\d+)")


class Task(NamedTuple):
    """One task as it stands in its file."""

    variables: dict[bytes, bytes]
    body: bytes

    def as_dict(self, name: str) -> dict[Any, Any]:
        """What a spooler function gets: bytes, but for uWSGI's two text keys."""
        found: dict[Any, Any] = {"spooler_task_name": os.fsencode(name), **self.variables}
        return {**found, "body": self.body} if self.body else found


class Entry(NamedTuple):
    """A task's file: `due` is unix time before which it must not run."""

    path: str
    due: float


def prepare(directory: str) -> None:
    """Make a spool directory if need be; OSError where it cannot be used."""
    if not os.path.isdir(directory):
        os.mkdir(directory, _DIRECTORY_MODE)
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(13, "not readable and writable", directory)


class Writer:
    """Writes tasks; one a process, because its pid and count make the names unique."""

    def __init__(self) -> None:
        self._count = count(1)

    def write(self, directory: str, task: Task, *, priority: str = "", at: float = 0.0) -> str:
        """Write one task below `directory`, durable when this returns; its path.

        `at` is unix time before which it must not run. OSError; ValueError where the variables are over 64 KiB.
        """
        packet = encode(task)
        if priority:
            directory = os.path.join(directory, priority)
            os.makedirs(directory, exist_ok=True)
        now = time.time_ns()
        name = (
            f"{PREFIX}{socket.gethostname()}_{os.getpid()}_{next(self._count)}_{now % 1_000_000_000}"
            f"_{now // 1_000_000_000}_{now // 1000 % 1_000_000}"
        )
        path, temporary = os.path.join(directory, name), os.path.join(directory, f".{name}")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write_all(fd, packet)
            if at > 0:
                os.utime(fd, (at, at))
            os.fsync(fd)
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        finally:
            os.close(fd)
        _sync_directory(directory)
        return path


def encode(task: Task) -> bytes:
    """A task as bytes of its file; ValueError where it does not fit the format."""
    items = [item for pair in task.variables.items() for item in pair]
    if sum(map(len, items)) + 2 * len(items) > MOST_ARGUMENT_BYTES:
        raise ValueError("args buffer is limited to 64k, use the 'body' for bigger values")
    block = b"".join(len(item).to_bytes(2, "little") + item for item in items)
    return encode_header(PacketHeader(MODIFIER, len(block), 0)) + block + task.body


def decode(data: bytes) -> Task:
    """The task in the bytes of a file; ProtocolError."""
    if len(data) < HEADER_BYTES:
        raise ProtocolError("a spool file without its header")
    size = parse_header(data).size
    block = data[HEADER_BYTES : HEADER_BYTES + size]
    variables: dict[bytes, bytes] = {}
    at = 0
    while at < len(block):
        key, at = _item(block, at)
        value, at = _item(block, at)
        variables[key] = value
    if len(block) != size:
        raise ProtocolError("a spool file that ends within its variables")
    return Task(variables, data[HEADER_BYTES + size :])


def entries(directory: str) -> Iterator[Entry]:
    """The tasks below `directory`: directories named by a number (priorities) first, then names in natural order."""
    for name in sorted(os.listdir(directory), key=_natural):
        path = os.path.join(directory, name)
        try:
            facts = os.lstat(path)
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(facts.st_mode) and name.isdigit():
            yield from entries(path)
        elif stat.S_ISREG(facts.st_mode) and name.startswith(PREFIX):
            yield Entry(path, facts.st_mtime)


def claim(path: str) -> int | None:
    """Lock a task's file; the descriptor to close when it is done, None where another has it or it is gone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, PermissionError):
        return None
    try:
        locked = ofd.try_lock(fd, 0, 0) and os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        locked = False
    if not locked:
        os.close(fd)
        return None
    return fd


def read(fd: int) -> Task | None:
    """The task in an open file; None while another program is still writing it. ProtocolError for what is no task."""
    data = b""
    while chunk := os.pread(fd, 1 << 20, len(data)):
        data += chunk
    return decode(data) if data else None


def _item(block: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + int.from_bytes(block[at : at + 2], "little")
    if end > len(block) or at + 2 > len(block):
        raise ProtocolError("a spool file whose variables are cut short")
    return block[at + 2 : end], end


def _natural(name: str) -> list[tuple[int, int, str]]:
    """The order of versionsort(3): runs of digits compare as numbers, and a number comes before a text."""
    parts = _NUMBERS.split(name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync_directory(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def variables_of(given: Mapping[Any, Any]) -> dict[bytes, bytes]:
    """The items of a call to spool() as bytes: text is UTF-8, all else must be bytes or make them. ValueError."""
    found = {}
    for key, value in given.items():
        try:
            found[_bytes(key)] = _bytes(value)
        except TypeError as error:
            raise ValueError("spooler callable dictionary must contains only bytes") from error
    return found


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, int | float):
        raise TypeError("a number is not bytes")
    return bytes(value)
