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
- What a row stands for and never changes (a socket's name) is a label: `labels[table][row]` is a dict.
- Dynamic names (an alarm, a vassal) are the row's text; a row whose text is empty is free.
"""

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


SERVER_STATES: Final = ("starting", "ready", "reloading", "draining", "stopping", "paused", "failed")
DAEMON_STATES: Final = ("starting", "ready", "reloading", "draining", "stopping")
VASSAL_STATES: Final = (
    "unused",
    "starting",
    "ready",
    "accepting",
    "loyal",
    "reloading",
    "stopping",
    "waiting",
    "throttled",
    "refused",
    "paused",
)


def _count(name: str, unit: str, text: str, snmp: int) -> Field:
    return Field(name, COUNTER, unit, text, snmp)


def _level(name: str, unit: str, text: str, snmp: int, *, signed: bool = False) -> Field:
    return Field(name, GAUGE, unit, text, snmp, signed=signed)


def _when(name: str, text: str, snmp: int) -> Field:
    return Field(name, TIME, "seconds", text, snmp)


def _flag(name: str, text: str, snmp: int) -> Field:
    return Field(name, FLAG, "boolean", text, snmp)


def _state(name: str, text: str, snmp: int, states: tuple[str, ...]) -> Field:
    return Field(name, STATE, "state", text, snmp, states=states)


INSTANCE: Final[tuple[Table, ...]] = (
    Table(
        "server",
        (),
        "The instance as its master sees it.",
        (
            _level("pid", "pid", "Process id of the master.", 1),
            _level("uid", "uid", "User id the master runs as.", 2),
            _level("gid", "gid", "Group id the master runs as.", 3),
            _when("started", "When the master started.", 4),
            _level(
                "generation",
                "generation",
                "Number of the app generation that serves now; odd and even use different banks.",
                5,
            ),
            _state("state", "What the instance is doing.", 6, SERVER_STATES),
            _level("listen_queue", "connections", "Connections waiting in the fullest listen queue.", 7),
            _level("listen_queue_max", "connections", "Capacity of the fullest listen queue.", 8),
            _count(
                "listen_queue_errors", "errors", "Connections the kernel dropped because a listen queue was full.", 9
            ),
            _level("signal_queue", "bytes", "Bytes of uwsgi signals waiting for the master.", 10),
            _level("load", "connections", "Load as uWSGI counts it: the same as listen_queue.", 11),
            _count("reloads", "reloads", "Reloads that ended with a new generation serving.", 12),
            _count("reload_failures", "reloads", "Reloads after which the old generation stayed.", 13),
            _when("last_reload", "When a generation last took over.", 14),
            _count(
                "requests_lost",
                "requests",
                "Requests that ended without an answer because their worker was killed.",
                15,
            ),
            _count("overloaded", "rounds", "Master rounds in which every worker was busy.", 16),
            _count("routed_signals", "signals", "Signals of the uwsgi signal framework handed to a receiver.", 17),
            _count(
                "unrouted_signals", "signals", "Signals of the uwsgi signal framework nobody was registered for.", 18
            ),
            _count("log_lines", "lines", "Log datagrams the master wrote.", 19),
            _count("log_bytes", "bytes", "Bytes of log the master wrote.", 20),
            _count("log_dropped", "lines", "Log datagrams that could not be written or passed on.", 21),
            _level("zygote_pid", "pid", "Process id of the zygote of the current generation.", 22),
            _level("link_pid", "pid", "Process id of the link that speaks on the bus.", 23),
            _count("link_respawns", "respawns", "Times the link had to be started again.", 24),
            _count(
                "alarms_raised", "alarms", "Alarms the instance raised itself, by API or by a full listen queue.", 25
            ),
        ),
    ),
    Table(
        "sockets",
        ("socket",),
        "A socket the master bound. Labels: name, proto, shared, can_offload.",
        (
            _level("queue", "connections", "Connections waiting to be accepted.", 1),
            _level("max_queue", "connections", "Capacity of the listen queue.", 2),
        ),
    ),
    Table(
        "slots",
        ("worker",),
        "What the master knows about the worker at an index, whichever process fills it.",
        (
            _level("pid", "pid", "Process id of the worker, 0 while there is none.", 1),
            _flag("cheaped", "1 while the cheaper subsystem keeps this worker stopped.", 2),
            _when("last_spawn", "When this worker was last started.", 3),
            _count("respawn_count", "spawns", "Times this worker was started, the first time included.", 4),
            _count("harakiri_count", "kills", "Times this worker was killed for a request that took too long.", 5),
            _level("requests_at_spawn", "requests", "Requests of this index when its present process was started.", 6),
            _level("last_exit_status", "status", "Wait status of the process that filled this index before.", 7),
            _level("rss", "bytes", "Resident memory.", 8),
            _level("vsz", "bytes", "Virtual memory.", 9),
            _level("pss", "bytes", "Proportional share of memory, where it is reported.", 10),
            _level("uss", "bytes", "Memory no other process shares, where it is reported.", 11),
            _level("generation", "generation", "App generation the present process belongs to.", 12),
        ),
    ),
    Table(
        "workers",
        ("worker",),
        "What a worker process says about itself.",
        (
            _flag("accepting", "1 while the worker takes requests.", 1),
            _count("signals", "signals", "Signals of the uwsgi signal framework handled.", 2),
            _level("signal_queue", "bytes", "Bytes of uwsgi signals waiting for the worker.", 3),
            _flag("suspended", "1 while the worker is paused.", 4),
            _level("running_signal", "signal", "uwsgi signal being handled, plus one; 0 when none.", 5),
        ),
        banked=True,
    ),
    Table(
        "cores",
        ("worker", "core"),
        "One thread of one worker.",
        (
            _count("requests", "requests", "Requests finished.", 1),
            Field("in_request", GAUGE, "requests", "Requests being served: 0 or 1 in each bank.", 2, combine="sum"),
            Field("request_start_us", TIME, "microseconds", "When the request being served began.", 3),
            Field(
                "harakiri_deadline_ms",
                TIME,
                "milliseconds",
                "When the master ends this request, on the monotonic clock; 0 for never.",
                4,
            ),
            _count("running_time", "microseconds", "Time spent inside requests.", 5),
            _level(
                "avg_rt",
                "microseconds",
                "Moving average of the response time: half the last request, half what was before.",
                6,
            ),
            _count("tx", "bytes", "Bytes of response, headers included.", 7),
            _count("exceptions", "exceptions", "Exceptions the app let escape.", 8),
            _count("static_requests", "requests", "Requests answered with a static file.", 9),
            _count("routed_requests", "requests", "Requests a routing rule decided.", 10),
            _count("offloaded_requests", "requests", "Responses handed to an offload thread.", 11),
            _count("write_errors", "errors", "Responses that could not be written to the client.", 12),
            _count("read_errors", "errors", "Requests that could not be read from the client.", 13),
        ),
        banked=True,
    ),
    Table(
        "activity",
        ("worker", "core"),
        "What a core is doing: method, URI, host and peer with a NUL between; empty when idle.",
        (),
        banked=True,
        text_bytes=480,
    ),
    Table(
        "apps",
        ("worker", "core", "app"),
        "One app as one core serves it. Labels: id, modifier1, mountpoint, chdir.",
        (
            _count("requests", "requests", "Requests begun.", 1),
            _count("exceptions", "exceptions", "Exceptions the app let escape.", 2),
            _level("startup_time", "seconds", "Time the app took to load.", 3),
        ),
        banked=True,
    ),
    Table(
        "locks",
        ("lock",),
        "A lock apps can take. Labels: name.",
        (_level("owner_pid", "pid", "Process id that holds the lock, 0 when it is free.", 1),),
    ),
    Table(
        "snmp_values",
        ("value",),
        "Values an app publishes by SNMP; row 0 is value 1.",
        (
            Field(
                "type",
                STATE,
                "tag",
                "ASN.1 tag of the value: 0x41 Counter32, 0x42 Gauge32, 0x46 Counter64; 0 while unset.",
                1,
            ),
            _level("value", "value", "The value, in 64 bits whatever the type.", 2),
        ),
    ),
    Table(
        "mules",
        ("mule",),
        "A mule as the master sees it. Labels: name, farms.",
        (
            _level("pid", "pid", "Process id of the mule, 0 while there is none.", 1),
            _when("last_spawn", "When the mule was last started.", 2),
            _count("respawn_count", "spawns", "Times the mule was started, the first time included.", 3),
        ),
    ),
    Table(
        "spoolers",
        ("spooler",),
        "A spooler process as the master sees it. Labels: dir.",
        (
            _level("pid", "pid", "Process id of the spooler, 0 while there is none.", 1),
            _count("respawns", "respawns", "Times the spooler had to be started again.", 2),
        ),
    ),
    Table(
        "spooler_tasks",
        ("spooler",),
        "What a spooler process says about itself.",
        (
            _count("tasks", "tasks", "Tasks finished.", 1),
            _count("failures", "tasks", "Tasks that raised or asked to be tried again.", 2),
            _flag("running", "1 while a task is running.", 3),
        ),
    ),
    Table(
        "crons",
        ("cron",),
        "A cron job of the configuration. Labels: minute, hour, day, month, week, command, unique.",
        (
            _level("pid", "pid", "Process id of the running job, -1 when idle.", 1, signed=True),
            _when("started_at", "When the job was last started.", 2),
            _count("runs", "runs", "Times the job was started.", 3),
            _level("last_exit_status", "status", "Wait status of the last run.", 4),
        ),
    ),
    Table(
        "daemons",
        ("daemon",),
        "An attached daemon. Labels: cmd.",
        (
            _level("pid", "pid", "Process id of the daemon, 0 while there is none.", 1),
            _count("respawns", "respawns", "Times the daemon had to be started again.", 2),
            _when("last_spawn", "When the daemon was last started.", 3),
        ),
    ),
    Table(
        "caches",
        ("cache",),
        "A cache. Labels: name, hash, hashsize, keysize, max_items, blocks, blocksize.",
        (
            _level("items", "items", "Items in the cache.", 1),
            _count("hits", "lookups", "Lookups that found an item.", 2),
            _count("miss", "lookups", "Lookups that found nothing.", 3),
            _count("full", "errors", "Times an item did not fit.", 4),
            _when("last_modified_at", "When the cache last changed.", 5),
        ),
    ),
    Table(
        "metrics",
        ("metric",),
        "A metric of the app or the configuration. Labels: name, oid, type, initial_value.",
        (_level("value", "value", "Value of the metric.", 1, signed=True),),
    ),
)

DAEMON: Final[tuple[Table, ...]] = (
    Table(
        "daemon",
        (),
        "What every daemon says about itself. Labels of the segment: name, version.",
        (
            _level("pid", "pid", "Process id of the daemon.", 1),
            _level("uid", "uid", "User id the daemon runs as.", 2),
            _level("gid", "gid", "Group id the daemon runs as.", 3),
            _when("started", "When the daemon started.", 4),
            _flag("ready", "1 once the daemon does its job.", 5),
            _state("state", "What the daemon is doing.", 6, DAEMON_STATES),
            _count("reloads", "reloads", "Configurations reread.", 7),
            _count("reload_failures", "reloads", "Configurations refused; the one before stayed.", 8),
            _count("requests", "requests", "Control requests answered.", 9),
            _count("requests_refused", "requests", "Control requests refused for lack of rights or a bad form.", 10),
            _count("errors", "errors", "Errors logged.", 11),
            _level("instances", "instances", "App-server instances the daemon knows.", 12),
            _count(
                "instances_refused", "instances", "Instance directories refused: wrong owner or unreadable segment.", 13
            ),
        ),
    ),
)

AGENT: Final[tuple[Table, ...]] = (
    Table(
        "agent",
        (),
        "SNMP traffic; columns 1 to 32 carry the numbers of SNMPv2-MIB's snmp group.",
        (
            _count("in_pkts", "messages", "Messages received.", 1),
            _count("out_pkts", "messages", "Messages sent.", 2),
            _count("in_bad_versions", "messages", "Messages of an SNMP version not supported.", 3),
            _count("in_bad_community_names", "messages", "Messages with a community not known.", 4),
            _count("in_bad_community_uses", "messages", "Operations the community named does not allow.", 5),
            _count("in_asn_parse_errs", "messages", "Messages that are not well-formed BER.", 6),
            _count("in_total_req_vars", "varbinds", "Variables read for GET and GETNEXT requests.", 13),
            _count("get_requests", "requests", "GetRequest PDUs processed.", 15),
            _count("getnext_requests", "requests", "GetNextRequest PDUs processed.", 16),
            _count("set_requests", "requests", "SetRequest PDUs processed.", 17),
            _count("out_too_bigs", "responses", "Responses with the error tooBig.", 20),
            _count("out_no_such_names", "responses", "Responses with the error noSuchName.", 21),
            _count("out_gen_errs", "responses", "Responses with the error genErr.", 24),
            _count("out_get_responses", "responses", "Responses sent.", 28),
            _count("traps", "notifications", "Traps sent.", 29),
            _count("silent_drops", "messages", "Requests dropped because even an empty response would not fit.", 31),
            _count(
                "proxy_drops", "messages", "Requests dropped because they could not be passed to a proxy target.", 32
            ),
            _count("getbulk_requests", "requests", "GetBulkRequest PDUs processed.", 41),
            _count("informs", "notifications", "Informs sent, repeats not counted.", 42),
            _count("inform_acks", "notifications", "Informs acknowledged.", 43),
            _count("inform_timeouts", "notifications", "Informs given up without an acknowledgement.", 44),
            _count("unknown_pdus", "messages", "Messages with a PDU the agent does not handle.", 45),
            _count("usm_unsupported_sec_levels", "messages", "v3 messages with a security level not offered.", 51),
            _count("usm_not_in_time_windows", "messages", "v3 messages outside the time window.", 52),
            _count("usm_unknown_user_names", "messages", "v3 messages of a user not known.", 53),
            _count("usm_unknown_engine_ids", "messages", "v3 messages for another engine, discovery included.", 54),
            _count("usm_wrong_digests", "messages", "v3 messages with a wrong digest.", 55),
            _count("usm_decryption_errors", "messages", "v3 messages that could not be decrypted.", 56),
            _level("endpoints", "sockets", "UDP sockets the agent answers on, handed over ones included.", 61),
            _level("engine_boots", "boots", "Times this SNMP engine was started.", 62),
        ),
    ),
)

EXPORTER: Final[tuple[Table, ...]] = (
    Table(
        "exporter",
        (),
        "Stats documents, metrics pages and pushes.",
        (
            _count("scrapes_raw", "scrapes", "Stats documents sent on raw sockets.", 1),
            _count("scrapes_http", "scrapes", "Stats documents sent by HTTP.", 2),
            _count("scrapes_metrics", "scrapes", "Metrics pages sent to Prometheus.", 3),
            _count("scrape_errors", "scrapes", "Stats documents or pages that could not be made or sent.", 4),
            _count("pages", "requests", "Dashboard pages and API documents sent.", 5),
            _count("bytes_out", "bytes", "Bytes sent to whoever asked.", 6),
            _count("pushes", "pushes", "Pushes delivered.", 7),
            _count("push_errors", "pushes", "Pushes that failed.", 8),
            _count("push_dropped", "pushes", "Pushes dropped because their queue was full.", 9),
            _when("last_push", "When a push was last delivered.", 10),
            _level("clients", "connections", "Connections being served.", 11),
            _level("endpoints", "sockets", "Stats sockets served for app-servers.", 12),
            _count("thresholds_fired", "alarms", "Alarms raised because a metric reached its threshold.", 13),
        ),
    ),
)

#: Bytes of a text that is a name: instance (40), NUL, alarm; or a vassal's id and what stands beside it.
NAME_BYTES: Final = 296
VASSAL_TEXT_BYTES: Final = 680

ALARMS: Final[tuple[Table, ...]] = (
    Table(
        "alarm_totals",
        (),
        "The alarm-daemon's work over all instances.",
        (
            _count("events", "events", "Events received from app-servers.", 1),
            _count("log_lines", "lines", "Log lines matched against rules.", 2),
            _count("matched", "lines", "Log lines at least one rule matched.", 3),
            _count("raised", "alarms", "Alarms raised, suppressed ones included.", 4),
            _count("suppressed", "alarms", "Alarms not delivered because the same one was delivered just before.", 5),
            _count("delivered", "deliveries", "Deliveries that succeeded.", 6),
            _count("failed", "deliveries", "Deliveries given up.", 7),
            _count("retries", "deliveries", "Deliveries tried again.", 8),
            _level("pending", "deliveries", "Deliveries waiting or under way.", 9),
            _when("oldest_pending", "When the oldest pending delivery was raised; 0 when none.", 10),
            _level("journal_bytes", "bytes", "Size of the journal.", 11),
            _count("rule_errors", "rules", "Rules or actions refused.", 12),
            _count("silenced", "alarms", "Alarms not delivered because an operator silenced them.", 13),
        ),
    ),
    Table(
        "alarms",
        ("slot",),
        "One alarm of one instance; text: instance, NUL, alarm.",
        (
            _count("raised", "alarms", "Times the alarm was raised, suppressed ones included.", 1),
            _count("suppressed", "alarms", "Times it was not delivered because it was delivered just before.", 2),
            _count("delivered", "deliveries", "Deliveries that succeeded.", 3),
            _count("failed", "deliveries", "Deliveries given up.", 4),
            _level("pending", "deliveries", "Deliveries waiting or under way.", 5),
            _when("last_raised", "When it was last raised.", 6),
            _when("last_delivered", "When it was last delivered.", 7),
            _when("last_failed", "When a delivery last failed.", 8),
        ),
        text_bytes=NAME_BYTES,
    ),
)

EMPEROR: Final[tuple[Table, ...]] = (
    Table(
        "emperor",
        (),
        "The Emperor's work over all vassals. Labels of the segment: monitors.",
        (
            _level("vassals", "vassals", "Vassals known.", 1),
            _level("running", "vassals", "Vassals with a process.", 2),
            _level("accepting", "vassals", "Vassals that serve.", 3),
            _level("blacklisted", "vassals", "Vassals held back after failures.", 4),
            _count("spawns", "vassals", "Vassal processes started.", 5),
            _count("deaths", "vassals", "Vassal processes that ended without being asked to.", 6),
            _count("reloads", "vassals", "Vassals reloaded.", 7),
            _count("refused", "vassals", "Vassal configurations refused.", 8),
            _count("scans", "scans", "Scans of all monitors.", 9),
            _count("scan_errors", "scans", "Scans that failed; the vassals of their monitor stayed as they were.", 10),
            _when("last_scan", "When a monitor was last scanned.", 11),
            _level("throttle_level", "milliseconds", "Delay new vassals get at present.", 12),
            _flag("tyrant", "1 where vassals run as the owner of their configuration.", 13),
            _level("keeper_pid", "pid", "Process id of the keeper, parent of the vassals.", 14),
            _count("commands", "commands", "Deploy commands executed.", 15),
            _count("commands_refused", "commands", "Deploy commands refused.", 16),
        ),
    ),
    Table(
        "vassals",
        ("slot",),
        "One vassal; text: its id, then, each after a NUL, monitor, on-demand socket and instance name.",
        (
            _level("pid", "pid", "Process id of the vassal's master, -1 when it does not run.", 1, signed=True),
            _state("state", "What the vassal is doing.", 2, VASSAL_STATES),
            _flag("ready", "1 once its master runs.", 3),
            _flag("accepting", "1 once its first worker serves.", 4),
            _flag("loyal", "1 once it has served a request.", 5),
            _count("respawns", "spawns", "Times it was started or reloaded after its first start.", 6),
            _when("born", "When the vassal became known.", 7),
            _when("last_mod", "When its configuration last changed.", 8),
            _when("last_heartbeat", "When it last sent a heartbeat.", 9),
            _when("first_run", "When it was first started.", 10),
            _when("last_start", "When it was last started.", 11),
            _when("last_ready", "When its master last became ready.", 12),
            _when("last_accepting", "When its first worker last began to serve.", 13),
            _when("last_loyal", "When it last became loyal.", 14),
            _when("cursed_at", "When it was told to stop; 0 if it was not.", 15),
            _flag("zerg", "1 for a zerg.", 16),
            _flag("on_demand", "1 for a vassal started by its first connection.", 17),
            _flag("suspended", "1 while it is paused.", 18),
            _flag("adopted", "1 if it outlived the Emperor that started it.", 19),
            _level("uid", "uid", "User id it runs as.", 20),
            _level("gid", "gid", "Group id it runs as.", 21),
            _level("last_exit_status", "status", "Wait status of its last process that ended.", 22),
            _level("blacklist_level", "milliseconds", "How long it is held back after failures; 0 when it is not.", 23),
            _count("attempts", "spawns", "Starts that failed in a row.", 24),
            _when("first_attempt", "When the first of these starts failed.", 25),
            _when("last_attempt", "When the last of these starts failed.", 26),
        ),
        text_bytes=VASSAL_TEXT_BYTES,
    ),
)
