"""What the host-wide SNMP view and its MIB show of the counters: tables, columns, scalars; declares no counter.

Arcs are for ever: managers store them. A column that shows a field has the field's `snmp` number plus its source's
offset; tables, sources and columns of their own (below 10) are numbered here.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from palatine.schema.daemons import AGENT, ALARMS, DAEMON, EMPEROR, EXPORTER
from palatine.schema.instance import INSTANCE
from palatine.schema.model import COUNTER, FLAG, GAUGE, STATE, TIME, Field, Table, by_name

# How an object is written: names of SMIv2 and of the textual conventions of SNMPv2-TC, HCNUM-TC and the MIB itself.
COUNTER64: Final = "Counter64"
GAUGE32: Final = "Gauge32"
GAUGE64: Final = "CounterBasedGauge64"
INTEGER32: Final = "Integer32"
UNSIGNED32: Final = "Unsigned32"
TRUTH: Final = "TruthValue"
UNIX_TIME: Final = "PalUnixTime"
TICKS: Final = "TimeTicks"
TEXT: Final = "PalText"
STATES: Final = "INTEGER"
INDEX_NAME: Final = "PalName"
INDEX_NUMBER: Final = "Unsigned32 (1..65536)"

#: Where things are below the MIB's base; `.0` and `.90` are the notifications'.
SCALARS_ARC: Final = 1
CONFORMANCE_ARC: Final = 91
#: Column of a table's own index object, which cannot be read by itself.
INDEX_ARC: Final = 1
#: Longest text that is an index; a longer one is cut and ends in a checksum of the whole.
INDEX_OCTETS: Final = 48

#: What a counter's declaration calls the unit of a number that is none.
_NO_UNITS: Final = frozenset({"pid", "uid", "gid", "value", "generation", "signal", "status", "tag"})
_WIDE: Final = frozenset({"bytes", "milliseconds", "value"})


class MibObject(NamedTuple):
    """A column or scalar: its name without the MIB's prefix, and the `source` (a table or "") and field it shows.

    `source` "" is a value the agent makes itself, "labels" a label, "text" the part of a row's text with the number
    `field`.
    """

    name: str
    arc: int
    syntax: str
    unit: str
    help: str
    source: str = ""
    field: str = ""
    states: tuple[str, ...] = ()


class MibTable(NamedTuple):
    """A conceptual table; `indexes` are names of index objects of this table or of ones before."""

    name: str
    arc: int
    help: str
    indexes: tuple[str, ...]
    objects: tuple[MibObject, ...]


class MibGroup(NamedTuple):
    """Scalars side by side, each with the instance `.0`."""

    name: str
    arc: int
    help: str
    objects: tuple[MibObject, ...]


def identifier(table: str, name: str) -> str:
    """`pal` and both names as one word: `palWorkerRespawnCount`."""
    return "pal" + "".join(word[:1].upper() + word[1:] for word in f"{table}_{name}".split("_"))


def _shown(table: Table, offset: int, *, only: tuple[str, ...] = ()) -> Iterator[MibObject]:
    for field in table.fields:
        if field.snmp and (not only or field.name in only):
            unit = "" if field.kind in {STATE, FLAG} or field.unit in _NO_UNITS else field.unit
            yield MibObject(
                field.name, offset + field.snmp, _syntax(field), unit, field.help, table.name, field.name, field.states
            )


def _syntax(field: Field) -> str:
    if field.signed:
        return INTEGER32
    if field.kind == TIME:
        return UNIX_TIME if field.unit == "seconds" else GAUGE64
    if field.kind == GAUGE:
        return GAUGE64 if field.unit in _WIDE else GAUGE32
    return {COUNTER: COUNTER64, FLAG: TRUTH, STATE: STATES}[field.kind]


def _number(name: str, help_: str) -> MibObject:
    return MibObject(name, 1, INDEX_NUMBER, "", help_)


def _name(help_: str) -> MibObject:
    return MibObject("name", 1, INDEX_NAME, "", help_)


def _label(name: str, arc: int, help_: str) -> MibObject:
    return MibObject(name, arc, TEXT, "", help_, "labels", name)


def _part(name: str, arc: int, position: int, help_: str) -> MibObject:
    return MibObject(name, arc, TEXT, "", help_, "text", str(position))


def _own(name: str, arc: int, syntax: str, unit: str, help_: str) -> MibObject:
    return MibObject(name, arc, syntax, unit, help_, "", name)


_T: Final = by_name((*INSTANCE, *DAEMON, *AGENT, *EXPORTER, *ALARMS, *EMPEROR))
_INSTANCE_INDEX: Final = "palInstanceName"
_WORKER_INDEX: Final = "palWorkerNumber"
_UP_TIME: Final = "Time since it was started; no instance while it is down."

#: What adds up over the workers, or cores, of an instance or worker.
CORE_SUMS: Final = (
    "requests",
    "in_request",
    "running_time",
    "avg_rt",
    "tx",
    "exceptions",
    "static_requests",
    "routed_requests",
    "offloaded_requests",
    "write_errors",
    "read_errors",
)
SLOT_SUMS: Final = ("respawn_count", "harakiri_count", "rss", "vsz", "pss", "uss")

MIB_TABLES: Final = (
    MibTable(
        "instance",
        2,
        "The app-server instances of this host, those that died without being told to included.",
        (_INSTANCE_INDEX,),
        (
            _name("Name of the instance, by which every manager knows it: it outlives restarts of everything."),
            _own("text", 2, TEXT, "", "The name again, for managers that cannot read it from an index."),
            _own("up", 3, TRUTH, "", "true while its master lives; all other values are the last ones otherwise."),
            _own("up_time", 4, TICKS, "", _UP_TIME),
            _own("age", 5, GAUGE32, "seconds", "Age of the values: 0 while it lives, otherwise how long it does not."),
            _own("workers", 6, GAUGE32, "workers", "Workers that have a process."),
            _own("workers_max", 7, GAUGE32, "workers", "Workers it may have."),
            _own("accepting", 8, GAUGE32, "workers", "Workers that take requests."),
            _own("cores", 9, GAUGE32, "cores", "Cores of all workers: requests it can serve at a time."),
            *_shown(_T["server"], 20),
            *_shown(_T["cores"], 50, only=CORE_SUMS),
            *_shown(_T["slots"], 70, only=SLOT_SUMS),
        ),
    ),
    MibTable(
        "worker",
        3,
        "The workers of all instances, by their index: a worker started again goes on counting.",
        (_INSTANCE_INDEX, _WORKER_INDEX),
        (
            _number("number", "Number of the worker in its instance, from 1."),
            *_shown(_T["slots"], 10),
            *_shown(_T["workers"], 30),
            *_shown(_T["cores"], 50, only=CORE_SUMS),
        ),
    ),
    MibTable(
        "core",
        4,
        "The threads of all workers of all instances.",
        (_INSTANCE_INDEX, _WORKER_INDEX, "palCoreNumber"),
        (_number("number", "Number of the core in its worker, from 1."), *_shown(_T["cores"], 10)),
    ),
    MibTable(
        "socket",
        5,
        "The sockets of all instances.",
        (_INSTANCE_INDEX, "palSocketNumber"),
        (
            _number("number", "Number of the socket in its instance, from 1."),
            _label("name", 2, "Address of the socket."),
            _label("proto", 3, "Protocol spoken on it."),
            *_shown(_T["sockets"], 10),
        ),
    ),
    MibTable(
        "app",
        6,
        "The apps of all workers of all instances.",
        (_INSTANCE_INDEX, _WORKER_INDEX, "palAppNumber"),
        (
            _number("number", "Number of the app in its worker, from 1."),
            _label("mountpoint", 2, "Where the app is mounted; empty for the root."),
            _label("chdir", 3, "Directory the app runs in."),
            *_shown(_T["apps"], 10),
        ),
    ),
    MibTable(
        "vassal",
        7,
        "The vassals of the Emperor of this host.",
        ("palVassalName",),
        (
            _name("Name of the vassal; one longer than the index is cut and ends in a checksum of all of it."),
            _part("id", 2, 0, "Name of the vassal, whole."),
            _part("monitor", 3, 1, "The monitor it comes from."),
            _part("on_demand_socket", 4, 2, "The socket whose first connection starts it; empty if there is none."),
            _part("instance", 5, 3, "Name of its instance: the index of the other tables."),
            *_shown(_T["vassals"], 10),
        ),
    ),
    MibTable(
        "alarm",
        8,
        "The alarms of all instances, since the alarm-daemon first heard of them.",
        (_INSTANCE_INDEX, "palAlarmName"),
        (
            _name("Name of the alarm; one longer than the index is cut and ends in a checksum of all of it."),
            _part("id", 2, 1, "Name of the alarm, whole."),
            _part("instance", 3, 0, "Name of the instance, whole."),
            *_shown(_T["alarms"], 10),
        ),
    ),
    MibTable(
        "metric",
        9,
        "The metrics of all instances, which apps and configurations name.",
        (_INSTANCE_INDEX, "palMetricNumber"),
        (
            _number("number", "Number of the metric in its instance, from 1."),
            _label("name", 2, "Name of the metric."),
            _label("type", 3, "Its type: counter, gauge, absolute or alias."),
            _label("oid", 4, "Its name below uWSGI's base in the view of its instance; empty if it has none."),
            _own("value", 5, GAUGE64, "", "The value modulo 2^64: a counter or a gauge, as the type says."),
            _own("text", 6, TEXT, "", "The value in decimal digits, with its sign."),
        ),
    ),
    MibTable(
        "custom",
        10,
        "The values apps set by uwsgi.snmp_set_gauge and the like; unset ones are left out.",
        (_INSTANCE_INDEX, "palCustomNumber"),
        (
            _number("number", "Number of the value, 1 to 100."),
            _own("type", 2, "INTEGER { counter32(65), gauge32(66), counter64(70) }", "", "Type the app last used."),
            _own("value", 3, GAUGE64, "", "The value: a counter or a gauge, as the type says."),
        ),
    ),
    MibTable(
        "daemon",
        11,
        "The daemons of palatine that run on this host.",
        ("palDaemonName",),
        (
            _name("Name of the daemon."),
            _part("status", 2, 0, "Its status in a line."),
            _own("up", 3, TRUTH, "", "true while it lives."),
            _own("up_time", 4, TICKS, "", _UP_TIME),
            *_shown(_T["daemon"], 10),
        ),
    ),
)

MIB_GROUPS: Final = (
    MibGroup(
        "host",
        1,
        "The host as a whole.",
        (
            _own("version", 1, TEXT, "", "Version of palatine."),
            _own("instances", 2, GAUGE32, "instances", "Instances shown."),
            _own("instances_up", 3, GAUGE32, "instances", "Instances that live."),
            _own("agent_up_time", 4, TICKS, "", "Time since the agent was started."),
        ),
    ),
    MibGroup("agent", 2, "What the SNMP agent counts.", tuple(_shown(_T["agent"], 0))),
    MibGroup("emperor", 3, _T["emperor"].help.partition(" Labels")[0], tuple(_shown(_T["emperor"], 0))),
    MibGroup("alarm_total", 4, _T["alarm_totals"].help, tuple(_shown(_T["alarm_totals"], 0))),
    MibGroup("exporter", 5, _T["exporter"].help, tuple(_shown(_T["exporter"], 0))),
)
