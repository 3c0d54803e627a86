"""The tables of the daemons' own segments; each daemon has `DAEMON` and what follows it for that daemon."""

from typing import Final

from palatine.schema.model import Table, count, flag, level, state, when

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

#: Bytes of a daemon's status line.
STATUS_BYTES: Final = 240

DAEMON: Final[tuple[Table, ...]] = (
    Table(
        "daemon",
        (),
        "What every daemon says about itself. Labels of the segment: name, version. The text is its status line.",
        (
            level("pid", "pid", "Process id of the daemon.", 1),
            level("uid", "uid", "User id the daemon runs as.", 2),
            level("gid", "gid", "Group id the daemon runs as.", 3),
            when("started", "When the daemon started.", 4),
            flag("ready", "1 once the daemon does its job.", 5),
            state("state", "What the daemon is doing.", 6, DAEMON_STATES),
            count("reloads", "reloads", "Configurations reread.", 7),
            count("reload_failures", "reloads", "Configurations refused; the one before stayed.", 8),
            count("requests", "requests", "Control requests answered.", 9),
            count("requests_refused", "requests", "Control requests refused for lack of rights or a bad form.", 10),
            count("errors", "errors", "Errors logged.", 11),
            level("instances", "instances", "App-server instances the daemon knows.", 12),
            count(
                "instances_refused", "instances", "Instance directories refused: wrong owner or unreadable segment.", 13
            ),
        ),
        text_bytes=STATUS_BYTES,
    ),
)

AGENT: Final[tuple[Table, ...]] = (
    Table(
        "agent",
        (),
        "SNMP traffic; columns 1 to 32 carry the numbers of SNMPv2-MIB's snmp group.",
        (
            count("in_pkts", "messages", "Messages received.", 1),
            count("out_pkts", "messages", "Messages sent.", 2),
            count("in_bad_versions", "messages", "Messages of an SNMP version not supported.", 3),
            count("in_bad_community_names", "messages", "Messages with a community not known.", 4),
            count("in_bad_community_uses", "messages", "Operations the community named does not allow.", 5),
            count("in_asn_parse_errs", "messages", "Messages that are not well-formed BER.", 6),
            count("in_total_req_vars", "varbinds", "Variables read for GET and GETNEXT requests.", 13),
            count("get_requests", "requests", "GetRequest PDUs processed.", 15),
            count("getnext_requests", "requests", "GetNextRequest PDUs processed.", 16),
            count("set_requests", "requests", "SetRequest PDUs processed.", 17),
            count("out_too_bigs", "responses", "Responses with the error tooBig.", 20),
            count("out_no_such_names", "responses", "Responses with the error noSuchName.", 21),
            count("out_gen_errs", "responses", "Responses with the error genErr.", 24),
            count("out_get_responses", "responses", "Responses sent.", 28),
            count("traps", "notifications", "Traps sent.", 29),
            count("silent_drops", "messages", "Requests dropped because even an empty response would not fit.", 31),
            count(
                "proxy_drops", "messages", "Requests dropped because they could not be passed to a proxy target.", 32
            ),
            count("getbulk_requests", "requests", "GetBulkRequest PDUs processed.", 41),
            count("informs", "notifications", "Informs sent, repeats not counted.", 42),
            count("inform_acks", "notifications", "Informs acknowledged.", 43),
            count("inform_timeouts", "notifications", "Informs given up without an acknowledgement.", 44),
            count("unknown_pdus", "messages", "Messages with a PDU the agent does not handle.", 45),
            count("usm_unsupported_sec_levels", "messages", "SNMPv3 messages with a security level not offered.", 51),
            count("usm_not_in_time_windows", "messages", "SNMPv3 messages outside the time window.", 52),
            count("usm_unknown_user_names", "messages", "SNMPv3 messages of a user not known.", 53),
            count("usm_unknown_engine_ids", "messages", "SNMPv3 messages for another engine, discovery included.", 54),
            count("usm_wrong_digests", "messages", "SNMPv3 messages with a wrong digest.", 55),
            count("usm_decryption_errors", "messages", "SNMPv3 messages that could not be decrypted.", 56),
            count("unknown_contexts", "messages", "Messages for a context not known, by v3 or as name@instance.", 57),
            count("unknown_security_models", "messages", "SNMPv3 messages of another security model than USM.", 58),
            count("invalid_msgs", "messages", "SNMPv3 messages with flags that contradict each other.", 59),
            count("unknown_pdu_handlers", "messages", "SNMPv3 messages for objects of another engine.", 60),
            level("endpoints", "sockets", "UDP sockets the agent answers on, handed over ones included.", 61),
            level("engine_boots", "boots", "Times this SNMP engine was started.", 62),
            count("send_failures", "responses", "Responses the network did not take.", 63),
            count("udp_forwarded", "messages", "Datagrams that are not SNMP, passed on to their instance.", 64),
            count("udp_dropped", "messages", "Datagrams that are not SNMP and could not be passed on.", 65),
            count("throttled", "messages", "Messages of sources that ask faster than allowed, not looked at.", 66),
            level("notifications_pending", "notifications", "Informs in the journal, not acknowledged yet.", 67),
            count("notifications_dropped", "notifications", "Notifications that could not be sent or kept.", 68),
        ),
    ),
)

