"""The config as one frozen value: every option the app-server acts on, checked before anything is bound."""

import os
from functools import partial
from typing import Any, Final, NamedTuple

from palatine.codec import alarm_grammar
from palatine.codec.push_grammar import Wish
from palatine.config import Config
from palatine.config.commandline import COMMAND_LINE
from palatine.config.files import read_envdir
from palatine.config.settings import Settings
from palatine_app_server.config import (
    app_settings,
    feature_settings,
    front_settings,
    http_settings,
    life_settings,
    log_settings,
    process_settings,
    socket_settings,
    zerg_settings,
)
from palatine_app_server.config.feature_settings import Features
from palatine_app_server.config.front_settings import FrontSettings
from palatine_app_server.config.http_settings import HttpSettings
from palatine_app_server.config.life_settings import LifeSettings
from palatine_app_server.config.log_settings import LogSettings
from palatine_app_server.config.process_settings import ProcessSettings
from palatine_app_server.config.socket_settings import SocketSettings, SocketWish, Traits
from palatine_app_server.config.tls_settings import TlsSettings
from palatine_app_server.config.zerg_settings import ZergSettings
from palatine_app_server.serving.clients import BODY_MEMORY_BYTES, DEFAULT_IDLE_SECONDS, Limits
from palatine_app_server.serving.loader import AppSource

#: Any of them is the wish to read chunks in the app.
_CHUNKED: Final = ("chunked-input-limit", "chunked-input-timeout", "http-chunked-input", "http-raw-body")
_ALARM_RULES: Final = frozenset({"log-alarm", "alarm-log", "not-log-alarm", "not-alarm-log"})

#: What uWSGI does when the config is silent.
DEFAULT_LISTEN: Final = 100
DEFAULT_MERCY_SECONDS: Final = 60
DEFAULT_BUFFER: Final = 4096
DEFAULT_SOCKET_TIMEOUT: Final = 4
MOST_PROCESSES: Final = 1000
MOST_THREADS: Final = 1024


class AlarmSettings(NamedTuple):
    """The alarm options, parsed; the alarm-daemon gets them as the first event of every start."""

    alarms: tuple[alarm_grammar.Alarm, ...] = ()
    rules: tuple[alarm_grammar.Rule, ...] = ()
    backlog: tuple[str, ...] = ()
    freq: int = 3
    message_bytes: int = 8192


class AppSettings(NamedTuple):
    """Everything the master, zygote and workers need to know."""

    sockets: tuple[SocketWish, ...]
    daemon_sockets: tuple[SocketWish, ...]
    traits: tuple[Traits, ...]  # of the first of them, in order; others have none
    http: HttpSettings
    tls: tuple[TlsSettings, ...]
    stats_options: dict[str, Any]
    snmp: bool
    snmp_null_unset: bool
    community: str
    processes: int
    threads: int
    listen: int
    master: bool
    lazy_apps: bool
    mode: str
    need_app: bool
    app: AppSource
    front: FrontSettings
    catch_exceptions: bool
    limits: Limits
    harakiri_seconds: int
    mercy_seconds: int
    uid: str
    gid: str
    env: tuple[tuple[str, str], ...]
    unenv: tuple[str, ...]
    binding: SocketSettings
    vacuum: bool
    locks: int
    alarms: AlarmSettings
    log: LogSettings
    die_on_term: bool
    life: LifeSettings
    process: ProcessSettings
    options: dict[str, Any]
    name: str
    runtime_dir: str
    state_dir: str
    features: Features
    pushes: tuple[Wish, ...] = ()
    zerg: ZergSettings = ZergSettings()

    @property
    def companions(self) -> tuple[str, ...]:
        """The daemons this config cannot do without."""
        wanted = []
        if self.pushes or any(wish.kind == "stats" for wish in self.daemon_sockets):
            wanted.append("stats-exporter")
        if self.snmp and any(wish.kind in {"snmp", "udp"} for wish in self.daemon_sockets):
            wanted.append("snmp-agent")
        if self.alarms.alarms:
            wanted.append("alarm-daemon")
        return tuple(wanted)


