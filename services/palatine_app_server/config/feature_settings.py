"""The config of what runs and is shared besides the workers: mules, spoolers, crons, caches, queue, areas. Plain.

Read with the rest of the settings; ConfigError names the line that is wrong.
"""

import os
from typing import Final, NamedTuple, TypeVar

from palatine.codec import keyval
from palatine.config import Config, Option
from palatine.errors import ConfigError
from palatine_app_server.config import metric_settings
from palatine_app_server.config.metric_settings import MetricsSettings
from palatine_app_server.config.values import whole_number
from palatine_app_server.scheduling.schedule_policy import CronTime, Timer
from palatine_app_server.sharing.signals_table import Farm

T = TypeVar("T")

DEFAULT_MERCY_SECONDS: Final = 60
DEFAULT_SPOOLER_FREQUENCY: Final = 30
DEFAULT_QUEUE_BLOCK: Final = 8192
MOST_AIDES: Final = 256
#: uWSGI's UMAX16, the default of a cache's block and hash table, and its default room for a key.
CACHE_BLOCK: Final = 65536
CACHE_KEY: Final = 2048
DEFAULT_SWEEP_SECONDS: Final = 3

_TIMERS: Final = ("signal-timer", "signal-rbtimer")
_LAST_SIGNAL: Final = 255
_CRON_KEYS: Final = {key: key for key in ("minute", "hour", "day", "month", "week", "unique", "harakiri", "legion")}
_CACHE_KEYS: Final = {
    spelling: spellings.split()[0]
    for spellings in (
        "name", "items max_items maxitems", "blocksize", "blocks", "hash", "hashsize hash_size", "keysize key_size",
        "store", "store_sync storesync", "store_delete storedelete", "bitmap", "lastmod", "math_initial",
        "ignore_full", "purge_lru lru", "lazy_expire lazy", "sweep_on_full", "clear_on_full", "no_expire",
        "nodes node", "sync", "udp udp_servers udp_server udpservers udpserver",
    )
    for spelling in spellings.split()
}  # fmt: skip
_CACHE_ITEMS: Final = {
    "add-cache-item": "item", "load-file-in-cache": "file", "load-file-in-cache-gzip": "gzip",
}  # fmt: skip
_AREA_KEYS: Final = {key: key for key in ("pages", "file", "fd", "ptr", "size", "offset")}


class MuleSettings(NamedTuple):
    """The mules: one entry of `programs` each, "" where it only waits for signals and messages."""

    programs: tuple[str, ...] = ()
    farms: tuple[Farm, ...] = ()
    queue_bytes: int = 0  # of a message queue; 0: the kernel's default
    harakiri_seconds: int = 0
    mercy_seconds: int = DEFAULT_MERCY_SECONDS
    touches: tuple[str, ...] = ()  # files whose change replaces them


class SpoolerSettings(NamedTuple):
    """The spoolers: one entry of `directories` a process, as the config spells it."""

    directories: tuple[str, ...] = ()
    external: tuple[str, ...] = ()  # served by another instance's spooler: only written to
    ordered: bool = False
    quiet: bool = False
    frequency: int = DEFAULT_SPOOLER_FREQUENCY
    max_tasks: int = 0
    chdir: str = ""
    harakiri_seconds: int = 0
    imports: tuple[str, ...] = ()
    touches: tuple[str, ...] = ()  # files whose change replaces them


class CronJob(NamedTuple):
    """A command by the clock; `harakiri_seconds` 0: it may run for ever."""

    time: CronTime
    command: str
    unique: bool = False
    harakiri_seconds: int = 0


class CacheSettings(NamedTuple):
    """One cache; an item takes one block, or with `bitmap` as many as it needs. Sizes in bytes."""

    name: str
    items: int
    blocks: int
    blocksize: int = CACHE_BLOCK
    keysize: int = CACHE_KEY
    hashsize: int = CACHE_BLOCK
    hash: str = "djb33x"
    bitmap: bool = False
    store: str = ""
    store_sync: int = 0  # seconds
    store_delete: bool = False
    math_initial: int = 0
    ignore_full: bool = False
    purge_lru: bool = False
    lazy_expire: bool = False
    sweep_on_full: int = 0
    clear_on_full: bool = False
    no_expire: bool = False


