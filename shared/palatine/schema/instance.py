"""The tables of an app-server's segment, whose fields uWSGI's stats and SNMP know or palatine adds; nothing else."""

from typing import Final

from palatine.schema.model import GAUGE, STATE, TIME, Field, Table, count, flag, level, state, when

SERVER_STATES: Final = ("starting", "ready", "reloading", "draining", "stopping", "paused", "failed")

#: Bytes kept of a request's variables where the config asks for all of them.
VARIABLES_BYTES: Final = 4080

#: Upper bounds of the histogram of request durations in microseconds, as Prometheus has them for seconds; one more
#: bucket takes what is slower.
DURATION_BOUNDS_US: Final = (
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000,
    100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
)  # fmt: skip
#: The words of a core that hold the buckets, side by side and each on its own: "le" adds them up.
DURATION_FIELDS: Final = (*(f"duration_le_{bound}us" for bound in DURATION_BOUNDS_US), "duration_le_inf")


def _duration_buckets(first_column: int) -> tuple[Field, ...]:
    texts = [f"at most {bound / 1000:g} ms, longer than the bucket before" for bound in DURATION_BOUNDS_US]
    texts.append(f"longer than {DURATION_BOUNDS_US[-1] // 1_000_000} s")
    return tuple(
        count(name, "requests", f"Requests that took {text}.", column)
        for column, (name, text) in enumerate(zip(DURATION_FIELDS, texts, strict=True), first_column)
    )


