"""What the JSON API answers with, as types: the OpenAPI document is made of these and of nothing else.

Counters are since the master started and survive respawns and reloads; sizes are bytes, durations microseconds unless
named otherwise, moments unix seconds with 0 for never.
"""

import attrs

#: Labels (text) and numbers of a row.
Row = dict[str, int | str]


@attrs.frozen
class Instance:
    """One app-server.

    `state` is "gone" for one whose master died and whose last numbers are shown; `status` counts workers by uWSGI's
    status words; `avg_rt` is the mean of the workers' moving averages.
    """

    name: str
    state: str
    alive: bool
    address: str
    pid: int
    uid: int
    started: int
    generation: int
    reloads: int
    last_reload: int
    listen_queue: int
    listen_queue_max: int
    requests: int
    requests_lost: int
    exceptions: int
    harakiri_count: int
    respawn_count: int
    tx: int
    rss: int
    running_time: int
    avg_rt: int
    in_request: int
    workers: int
    cores: int
    status: dict[str, int]


@attrs.frozen
class Core:
    """One thread of a worker, and the request it serves: empty when idle, secrets masked."""

    id: int
    requests: int
    in_request: bool
    since: int
    method: str
    uri: str
    host: str
    peer: str


@attrs.frozen
class Worker:
    """One worker; `id` is 0 for a slot never used, `respawn_count` counts the first start too."""

    id: int
    pid: int
    status: str
    accepting: bool
    requests: int
    delta_requests: int
    exceptions: int
    harakiri_count: int
    signals: int
    respawn_count: int
    last_spawn: int
    running_time: int
    avg_rt: int
    tx: int
    rss: int
    vsz: int
    in_request: int
    cores: list[Core]


@attrs.frozen
class InstanceDetail:
    """One instance with its workers, sockets, caches and metrics; `parts` has spoolers, mules, crons and the like."""

    now: float
    instance: Instance
    workers: list[Worker]
    sockets: list[Row]
    caches: list[Row]
    metrics: list[Row]
    parts: dict[str, list[Row]]


@attrs.frozen
class Daemon:
    """One daemon of the suite, `state` "gone" when it was killed; `figures` are its own counters."""

    name: str
    state: str
    alive: bool
    status: str
    pid: int
    started: int
    figures: dict[str, int]


@attrs.frozen
class Vassal:
    """One vassal of the Emperor; `instance` names its app-server."""

    id: str
    state: str
    instance: str
    monitor: str
    pid: int
    respawns: int
    last_start: int
    last_loyal: int
    blacklist_level: int
    attempts: int


@attrs.frozen
class Alarm:
    """One alarm of one instance."""

    instance: str
    alarm: str
    raised: int
    suppressed: int
    delivered: int
    failed: int
    pending: int
    last_raised: int
    last_delivered: int
    last_failed: int


@attrs.frozen
class Instances:
    """All instances, by name; of those that could not be read, the reason."""

    now: float
    instances: list[Instance]
    unreadable: dict[str, str]


@attrs.frozen
class Daemons:
    """The daemons of this host."""

    now: float
    daemons: list[Daemon]


@attrs.frozen
class Vassals:
    """The Emperor's vassals; none where no Emperor runs."""

    now: float
    vassals: list[Vassal]


@attrs.frozen
class Alarms:
    """The alarms that were ever raised here."""

    now: float
    alarms: list[Alarm]


@attrs.frozen
class History:
    """Samples of an instance, or of the whole host: unix times, and a list of the same length for each series.

    Rates are per second, `request_time_...` is in seconds, `running_...` the share of time spent in requests;
    `harakiri`, `respawns` and `exceptions` are how many there were in the sample's `interval` (seconds).
    """

    now: float
    interval: int
    series: dict[str, list[float]]


@attrs.frozen
class Problem:
    """Why there is no answer."""

    error: str
