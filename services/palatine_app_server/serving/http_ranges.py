"""Range and If-Modified-Since as RFC 9110 defines them, for files. Pure; what is malformed counts as absent."""

import functools
import re
import time
from typing import Final, NamedTuple

_RANGE: Final = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))")
_DATE: Final = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
)
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Slice(NamedTuple):
    """`length` bytes from `start`; a length below 0: nothing in there satisfies the range."""

    start: int
    length: int


def parse_range(value: str, size: int) -> Slice | None:
    """What one byte range asks of a file of `size` bytes; None where the whole file is the answer."""
    found = _RANGE.fullmatch(value.replace(" ", ""))
    if found is None:
        return None  # several ranges, other units, nonsense: RFC 9110 14.2 lets a server ignore them
    first, last, suffix = found.groups()
    if suffix is not None:
        length = min(int(suffix), size)
        return Slice(size - length, length) if length else Slice(0, -1)
    start, end = int(first), min(int(last), size - 1) if last else size - 1
    if last and int(last) < start:
        return None
    return Slice(start, end - start + 1) if start < size else Slice(0, -1)


def parse_date(value: str) -> int:
    """Unix seconds of an IMF-fixdate (RFC 9110 5.6.7); -1 for anything else."""
    found = _DATE.fullmatch(value)
    if found is None or found[2] not in _MONTHS:
        return -1
    import calendar  # it brings datetime and locale with it: only for clients that ask

    day, year, hour, minute, second = (int(found[group]) for group in (1, 3, 4, 5, 6))
    return calendar.timegm((year, _MONTHS.index(found[2]) + 1, day, hour, minute, second))


@functools.lru_cache(maxsize=256)
def format_date(moment: int) -> str:
    """The IMF-fixdate of unix seconds, of those that have four digits for the year."""
    at = time.gmtime(min(max(moment, 0), _LAST_SECOND))
    return (
        f"{_DAYS[at.tm_wday]}, {at.tm_mday:02d} {_MONTHS[at.tm_mon - 1]} {at.tm_year} "
        f"{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} GMT"
    )