class CacheItem(NamedTuple):
    """What a cache holds from the start: `text` is KEY=VALUE, or a file, as it is or compressed."""

    kind: str  # "item", "file" or "gzip"
    cache: str  # "": every cache
    text: str


class QueueSettings(NamedTuple):
    """The queue: `slots` blocks; none without it."""

    slots: int = 0
    blocksize: int = DEFAULT_QUEUE_BLOCK
    store: str = ""
    store_sync: int = 0  # seconds


class AreaSettings(NamedTuple):
    """One shared area of `size` bytes; `file` is mapped where it is given."""

    size: int
    file: str = ""
    offset: int = 0


class Features(NamedTuple):
    """All of it."""

    mules: MuleSettings = MuleSettings()
    spoolers: SpoolerSettings = SpoolerSettings()
    crons: tuple[CronJob, ...] = ()
    timers: tuple[Timer, ...] = ()
    caches: tuple[CacheSettings, ...] = ()
    sweep_seconds: int = DEFAULT_SWEEP_SECONDS
    report_freed: bool = False
    queue: QueueSettings = QueueSettings()
    areas: tuple[AreaSettings, ...] = ()
    cache_items: tuple[CacheItem, ...] = ()
    signal_queue_bytes: int = 0
    metrics: MetricsSettings = MetricsSettings()

    @property
    def aides(self) -> bool:
        """Whether there are mules or spoolers."""
        return bool(self.mules.programs or self.spoolers.directories)


def read(config: Config) -> Features:
    """The features of `config`."""
    settings = config.settings
    return Features(
        mules=_mules(config),
        spoolers=_spoolers(config),
        crons=_crons(config),
        timers=tuple(option.parsed(_timer) for name in _TIMERS for option in settings.items(name)),
        caches=_caches(config),
        sweep_seconds=settings.integer("cache-expire-freq", DEFAULT_SWEEP_SECONDS, minimum=1),
        report_freed=settings.flag("cache-report-freed-items"),
        queue=_queue(config),
        areas=tuple(
            option.parsed(_area if option.name == "sharedarea" else _byte_area)
            for option in config.options
            if option.name in {"sharedarea", "py-sharedarea"}
        ),
        cache_items=tuple(
            CacheItem(_CACHE_ITEMS[option.name], *_item(option.value or ""))
            for option in config.options
            if option.name in _CACHE_ITEMS
        ),
        signal_queue_bytes=settings.integer("signal-bufsize", 0),
        metrics=metric_settings.read(config, _alarms(config)),
    )


def _alarms(config: Config) -> set[str]:
    """The names of the alarms; whether they are well-formed is another's question."""
    return {(option.value or "").partition(" ")[0] for option in config.settings.items("alarm")}


def _mules(config: Config) -> MuleSettings:
    programs: list[str] = []
    for option in config.options:
        if option.name == "mule":
            programs.append(option.value or "")
        elif option.name == "mules":
            programs += [""] * _whole(option, option.value or "0")
    if len(programs) > MOST_AIDES:
        raise ConfigError(f"{len(programs)} mules: at most {MOST_AIDES} can run")
    settings = config.settings
    farms = settings.each("farm", _farm)
    for option, farm in zip(settings.items("farm"), farms, strict=True):
        for mule in farm.mules:
            if not 1 <= mule <= len(programs):
                raise option.origin.error(f"invalid mule id: {mule}")
    return MuleSettings(
        programs=tuple(programs),
        farms=farms,
        queue_bytes=settings.integer("mule-msg-size", 0),
        harakiri_seconds=settings.integer("mule-harakiri", 0),
        mercy_seconds=settings.integer("mule-reload-mercy", DEFAULT_MERCY_SECONDS),
        touches=tuple(option.value or "" for option in settings.items("touch-mules-reload")),
    )


