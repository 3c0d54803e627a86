"""Who is one source, and how much it may ask: a token bucket; pure."""

import math
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final, NamedTuple

#: A manager that walks a host's every table asks a hundred times a second; a poller of everything, a thousand times.
#: What a stranger costs at this rate is a tenth of a core by v2c, a fifth by v3, whose every message gets a Report.
DEFAULT_RATE: Final = 5000.0


class Rate(NamedTuple):
    """Datagrams a second on average (0: any number), and how many at once after a rest (0: two seconds' worth)."""

    per_second: float = DEFAULT_RATE
    burst: float = 0.0

    @property
    def most(self) -> float:
        """Tokens a source at rest has."""
        return self.burst or 2 * self.per_second


@lru_cache(maxsize=4096)
def source_of(host: str) -> str:
    """The source an address counts as: IPv4 itself, also within IPv6; of IPv6 its /64, all of which may be one host."""
    if ":" not in host:
        return host
    text, _, zone = host.partition("%")
    address = IPv6Address(text)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address.is_loopback:
        return host
    network = IPv6Address(int(address) >> 64 << 64)
    return f"{network}/64%{zone}" if zone else f"{network}/64"


def refilled(rate: Rate, tokens: float | None, elapsed: float) -> float:
    """Tokens a source has, `elapsed` seconds after it had `tokens` (None: never heard of); a datagram takes one.

    A clock that was set back gives nothing.
    """
    if not rate.per_second:
        return math.inf
    return rate.most if tokens is None else min(rate.most, tokens + max(elapsed, 0.0) * rate.per_second)
