"""Where configuration text comes from: files, stdin, descriptors, commands, the emperor's pipe. Must never parse it.

Every reader takes what follows `scheme://` and returns bytes, at most MAX_BYTES of them, before its deadline, or
raises ConfigError. `load` takes replacements by scheme, so a test reads nothing and a daemon may add `http`.
"""

import os
import select
import struct
import time
from collections.abc import Callable, Mapping
from typing import Final

from palatine.errors import ConfigError

#: No configuration file may be larger.
MAX_BYTES: Final = 1 << 20
#: How long a command, fifo or descriptor may take to give its text, in seconds.
SOURCE_SECONDS: Final = 30.0
#: How long the emperor may take, in seconds; uWSGI waits as long.
EMPEROR_SECONDS: Final = 5.0
#: First byte of the header in front of a configuration on the emperor's pipe.
EMPEROR_MODIFIER: Final = 115
_CHUNK: Final = 1 << 16

Reader = Callable[[str], bytes]

#: Sources that only make sense inside uWSGI's own binary.
_BINARY: Final = ("call", "callint", "data", "section", "sym")


def default_readers(cwd: str, environ: Mapping[str, str]) -> dict[str, Reader]:
    """The readers by scheme: "" a path, "-" stdin, `fd`, `exec`, `emperor`; the others explain why they refuse."""
    readers: dict[str, Reader] = {
        "": lambda path: read_file(os.path.join(cwd, path)),
        "-": lambda _: read_descriptor(0, "stdin"),
        "fd": lambda number: read_descriptor(_number(number), f"fd://{number}"),
        "exec": lambda command: read_command(command, cwd, environ),
        "emperor": lambda name: read_emperor(environ.get("UWSGI_EMPEROR_FD_CONFIG", ""), name),
        "http": _refuse_http,
        "https": _refuse_http,
    }
    for scheme in _BINARY:
        readers[scheme] = _refuse_binary(scheme)
    return readers


def read_file(path: str) -> bytes:
    """The content of the file or fifo at `path`."""
    try:
        # a fifo's open would wait for a writer without a deadline
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {_reason(error)}") from error
    try:
        return read_descriptor(descriptor, path)
    finally:
        os.close(descriptor)


def read_descriptor(descriptor: int, name: str, seconds: float = SOURCE_SECONDS) -> bytes:
    """Everything up to the end of file of an open descriptor, which stays open."""
    deadline = time.monotonic() + seconds
    parts: list[bytes] = []
    size = 0
    while True:
        part = _read_some(descriptor, name, min(_CHUNK, MAX_BYTES + 1 - size), deadline)
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            raise ConfigError(f"{name} is larger than {MAX_BYTES} bytes")


def read_emperor(descriptor: str, name: str, seconds: float = EMPEROR_SECONDS) -> bytes:
    """One configuration from the emperor's pipe: byte 115, length (16 bit, little end first), byte 0, then the text."""
    if not descriptor.isdecimal():
        raise ConfigError(f"emperor://{name} is for vassals: UWSGI_EMPEROR_FD_CONFIG names no descriptor")
    deadline = time.monotonic() + seconds
    modifier, size = struct.unpack("<BHx", _read_exactly(int(descriptor), 4, name, deadline))
    if modifier != EMPEROR_MODIFIER or not size:
        raise ConfigError(f"the emperor sent no configuration for {name}")
    return _read_exactly(int(descriptor), size, name, deadline)


def read_command(command: str, cwd: str, environ: Mapping[str, str]) -> bytes:
    """What `command`, run by the shell, writes to its standard output; its exit status does not matter, as in uWSGI."""
    import subprocess

    words = ["/bin/sh", "-c", command]
    try:
        child = subprocess.Popen(words, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot run {command}: {_reason(error)}") from error
    with child:
        assert child.stdout is not None
        try:
            return read_descriptor(child.stdout.fileno(), f"exec://{command}")
        finally:
            if child.poll() is None:
                child.kill()  # its text is complete, or it was too slow or too talkative


def _read_exactly(descriptor: int, size: int, name: str, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        part = _read_some(descriptor, name, size - len(data), deadline)
        if not part:
            raise ConfigError(f"the emperor closed the pipe before all of {name} came")
        data += part
    return data


def _read_some(descriptor: int, name: str, size: int, deadline: float) -> bytes:
    poller = select.poll()
    try:
        poller.register(descriptor, select.POLLIN)
        wait = max(0.0, deadline - time.monotonic())
        if not poller.poll(wait * 1000):
            raise ConfigError(f"{name} gave nothing in time")
        return os.read(descriptor, size)
    except BlockingIOError as error:
        raise ConfigError(f"{name} gave nothing in time") from error
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot read {name}: {_reason(error)}") from error


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise ConfigError(f"fd://{text} names no descriptor")
    return int(text)


def _refuse_http(url: str) -> bytes:
    raise ConfigError(
        f"configuration over http is not available here ({url}): fetch it with exec://curl or the emperor"
    )


def _refuse_binary(scheme: str) -> Reader:
    def refuse(name: str) -> bytes:
        raise ConfigError(
            f"{scheme}://{name} reads from the uwsgi binary itself, and this is not that binary: use a file"
        )

    return refuse


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