INSTANCE: Final[tuple[Table, ...]] = (
    Table(
        "server",
        (),
        "The instance as its master sees it.",
        (
            level("pid", "pid", "Process id of the master.", 1),
            level("uid", "uid", "User id the master runs as.", 2),
            level("gid", "gid", "Group id the master runs as.", 3),
            when("started", "When the master started.", 4),
            level(
                "generation",
                "generation",
                "Number of the app generation that serves now; odd and even use different banks.",
                5,
            ),
            state("state", "What the instance is doing.", 6, SERVER_STATES),
            level("listen_queue", "connections", "Connections waiting in the fullest listen queue.", 7),
            level("listen_queue_max", "connections", "Capacity of the fullest listen queue.", 8),
            count(
                "listen_queue_errors", "errors", "Connections the kernel dropped because a listen queue was full.", 9
            ),
            level("signal_queue", "bytes", "Bytes of uwsgi signals waiting for the master.", 10),
            level("load", "connections", "Load as uWSGI counts it: the same as listen_queue.", 11),
            count("reloads", "reloads", "Reloads that ended with a new generation serving.", 12),
            count("reload_failures", "reloads", "Reloads after which the old generation stayed.", 13),
            when("last_reload", "When a generation last took over.", 14),
            count(
                "requests_lost",
                "requests",
                "Requests that ended without an answer because their worker was killed.",
                15,
            ),
            count("overloaded", "rounds", "Master rounds in which every worker was busy.", 16),
            count("routed_signals", "signals", "Signals of the uwsgi signal framework handed to a receiver.", 17),
            count(
                "unrouted_signals", "signals", "Signals of the uwsgi signal framework nobody was registered for.", 18
            ),
            count("log_lines", "lines", "Log datagrams the master wrote.", 19),
            count("log_bytes", "bytes", "Bytes of log the master wrote.", 20),
            count("log_dropped", "lines", "Log datagrams that could not be written or passed on.", 21),
            level("zygote_pid", "pid", "Process id of the zygote of the current generation.", 22),
            level("link_pid", "pid", "Process id of the link that speaks on the bus.", 23),
            count("link_respawns", "respawns", "Times the link had to be started again.", 24),
            count(
                "alarms_raised", "alarms", "Alarms the instance raised itself, by API or by a full listen queue.", 25
            ),
            level(
                "spooler_frequency", "seconds", "How often spoolers look, as the app has asked; 0 if it has not.", 26
            ),
            level("events_waiting", "events", "Alarms and batches of log lines no alarm-daemon has taken yet.", 27),
            count("events_dropped", "events", "Of them, those that were given up because too many waited.", 28),
        ),
    ),
    Table(
        "sockets",
        ("socket",),
        "A socket the master bound. Labels: name, proto, shared, can_offload.",
        (
            level("queue", "connections", "Connections waiting to be accepted.", 1),
            level("max_queue", "connections", "Capacity of the listen queue.", 2),
            count(
                "queued_time",
                "microseconds",
                "Time connections have waited to be accepted, as the length of the queue each second adds up.",
                3,
            ),
        ),
    ),
    Table(
        "slots",
        ("worker",),
        "What the master knows about the worker at an index, whichever process fills it.",
        (
            level("pid", "pid", "Process id of the worker, 0 while there is none.", 1),
            flag("cheaped", "1 while the cheaper subsystem keeps this worker stopped.", 2),
            when("last_spawn", "When this worker was last started.", 3),
            count("respawn_count", "spawns", "Times this worker was started, the first time included.", 4),
            count("harakiri_count", "kills", "Times this worker was killed for a request that took too long.", 5),
            level("requests_at_spawn", "requests", "Requests of this index when its present process was started.", 6),
            level("last_exit_status", "status", "Wait status of the process that filled this index before.", 7),
            level("rss", "bytes", "Resident memory.", 8),
            level("vsz", "bytes", "Virtual memory.", 9),
            level("pss", "bytes", "Proportional share of memory, where it is reported.", 10),
            level("uss", "bytes", "Memory no other process shares, where it is reported.", 11),
            level("generation", "generation", "App generation the present process belongs to.", 12),
            level("signal_queue", "bytes", "Bytes of uwsgi signals waiting for the worker.", 13),
        ),
    ),
    Table(
        "workers",
        ("worker",),
        "What a worker process says about itself.",
        (
            flag("accepting", "1 while the worker takes requests.", 1),
            count("signals", "signals", "Signals of the uwsgi signal framework handled.", 2),
            flag("suspended", "1 while the worker is paused.", 3),
            level("running_signal", "signal", "uwsgi signal being handled, plus one; 0 when none.", 4),
        ),
        banked=True,
    ),
    Table(
        "cores",
        ("worker", "core"),
        "One thread of one worker.",
        (
            count("requests", "requests", "Requests finished.", 1),
            Field("in_request", GAUGE, "requests", "Requests being served: 0 or 1 in each bank.", 2, combine="sum"),
            Field("request_start_us", TIME, "microseconds", "When the request being served began.", 3),
            Field(
                "harakiri_deadline_ms",
                GAUGE,
                "milliseconds",
                "When the master ends this request, on the monotonic clock; 0 for never.",
                4,
            ),
            count("running_time", "microseconds", "Time spent inside requests.", 5),
            level(
                "avg_rt",
                "microseconds",
                "Moving average of the response time: half the last request, half what was before.",
                6,
            ),
            count("tx", "bytes", "Bytes of response, headers included.", 7),
            count("exceptions", "exceptions", "Exceptions the app let escape.", 8),
            count("static_requests", "requests", "Requests answered with a static file.", 9),
            count("routed_requests", "requests", "Requests a routing rule decided.", 10),
            count("offloaded_requests", "requests", "Responses handed to an offload thread.", 11),
            count("write_errors", "errors", "Responses that could not be written to the client.", 12),
            count("read_errors", "errors", "Requests that could not be read from the client.", 13),
            count("idle_time", "microseconds", "Time without a request: waiting for one, or reading it.", 14),
            count(
                "write_wait_time",
                "microseconds",
                "Part of running_time in which a client did not take what was sent to it.",
                15,
            ),
            *_duration_buckets(16),
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
        "variables",
        ("worker", "core"),
        "With stats-vars = full: all variables of the request, NUL between, secrets masked by the worker.",
        (),
        banked=True,
        text_bytes=VARIABLES_BYTES,
    ),
    Table(
        "apps",
        ("worker", "core", "app"),
        "One app as one core serves it. Labels: id, modifier1, mountpoint, chdir.",
        (
            count("requests", "requests", "Requests begun.", 1),
            count("exceptions", "exceptions", "Exceptions the app let escape.", 2),
            level("startup_time", "seconds", "Time the app took to load.", 3),
        ),
        banked=True,
    ),
    Table(
        "locks",
        ("lock",),
        "A lock apps can take. Labels: name.",
        (level("owner_pid", "pid", "Process id that holds the lock, 0 when it is free.", 1),),
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
            level("value", "value", "The value, in 64 bits whatever the type.", 2),
        ),
    ),
    Table(
        "mules",
        ("mule",),
        "A mule as the master sees it. Labels: name, farms.",
        (
            level("pid", "pid", "Process id of the mule, 0 while there is none.", 1),
            when("last_spawn", "When the mule was last started.", 2),
            count("respawn_count", "spawns", "Times the mule was started, the first time included.", 3),
        ),
    ),
    Table(
        "mule_work",
        ("mule",),
        "What a mule says about itself.",
        (
            count("signals", "signals", "Signals of the uwsgi signal framework handled.", 1),
            count("messages", "messages", "Messages taken from its queues and its farms'.", 2),
            level("running_signal", "signal", "uwsgi signal being handled, plus one; 0 when none.", 3),
            level(
                "harakiri_deadline_ms",
                "milliseconds",
                "When the master ends what the mule does, on the monotonic clock; 0 for never.",
                4,
            ),
        ),
    ),
    Table(
        "spoolers",
        ("spooler",),
        "A spooler process as the master sees it. Labels: dir.",
        (
            level("pid", "pid", "Process id of the spooler, 0 while there is none.", 1),
            count("respawns", "respawns", "Times the spooler had to be started again.", 2),
        ),
    ),
    Table(
        "spooler_tasks",
        ("spooler",),
        "What a spooler process says about itself.",
        (
            count("tasks", "tasks", "Tasks finished.", 1),
            count("failures", "tasks", "Tasks that raised or asked to be tried again.", 2),
            flag("running", "1 while a task is running.", 3),
            level(
                "harakiri_deadline_ms",
                "milliseconds",
                "When the master ends the running task, on the monotonic clock; 0 for never.",
                4,
            ),
        ),
    ),
    Table(
        "crons",
        ("cron",),
        "A cron job of the configuration. Labels: minute, hour, day, month, week, command, unique.",
        (
            level("pid", "pid", "Process id of the running job, -1 when idle.", 1, signed=True),
            when("started_at", "When the job was last started.", 2),
            count("runs", "runs", "Times the job was started.", 3),
            level("last_exit_status", "status", "Wait status of the last run.", 4),
        ),
    ),
    Table(
        "daemons",
        ("daemon",),
        "An attached daemon. Labels: cmd.",
        (
            level("pid", "pid", "Process id of the daemon, 0 while there is none.", 1),
            count("respawns", "respawns", "Times the daemon had to be started again.", 2),
            when("last_spawn", "When the daemon was last started.", 3),
        ),
    ),
    Table(
        "caches",
        ("cache",),
        "A cache. Labels: name, hash, hashsize, keysize, max_items, blocks, blocksize.",
        (
            level("items", "items", "Items in the cache.", 1),
            count("hits", "lookups", "Lookups that found an item.", 2),
            count("miss", "lookups", "Lookups that found nothing.", 3),
            count("full", "errors", "Times an item did not fit.", 4),
            when("last_modified_at", "When the cache last changed.", 5),
        ),
    ),
    Table(
        "metrics",
        ("metric",),
        "A metric of the app or the configuration. Labels: name, oid, type, initial_value.",
        (level("value", "value", "Value of the metric.", 1, signed=True),),
    ),
)
