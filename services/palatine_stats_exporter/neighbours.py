"""What the other daemons of the host say about themselves in their segments; asks none of them, waits for none.

A daemon that is not there is left out; one that cannot be read or was killed is shown as not alive.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from palatine.codec.masking import masked_address
from palatine.counters import SegmentView
from palatine.errors import PalatineError
from palatine.schema import DAEMON_STATES, VASSAL_STATES

NAMES: Final = ("alarm-daemon", "emperor", "snmp-agent", "stats-exporter")
_UNUSED: Final = VASSAL_STATES.index("unused")

Row = Mapping[str, int]


@attrs.frozen
class Neighbour:
    """One daemon at one moment.

    Attributes:
        name: the daemon's.
        alive: whether it lives and its counters could be read.
        status: its status line, or why it could not be read.
        tables: its tables by name, `daemon` among them.
        texts: the texts of the tables that have any, row by row.
    """

    name: str
    alive: bool
    status: str
    tables: Mapping[str, list[dict[str, int]]] = attrs.field(factory=dict)
    texts: Mapping[str, list[bytes]] = attrs.field(factory=dict)

    @property
    def state(self) -> str:
        """What it is doing, in a word."""
        rows = self.tables.get("daemon")
        return state_word(DAEMON_STATES, rows[0]["state"]) if self.alive and rows else "gone"


class Neighbours:
    """Open segments of the daemons of a runtime directory; used by one thread."""

    def __init__(self, runtime: Path) -> None:
        self._runtime = runtime
        self._views: dict[str, SegmentView] = {}

    def look(self) -> list[Neighbour]:
        """The daemons there are, by name."""
        return [found for name in NAMES if (found := self._look_at(name)) is not None]

    def close(self) -> None:
        """Close all segments."""
        for name in list(self._views):
            self._forget(name)

    def _look_at(self, name: str) -> Neighbour | None:
        try:
            view = self._opened(name)
            tables = {table: view.read(table) for table in view.tables}
            texts = {table: view.texts(table) for table, declared in view.tables.items() if declared.text_bytes}
            status = texts["daemon"][0].decode("utf-8", "backslashreplace")
            return Neighbour(name, view.alive(), status, tables, texts)
        except FileNotFoundError:
            self._forget(name)
            return None
        except (
            PalatineError,
            OSError,
            LookupError,
            ValueError,
        ) as error:  # not ours to read, or of some later palatine
            self._forget(name)
            return Neighbour(name, alive=False, status=str(error) or repr(error))

    def _opened(self, name: str) -> SegmentView:
        view = self._views.get(name)
        if view is not None and view.replaced():
            self._forget(name)
            view = None
        if view is None:
            directory = self._runtime / name
            owner = os.stat(directory, follow_symlinks=False).st_uid
            view = self._views[name] = SegmentView.open(directory / "seg", owner=owner)
        return view

    def _forget(self, name: str) -> None:
        view = self._views.pop(name, None)
        if view is not None:
            view.close()


def vassals(daemons: list[Neighbour]) -> Iterator[tuple[dict[str, Any], Row]]:
    """Id, monitor, instance and state of each vassal, and its numbers."""
    for words, row in _named_rows(daemons, "vassals"):
        name, monitor, _on_demand, instance, *_ = [*words, "", "", ""]
        if row["state"] != _UNUSED:
            yield (
                {
                    "id": name,
                    "monitor": masked_address(monitor),
                    "instance": instance,
                    "state": state_word(VASSAL_STATES, row["state"]),
                },
                row,
            )


def alarms(daemons: list[Neighbour]) -> Iterator[tuple[dict[str, Any], Row]]:
    """Instance and name of each alarm, and its numbers."""
    for words, row in _named_rows(daemons, "alarms"):
        instance, alarm, *_ = [*words, ""]
        yield {"instance": instance, "alarm": alarm}, row


def first_row(daemons: list[Neighbour], table: str) -> Row:
    """The row of a table that has one, {} where no daemon has that table."""
    for daemon in daemons:
        if rows := daemon.tables.get(table):
            return rows[0]
    return {}


def state_word(words: tuple[str, ...], number: int) -> str:
    """A state's name."""
    return words[number] if number < len(words) else "unknown"


def _named_rows(daemons: list[Neighbour], table: str) -> Iterator[tuple[list[str], Row]]:
    """Rows with a text, split at its NULs."""
    for daemon in daemons:
        for text, row in zip(daemon.texts.get(table, []), daemon.tables.get(table, []), strict=False):
            if text:
                yield text.decode("utf-8", "backslashreplace").split("\0"), row
