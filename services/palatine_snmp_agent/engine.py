"""This SNMP engine's name and clock, which managers of v3 trust; must never give out a time it gave out before.

USM lets a manager reject what is older than it has seen (RFC 3414 section 2.2), so the number of starts is on disk,
synced, before the first message of a start leaves. A damaged file is an error and not a new engine: managers would
refuse its messages, and nobody would know why.
"""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from palatine.codec.snmp_v3 import MAX_NUMBER
from palatine.errors import ConfigError

#: Unbit's enterprise number, under which uWSGI's tree is, with the bit that says the rest follows RFC 3411.
_ENTERPRISE: Final = (0x8000_0000 | 35156).to_bytes(4, "big")
#: Format 5: octets of the administrator's choice, here random ones.
_OCTETS: Final = b"\x05"
_RANDOM_OCTETS: Final = 12
_HEX: Final = re.compile(r"(?:0x)?((?:[0-9a-fA-F]{2}){5,32})")


class Engine:
    """One start of the engine: `id`, `boots`, and seconds since. Of one that goes on as another, `up_since` stays."""

    def __init__(
        self,
        engine_id: bytes,
        boots: int,
        clock: Callable[[], float] = time.monotonic,
        up_since: float | None = None,
    ) -> None:
        self.id = engine_id
        self.boots = boots
        self._clock = clock
        self._started = clock()
        self.up_since = self._started if up_since is None else up_since

    def time(self) -> int:
        """snmpEngineTime: whole seconds since the start."""
        return min(int(self._clock() - self._started), MAX_NUMBER)

    def ticks(self) -> int:
        """sysUpTime: hundredths of a second since the agent was started, modulo 2^32."""
        return int((self._clock() - self.up_since) * 100) & 0xFFFF_FFFF


def parse_engine_id(text: str) -> bytes:
    """An engine id written in hex digits, 5 to 32 octets; ValueError if it is none, or all zeros or ones."""
    found = _HEX.fullmatch(text)
    octets = bytes.fromhex(found[1]) if found else b""
    if not octets or set(octets) <= {0} or set(octets) <= {0xFF}:
        raise ValueError(f"an engine id is 5 to 32 octets in hex digits, not all 00 or ff: {text!r}")
    return octets


def start_engine(path: Path, configured: bytes = b"", up_since: float | None = None) -> Engine:
    """Begin a start: the id from `path`, or `configured`, or a new one; one more boot, on disk when this returns.

    Boots go on under another id, though RFC 3414 section 2.2 lets them begin anew: an id that is given up and taken
    again would otherwise live through the same boots twice, and old messages with its keys would be fresh again.

    Raises:
        ConfigError: the file is damaged or cannot be written.
    """
    try:
        known, boots = _read(path)
        engine_id = configured or known or _ENTERPRISE + _OCTETS + os.urandom(_RANDOM_OCTETS)
        boots = 1 if engine_id != known and boots == MAX_NUMBER else min(boots + 1, MAX_NUMBER)
        _write(path, engine_id, boots)
    except OSError as error:
        raise ConfigError(f"the SNMP engine's state cannot be kept: {error.strerror}", str(path)) from error
    return Engine(engine_id, boots, up_since=up_since)


def _read(path: Path) -> tuple[bytes, int]:
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return b"", 0
    except UnicodeDecodeError as error:
        raise _damaged(path) from error
    try:
        kept = json.loads(text)
        engine_id, boots = parse_engine_id(kept["engine_id"]), kept["boots"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error
    if not isinstance(boots, int) or not 0 < boots <= MAX_NUMBER:
        raise _damaged(path)
    return engine_id, boots


def _damaged(path: Path) -> ConfigError:
    return ConfigError(
        "is damaged; remove it, and let managers of SNMPv3 learn the new engine id, or restore it from a backup",
        str(path),
    )


def _write(path: Path, engine_id: bytes, boots: int) -> None:
    temporary = path.with_suffix(".new")
    octets = json.dumps({"engine_id": engine_id.hex(), "boots": boots}).encode()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(descriptor)
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