def _farm(text: str) -> Farm:
    name, colon, mules = text.partition(":")
    try:
        members = tuple(int(mule) for mule in mules.split(",") if mule)
    except ValueError:
        members = ()
    if not colon or not name or not members:
        raise ConfigError(f"invalid farm value ({text}) must be in the form name:mule[,muleN].")
    return Farm(name, members)


def _spoolers(config: Config) -> SpoolerSettings:
    settings = config.settings
    each = settings.integer("spooler-processes", 1, minimum=1, maximum=MOST_AIDES)
    named = [option.value for option in settings.items("spooler") if option.value]
    return SpoolerSettings(
        directories=tuple(directory for directory in named for _ in range(each)),
        external=tuple(option.value for option in settings.items("spooler-external") if option.value),
        ordered=settings.flag("spooler-ordered"),
        quiet=settings.flag("spooler-quiet"),
        frequency=settings.integer("spooler-frequency", DEFAULT_SPOOLER_FREQUENCY, minimum=1),
        max_tasks=settings.integer("spooler-max-tasks", 0),
        chdir=settings.text("spooler-chdir", ""),
        harakiri_seconds=settings.integer("spooler-harakiri", 0),
        imports=tuple(option.value for option in settings.items("spooler-import") if option.value),
        touches=tuple(option.value or "" for option in settings.items("touch-spoolers-reload")),
    )


def _crons(config: Config) -> tuple[CronJob, ...]:
    harakiri = config.settings.integer("cron-harakiri", 0)
    jobs = []
    for option in config.options:
        if option.name in {"cron", "unique-cron"}:
            job = option.parsed(_cron)
            jobs.append(job._replace(unique=option.name == "unique-cron", harakiri_seconds=harakiri))
        elif option.name == "cron2":
            jobs.append(option.parsed(lambda text: _cron2(text, harakiri)))
    return tuple(jobs)


def _cron(text: str) -> CronJob:
    *fields, command = text.split(None, 5) if len(text.split(None, 5)) == 6 else ["", ""]
    try:
        return CronJob(CronTime(*map(int, fields)), command)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"invalid cron syntax: {text!r} is not `minute hour day month week command`, each a number"
        ) from error


def _cron2(text: str, harakiri: int) -> CronJob:
    first, _, rest = text.partition(" ")
    values, command = (keyval.parse(first, _CRON_KEYS), rest) if "=" in first else ({}, text)
    if not command.strip():
        raise ConfigError(f"unable to parse cron definition: {text}")
    if "legion" in values:
        raise ConfigError("legions are not served: one instance runs its crons itself")
    numbers = {key: whole_number(values.get(key, "-1"), key=key) for key in ("minute", "hour", "day", "month", "week")}
    return CronJob(
        CronTime(**numbers),
        command,
        unique=bool(whole_number(values.get("unique", "0"), key="unique")),
        harakiri_seconds=whole_number(values["harakiri"], key="harakiri") if "harakiri" in values else harakiri,
    )


def _timer(text: str) -> Timer:
    signal, _, seconds = text.partition(" ")
    number = whole_number(signal, 0, key="signal")
    if number > _LAST_SIGNAL or not seconds.strip():
        raise ConfigError("invalid signal timer syntax, must be: <signal> <seconds>")
    return Timer(number, whole_number(seconds.strip(), 1, key="seconds"))


def _caches(config: Config) -> tuple[CacheSettings, ...]:
    settings = config.settings
    caches = []
    items = settings.integer("cache", 0)
    if items:
        caches.append(
            CacheSettings(
                "default",
                items,
                items,
                blocksize=settings.integer("cache-blocksize", CACHE_BLOCK, minimum=1),
                store=settings.text("cache-store", ""),
                store_sync=settings.integer("cache-store-sync", 0),
                no_expire=settings.flag("cache-no-expire"),
            )
        )
    for option in settings.items("cache2"):
        cache = option.parsed(_cache2)
        if any(known.name == cache.name for known in caches):
            raise option.origin.error(f"two caches are called {cache.name}")
        caches.append(cache)
    return tuple(caches)


