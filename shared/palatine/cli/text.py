"""Numbers, times and columns as people read them; must never decide anything."""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Final

_UNITS: Final = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_STATE_COLOURS: Final = {
    "ready": "32", "running": "32", "starting": "33", "reloading": "33", "draining": "33", "stopping": "33",
    "paused": "33", "waiting": "33", "failed": "31", "dead": "31", "unreadable": "31", "ended": "31",
}  # fmt: skip


def duration(seconds: float) -> str:
    """The two largest units: `3 h 12 min`."""
    left, parts = max(0, int(seconds)), []
    for unit, size in _UNITS:
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def counted(number: int, noun: str) -> str:
    """`1 worker`, `12,345 requests`; `noun` is the plural."""
    return f"{number:,} {noun.removesuffix('s') if number == 1 else noun}"


def columns(rows: Iterable[Sequence[str]], *, indent: str = "") -> list[str]:
    """Rows with their columns aligned two blanks apart; the last column is free."""
    table = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in table), strict=True)] if table else []
    return [
        (indent + "".join(f"{cell:<{width}}  " for cell, width in zip(row, widths, strict=False)) + row[-1]).rstrip()
        for row in table
    ]


class Paint:
    """ANSI colours, or none."""

    def __init__(self, *, on: bool) -> None:
        self._on = on

    @classmethod
    def for_stdout(cls) -> "Paint":
        """Colours if stdout is a terminal and NO_COLOR is not set."""
        return cls(on=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))

    def __call__(self, code: str, text: str) -> str:
        """`text` in the colour of an SGR code."""
        return f"\033[{code}m{text}\033[0m" if self._on and code else text

    def state(self, line: str, state: str) -> str:
        """`line` with the first word `state` in it coloured by what it means."""
        before, found, after = line.partition(state)
        return before + self(_STATE_COLOURS.get(state, ""), found) + after
