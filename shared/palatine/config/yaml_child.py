"""PyYAML at arm's length: YAML is parsed in a short-lived child, so that its modules stay out of the master.

The child is forked, not exec'd: a forked one needs no path to Python, no environment and no rights an already
unprivileged master may lack. A process with several threads parses in place instead, since a fork of it could
deadlock; the master has one. The child answers in NUL-separated fields, which need no further module.
"""

import os
import select
import signal
import sys
import time
from typing import Final

from palatine.codec.config_source import Entry, Origin, Source
from palatine.errors import ConfigError

#: How long parsing may take, in seconds; PyYAML reads 1 MiB in about ten on a slow machine.
SECONDS: Final = 30.0
#: Longest answer that is believed, in bytes.
_MAX_ANSWER: Final = 1 << 24
_OK: Final = b"+"
_FAILED: Final = b"-"
_MISSING: Final = b"0"


def parse_yaml_in_child(source: Source, section: str) -> list[Entry] | None:
    """The entries of a YAML text, as `palatine.codec.config_yaml.parse_yaml` finds them; raises ConfigError."""
    threading = sys.modules.get("threading")
    if "yaml" in sys.modules or (threading is not None and threading.active_count() > 1):
        return parse_yaml_here(source, section)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _run_child(writer, source, section)
    os.close(writer)
    try:
        answer = _read_answer(reader, source)
    except ConfigError:
        os.kill(child, signal.SIGKILL)  # it still holds the pipe, so it is alive
        raise
    finally:
        os.close(reader)
        _reap(child)
    return _entries(answer, source)


def parse_yaml_here(source: Source, section: str) -> list[Entry] | None:
    """The same in this process; for programs that may keep PyYAML in memory."""
    from palatine.codec.config_yaml import parse_yaml

    return parse_yaml(source, section)


def _run_child(writer: int, source: Source, section: str) -> None:
    """Parse, answer and end; nothing of the parent's (atexit, buffers, handlers) may run here."""
    status = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(_answer(source, section))
        status = 0
    finally:
        os._exit(status)


def _answer(source: Source, section: str) -> bytes:
    try:
        entries = parse_yaml_here(source, section)
    except ConfigError as error:
        return _FAILED + _join([error.message, error.path, str(error.line), str(error.column)])
    if entries is None:
        return _MISSING
    fields = [field for entry in entries for field in (entry.name, entry.value or "", *map(str, entry.origin))]
    return _OK + _join(fields)


def _join(fields: list[str]) -> bytes:
    return "\0".join(field.replace("\0", "\ufffd") for field in fields).encode("utf-8", "surrogatepass")


def _read_answer(reader: int, source: Source) -> bytes:
    deadline = time.monotonic() + SECONDS
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    answer = b""
    while True:
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise source.error(f"this YAML takes more than {SECONDS:.0f} seconds to parse", 0)
        part = os.read(reader, 1 << 16)
        if not part:
            return answer
        answer += part
        if len(answer) > _MAX_ANSWER:
            raise source.error("this YAML becomes too large", 0)


def _reap(child: int) -> None:
    try:
        os.waitpid(child, 0)
    except ChildProcessError:
        return  # the master's own reaper was quicker


def _entries(answer: bytes, source: Source) -> list[Entry] | None:
    status = answer[:1]
    if status == _MISSING:
        return None
    fields = answer[1:].decode("utf-8", "surrogatepass").split("\0") if len(answer) > 1 else []
    if status == _FAILED and len(fields) == 4:
        raise ConfigError(fields[0], fields[1], int(fields[2]), int(fields[3]))
    if status != _OK or len(fields) % 5:
        raise source.error("the process that parses YAML died", 0)
    groups = zip(*[iter(fields)] * 5, strict=True)
    return [Entry(name, value, Origin(path, int(line), int(column))) for name, value, path, line, column in groups]