def _cache2(text: str) -> CacheSettings:
    values = keyval.parse(text, _CACHE_KEYS)
    for network in ("nodes", "sync", "udp"):
        if network in values:
            raise ConfigError(f"cache {network}: caches are not replicated over the network; use a shared server")
    if not values.get("name") or not values.get("items"):
        raise ConfigError("a cache needs name= and items=")
    items = whole_number(values["items"], 1, key="items")
    blocks = whole_number(values.get("blocks", values["items"]), 1, key="blocks")
    if blocks < items:
        raise ConfigError(f"invalid number of cache blocks for {values['name']!r}: it must be at least {items} (items)")
    keysize = whole_number(values.get("keysize", str(CACHE_KEY)), 1, key="keysize")
    if keysize >= CACHE_BLOCK:
        raise ConfigError(f"invalid cache keysize for {values['name']!r}: it must be below {CACHE_BLOCK}")
    return CacheSettings(
        values["name"],
        items,
        blocks,
        blocksize=whole_number(values.get("blocksize", str(CACHE_BLOCK)), 1, key="blocksize"),
        keysize=keysize,
        hashsize=whole_number(values.get("hashsize", str(CACHE_BLOCK)), 1, key="hashsize"),
        hash=values.get("hash", "djb33x"),
        bitmap="bitmap" in values,
        store=values.get("store", ""),
        store_sync=whole_number(values.get("store_sync", "0"), key="store_sync"),
        store_delete="store_delete" in values,
        math_initial=whole_number(values.get("math_initial", "0"), key="math_initial"),
        ignore_full="ignore_full" in values,
        purge_lru="purge_lru" in values,
        lazy_expire="lazy_expire" in values,
        sweep_on_full=whole_number(values.get("sweep_on_full", "0"), key="sweep_on_full"),
        clear_on_full="clear_on_full" in values,
        no_expire="no_expire" in values,
    )


def _queue(config: Config) -> QueueSettings:
    settings = config.settings
    queue = QueueSettings(
        slots=settings.integer("queue", 0),
        blocksize=settings.integer("queue-blocksize", 0) or DEFAULT_QUEUE_BLOCK,
        store=settings.text("queue-store", ""),
        store_sync=settings.integer("queue-store-sync", 0),
    )
    page = os.sysconf("SC_PAGE_SIZE")
    option = settings.given("queue")
    if option is not None and queue.slots * queue.blocksize % page:
        raise option.origin.error(
            f"invalid queue size/blocksize {queue.blocksize}: must be a multiple of memory page size ({page} bytes)"
        )
    return queue


def _item(value: str) -> tuple[str, str]:
    """The cache and the rest of `[CACHE ]REST`."""
    cache, space, rest = value.partition(" ")
    return (cache, rest) if space else ("", value)


def _byte_area(text: str) -> AreaSettings:
    """`py-sharedarea = BYTES`."""
    return AreaSettings(whole_number(text, 1))


def _area(text: str) -> AreaSettings:
    page = os.sysconf("SC_PAGE_SIZE")
    if "=" not in text:
        return AreaSettings(whole_number(text, 1, key="pages") * page)
    values = keyval.parse(text, _AREA_KEYS)
    if "ptr" in values or "fd" in values:
        raise ConfigError("a sharedarea is memory or a file: ptr= and fd= are not served")
    size = _any_base(values.get("size", "0"))
    if "pages" in values:
        size = whole_number(values["pages"], 1, key="pages") * page
    if not size:
        raise ConfigError(f"you need to set a size for a sharedarea !!! [{text}]")
    return AreaSettings(-(-size // page) * page, values.get("file", ""), _any_base(values.get("offset", "0")))


def _whole(option: Option, text: str) -> int:
    return option.parsed(lambda _text: whole_number(text, 0))


def _any_base(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError as error:
        raise ConfigError(f"{text}: this is not a number of bytes") from error