def read(config: Config) -> AppSettings:
    """The settings of `config`; ConfigError names the line that is wrong."""
    settings = config.settings
    features = feature_settings.read(config)
    cache = settings.given("check-cache")
    if cache is not None and (cache.value or "") not in {"", *(each.name for each in features.caches)}:
        raise cache.origin.error(f'unable to find cache "{cache.value}"')
    threads = settings.integer("threads", 1, minimum=1, maximum=MOST_THREADS)
    envdir = [item for directory in settings.texts("envdir") for item in read_envdir(directory).items()]
    processes = settings.integer("processes", 1, minimum=1, maximum=MOST_PROCESSES)
    return AppSettings(
        sockets=socket_settings.read_sockets(config),
        daemon_sockets=_daemon_sockets(config),
        traits=socket_settings.read_traits(config),
        http=http_settings.read(config),
        tls=socket_settings.read_tls(config),
        stats_options={
            "http": settings.flag("stats-http"),
            "minified": settings.flag("stats-minified"),
            "no_cores": settings.flag("stats-no-cores"),
            "no_metrics": settings.flag("stats-no-metrics"),
            "full_vars": _full_vars(config),
        },
        snmp=_snmp_wanted(config),
        snmp_null_unset=settings.flag("snmp-null-unset"),
        community=settings.text("snmp-community", "")[:72],
        processes=processes,
        threads=threads,
        listen=settings.integer("listen", DEFAULT_LISTEN, minimum=1),
        master=settings.flag("master"),
        lazy_apps=settings.flag("lazy-apps") or settings.flag("lazy"),
        need_app=settings.flag("need-app"),
        mode=settings.text("mode", ""),
        app=app_settings.read(config),
        front=front_settings.read(config),
        catch_exceptions=settings.flag("catch-exceptions"),
        limits=_limits(config),
        harakiri_seconds=settings.integer("harakiri", 0),
        mercy_seconds=settings.integer("worker-reload-mercy", settings.integer("reload-mercy", DEFAULT_MERCY_SECONDS)),
        uid=settings.text("uid", ""),
        gid=settings.text("gid", ""),
        env=tuple(_env(value) for value in settings.texts("env")) + tuple(item for item in envdir if item[1]),
        unenv=settings.texts("unenv") + tuple(name for name, value in envdir if not value),
        binding=socket_settings.read(config),
        vacuum=settings.flag("vacuum"),
        locks=settings.integer("locks", 0) + 1,
        alarms=_alarms(config),
        log=log_settings.read(config),
        die_on_term=settings.flag("die-on-term"),
        life=life_settings.read(config, processes),
        process=process_settings.read(config),
        options=_module_options(config),
        name=settings.text("name", "") or _default_name(config),
        runtime_dir=settings.text("runtime-dir", ""),
        state_dir=settings.text("state-dir", ""),
        features=features,
        pushes=_pushes(config),
        zerg=zerg_settings.read(config),
    )


def _daemon_sockets(config: Config) -> tuple[SocketWish, ...]:
    wishes = []
    if config.settings.text("stats", ""):
        wishes.append(SocketWish("stats", config.settings.text("stats", "")))
    snmp = config.settings.text("snmp", "")
    if ":" in snmp:
        wishes.append(SocketWish("snmp", snmp))
    if config.settings.text("udp", ""):
        wishes.append(SocketWish("udp", config.settings.text("udp", "")))
    return tuple(wishes)


def _full_vars(config: Config) -> bool:
    """Whether stats show all variables of a request (`stats-vars = full`) or the four of `request`."""
    option = config.settings.given("stats-vars")
    if option is not None and option.value not in {"full", "request"}:
        raise option.origin.error(f"stats-vars takes full or request, not {option.value!r}")
    return option is not None and option.value == "full"


