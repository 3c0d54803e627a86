"""Every counter palatine keeps, declared once; what shows counters derives from this and never adds its own.

A *table* is a set of rows of unsigned 64-bit words, one word per *field*, and optionally one short text per row. The
tables of a segment are `INSTANCE` for an app-server; `DAEMON` and one of `AGENT`, `EXPORTER`, `ALARMS`, `EMPEROR` for a
daemon.

Conventions:
- A row has one writer. Tables any process may change (`locks`, `snmp_values`, `caches`, `metrics`) are changed under
  a SharedLock.
- A time is unix time in its unit, 0 for never.
- Row of a composite key: `worker * cores + core`, then `(worker * cores + core) * apps + app`, all counted from 0.
- `banked` tables exist twice, by parity of the generation that writes; a reader merges by `Field.merge`.
- A signed field holds two's complement: store `value & U64`; readers of a segment get the negative number back.
- What a row stands for and never changes (a socket's name) is a label: `labels[table][n]` is a dict, n counting the
  table's last key.
- Dynamic names (an alarm, a vassal) are the row's text; a row whose text is empty is free.
"""

from palatine.schema.daemons import (
    AGENT,
    ALARMS,
    DAEMON,
    DAEMON_STATES,
    EMPEROR,
    EXPORTER,
    NAME_BYTES,
    VASSAL_STATES,
    VASSAL_TEXT_BYTES,
)
from palatine.schema.instance import DURATION_BOUNDS_US, DURATION_FIELDS, INSTANCE, SERVER_STATES
from palatine.schema.model import COUNTER, FLAG, GAUGE, KINDS, STATE, TIME, U64, Field, Table, by_name

__all__ = [
    "AGENT",
    "ALARMS",
    "COUNTER",
    "DAEMON",
    "DAEMON_STATES",
    "DURATION_BOUNDS_US",
    "DURATION_FIELDS",
    "EMPEROR",
    "EXPORTER",
    "FLAG",
    "GAUGE",
    "INSTANCE",
    "KINDS",
    "NAME_BYTES",
    "SERVER_STATES",
    "STATE",
    "TIME",
    "U64",
    "VASSAL_STATES",
    "VASSAL_TEXT_BYTES",
    "Field",
    "Table",
    "by_name",
]