EXPORTER: Final[tuple[Table, ...]] = (
    Table(
        "exporter",
        (),
        "Stats documents, metrics pages and pushes.",
        (
            count("scrapes_raw", "scrapes", "Stats documents sent on raw sockets.", 1),
            count("scrapes_http", "scrapes", "Stats documents sent by HTTP.", 2),
            count("scrapes_metrics", "scrapes", "Metrics pages sent to Prometheus.", 3),
            count("scrape_errors", "scrapes", "Stats documents or pages that could not be made or sent.", 4),
            count("pages", "requests", "Dashboard pages and API documents sent.", 5),
            count("bytes_out", "bytes", "Bytes sent to whoever asked.", 6),
            count("pushes", "pushes", "Pushes delivered.", 7),
            count("push_errors", "pushes", "Pushes that failed.", 8),
            count("push_dropped", "pushes", "Pushes dropped because their queue was full.", 9),
            when("last_push", "When a push was last delivered.", 10),
            level("clients", "connections", "Connections being served.", 11),
            level("endpoints", "sockets", "Stats sockets served for app-servers.", 12),
            count("thresholds_fired", "alarms", "Alarms raised because a metric reached its threshold.", 13),
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
            count("events", "events", "Events received from app-servers.", 1),
            count("log_lines", "lines", "Log lines matched against rules.", 2),
            count("matched", "lines", "Log lines at least one rule matched.", 3),
            count("raised", "alarms", "Alarms raised, suppressed ones included.", 4),
            count("suppressed", "alarms", "Alarms not delivered because the same one was delivered just before.", 5),
            count("delivered", "deliveries", "Deliveries that succeeded.", 6),
            count("failed", "deliveries", "Deliveries given up.", 7),
            count("retries", "deliveries", "Deliveries tried again.", 8),
            level("pending", "deliveries", "Deliveries waiting or under way.", 9),
            when("oldest_pending", "When the oldest pending delivery was raised; 0 when none.", 10),
            level("journal_bytes", "bytes", "Size of the journal.", 11),
            count("rule_errors", "rules", "Rules or actions refused.", 12),
            count("silenced", "alarms", "Alarms not delivered because an operator silenced them.", 13),
        ),
    ),
    Table(
        "alarms",
        ("slot",),
        "One alarm of one instance; text: instance, NUL, alarm.",
        (
            count("raised", "alarms", "Times the alarm was raised, suppressed ones included.", 1),
            count("suppressed", "alarms", "Times it was not delivered because it was delivered just before.", 2),
            count("delivered", "deliveries", "Deliveries that succeeded.", 3),
            count("failed", "deliveries", "Deliveries given up.", 4),
            level("pending", "deliveries", "Deliveries waiting or under way.", 5),
            when("last_raised", "When it was last raised.", 6),
            when("last_delivered", "When it was last delivered.", 7),
            when("last_failed", "When a delivery last failed.", 8),
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
            level("vassals", "vassals", "Vassals known.", 1),
            level("running", "vassals", "Vassals with a process.", 2),
            level("accepting", "vassals", "Vassals that serve.", 3),
            level("blacklisted", "vassals", "Vassals held back after failures.", 4),
            count("spawns", "vassals", "Vassal processes started.", 5),
            count("deaths", "vassals", "Vassal processes that ended without being asked to.", 6),
            count("reloads", "vassals", "Vassals reloaded.", 7),
            count("refused", "vassals", "Vassal configurations refused.", 8),
            count("scans", "scans", "Scans of all monitors.", 9),
            count("scan_errors", "scans", "Scans that failed; the vassals of their monitor stayed as they were.", 10),
            when("last_scan", "When a monitor was last scanned.", 11),
            level("throttle_level", "milliseconds", "Delay new vassals get at present.", 12),
            flag("tyrant", "1 where vassals run as the owner of their configuration.", 13),
            level("keeper_pid", "pid", "Process id of the keeper, parent of the vassals.", 14),
            count("commands", "commands", "Deploy commands executed.", 15),
            count("commands_refused", "commands", "Deploy commands refused.", 16),
        ),
    ),
    Table(
        "vassals",
        ("slot",),
        "One vassal; text: its id, then, each after a NUL, monitor, on-demand socket and instance name.",
        (
            level("pid", "pid", "Process id of the vassal's master, -1 when it does not run.", 1, signed=True),
            state("state", "What the vassal is doing.", 2, VASSAL_STATES),
            flag("ready", "1 once its master runs.", 3),
            flag("accepting", "1 once its first worker serves.", 4),
            flag("loyal", "1 once it has served a request.", 5),
            count("respawns", "spawns", "Times it was started or reloaded after its first start.", 6),
            when("born", "When the vassal became known.", 7),
            when("last_mod", "When its configuration last changed.", 8),
            when("last_heartbeat", "When it last sent a heartbeat.", 9),
            when("first_run", "When it was first started.", 10),
            when("last_start", "When it was last started.", 11),
            when("last_ready", "When its master last became ready.", 12),
            when("last_accepting", "When its first worker last began to serve.", 13),
            when("last_loyal", "When it last became loyal.", 14),
            when("cursed_at", "When it was told to stop; 0 if it was not.", 15),
            flag("zerg", "1 for a zerg.", 16),
            flag("on_demand", "1 for a vassal started by its first connection.", 17),
            flag("suspended", "1 while it is paused.", 18),
            flag("adopted", "1 if it outlived the Emperor that started it.", 19),
            level("uid", "uid", "User id it runs as.", 20),
            level("gid", "gid", "Group id it runs as.", 21),
            level("last_exit_status", "status", "Wait status of its last process that ended.", 22),
            level("blacklist_level", "milliseconds", "How long it is held back after failures; 0 when it is not.", 23),
            count("attempts", "spawns", "Starts that failed in a row.", 24),
            when("first_attempt", "When the first of these starts failed.", 25),
            when("last_attempt", "When the last of these starts failed.", 26),
        ),
        text_bytes=VASSAL_TEXT_BYTES,
    ),
)