def _pushes(config: Config) -> tuple[Wish, ...]:
    if not any(config.settings.given(name) for name in ("stats-push", "rrdtool", "carbon")):
        return ()
    from palatine_app_server.config import push_settings  # only whoever pushes pays for it

    sockets = socket_settings.read_sockets(config)
    return push_settings.read(config, sockets[0].address if sockets else "")


def _snmp_wanted(config: Config) -> bool:
    return any(option.name in {"snmp", "snmp-community"} for option in config.options)


def _limits(config: Config) -> Limits:
    settings = config.settings
    timeout = float(settings.integer("socket-timeout", DEFAULT_SOCKET_TIMEOUT, minimum=1))
    read = float(settings.integer("http-timeout", int(timeout), minimum=1))
    idle = settings.integer("http-keepalive")
    return Limits(
        head_bytes=settings.integer("buffer-size", DEFAULT_BUFFER, minimum=1, maximum=65535),
        body_bytes=settings.integer("limit-post", 0),
        uwsgi_variables=settings.flag("allow-uwsgi-variables"),
        expected_bytes=expected if (expected := settings.integer("http-manage-expect")) > 1 else 0,
        body_memory_bytes=settings.integer("post-buffering", 0) or BODY_MEMORY_BYTES,
        chunk_seconds=_chunk_seconds(settings, timeout),
        chunk_bytes=settings.integer("chunked-input-limit", 1024 * 1024, minimum=1),
        head_seconds=float(settings.integer("http-headers-timeout", int(read), minimum=1)),
        read_seconds=read,
        write_seconds=float(settings.integer("so-send-timeout", int(timeout), minimum=1)),
        modifiers=socket_settings.modifiers(config),
        idle_seconds=float(idle) if idle > 1 else DEFAULT_IDLE_SECONDS,  # 1 is "yes", which it is anyway
    )


def _chunk_seconds(settings: Settings, timeout: float) -> float:
    """For a chunk an app reads itself; 0 where it is called when all of a body is there."""
    if not any(settings.given(name) for name in _CHUNKED):
        return 0.0
    return float(settings.integer("chunked-input-timeout") or timeout)


def _alarms(config: Config) -> AlarmSettings:
    settings = config.settings
    alarms, rules = [], []
    for option in config.options:
        if option.name == "alarm":
            alarms.append(option.parsed(alarm_grammar.parse_alarm))
        elif option.name in _ALARM_RULES:
            negate = option.name.startswith("not-")
            rules.append(option.parsed(partial(alarm_grammar.parse_rule, negate=negate)))
    alarm_grammar.check_rules(alarms, rules)
    backlog = settings.items("alarm-backlog")
    for option in backlog:
        if option.value not in {alarm.name for alarm in alarms}:
            raise option.origin.error(f"unknown alarm: {option.value}")
    return AlarmSettings(
        alarms=tuple(alarms),
        rules=tuple(rules),
        backlog=tuple(option.value or "" for option in backlog),
        freq=settings.integer("alarm-freq", 3),
        message_bytes=settings.integer("alarm-msg-size", 8192, minimum=1),
    )


def _env(value: str) -> tuple[str, str]:
    name, _, text = value.partition("=")
    return name, text


def _module_options(config: Config) -> dict[str, Any]:
    """`uwsgi.opt` as Python 3 apps know it: bytes, True for a bare flag of the command line; of repeated ones the last.

    A bare key of a file is empty.
    """
    return {
        option.name: True if not option.value and option.origin == COMMAND_LINE else (option.value or "").encode()
        for option in config.options
    }


def _default_name(config: Config) -> str:
    """The stem of the first config file; "" when everything came by command line and environment."""
    for option in config.options:
        name, extension = os.path.splitext(os.path.basename(option.origin.path))
        if extension:
            return name
    return ""
