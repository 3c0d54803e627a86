"""What a counter and a table of counters are; declares none."""

from collections.abc import Iterable
from typing import Final, NamedTuple

#: Mask of one word: counters wrap at 2**64, and `-1 & U64` is how a signed field stores -1.
U64: Final = 0xFFFF_FFFF_FFFF_FFFF

COUNTER: Final = "counter"
GAUGE: Final = "gauge"
TIME: Final = "time"
STATE: Final = "state"
FLAG: Final = "flag"
KINDS: Final = (COUNTER, GAUGE, TIME, STATE, FLAG)


class Field(NamedTuple):
    """One word of a row.

    `snmp` is the column number in the table's MIB entry (0: not shown); `states` names the values of a state, from 0.
    """

    name: str
    kind: str
    unit: str
    help: str
    snmp: int = 0
    combine: str = ""
    signed: bool = False
    states: tuple[str, ...] = ()

    @property
    def merge(self) -> str:
        """How two banks become one value: "sum" (counters), or "last", the bank of the current generation."""
        return self.combine or ("sum" if self.kind == COUNTER else "last")


class Table(NamedTuple):
    """Rows of one shape; `key` names what a row index counts, () for a single row; `text_bytes` is a row's text."""

    name: str
    key: tuple[str, ...]
    help: str
    fields: tuple[Field, ...]
    banked: bool = False
    text_bytes: int = 0

    @property
    def banks(self) -> int:
        """How many copies of the rows exist."""
        return 2 if self.banked else 1

    def word(self, field: str) -> int:
        """Index of a field's word in its row; KeyError if there is no such field."""
        for index, declared in enumerate(self.fields):
            if declared.name == field:
                return index
        raise KeyError(f"table {self.name} has no field {field}")


def by_name(tables: Iterable[Table]) -> dict[str, Table]:
    """The tables by their name; ValueError if two share one."""
    named: dict[str, Table] = {}
    for table in tables:
        if named.setdefault(table.name, table) is not table:
            raise ValueError(f"two tables are called {table.name}")
    return named


def count(name: str, unit: str, text: str, snmp: int) -> Field:
    """A number of things that happened; only grows."""
    return Field(name, COUNTER, unit, text, snmp)


def level(name: str, unit: str, text: str, snmp: int, *, signed: bool = False) -> Field:
    """How much there is at present."""
    return Field(name, GAUGE, unit, text, snmp, signed=signed)


def when(name: str, text: str, snmp: int) -> Field:
    """A moment, in seconds of unix time; 0 for never."""
    return Field(name, TIME, "seconds", text, snmp)


def flag(name: str, text: str, snmp: int) -> Field:
    """1 for yes, 0 for no."""
    return Field(name, FLAG, "boolean", text, snmp)


def state(name: str, text: str, snmp: int, states: tuple[str, ...]) -> Field:
    """One of several states, stored as its place among them."""
    return Field(name, STATE, "state", text, snmp, states=states)
