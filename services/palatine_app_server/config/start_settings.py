"""What the config says of an instance's start: locks, waits, limits, jails, files. Plain.

Read with the rest of the settings; ConfigError names the line that is wrong.
"""

from typing import Final, NamedTuple

from palatine.config import Config
from palatine.errors import ConfigError
from palatine_app_server.starting.gates import DEFAULT_SECONDS, Gate, Lock
from palatine_app_server.starting.limits import LimitSettings

#: Namespaces a worker cannot be put in while its master stays outside: it must be the master's child, of the app's uid.
_NOT_ALONE: Final = frozenset({"pid", "user"})


class JailSettings(NamedTuple):
    """What a zygote enters before it loads the app; `unshare` are flags of unshare(2)."""

    joined: tuple[str, ...] = ()  # sockets of instances that give their namespaces away
    unshare: int = 0
    root: str = ""
    pivot: tuple[str, str] | None = None  # the new root, and where below it the old one appears
    unshare_after: int = 0

    @property
    def has_root(self) -> bool:
        """Whether paths mean something else inside."""
        return bool(self.root or self.pivot)

    @property
    def wanted(self) -> bool:
        """Whether there is a jail at all."""
        return self != JailSettings()


class Patches(NamedTuple):
    """Commands the process becomes in place of serving."""

    privileged: tuple[str, ...] = ()
    unprivileged: tuple[str, ...] = ()


class StartSettings(NamedTuple):
    """Paths are as the config spells them."""

    locks: tuple[Lock, ...] = ()  # before anything else
    late_locks: tuple[Lock, ...] = ()  # once the log is open
    gates: tuple[Gate, ...] = ()
    app_gates: tuple[Gate, ...] = ()  # before the app is loaded
    limits: LimitSettings = LimitSettings()
    jail: JailSettings = JailSettings()
    capabilities: frozenset[int] = frozenset()
    drop_after_apps: bool = False
    files: tuple[tuple[str, str], ...] = ()  # path, text
    patches: Patches = Patches()
    keeps_stdin: bool = False
    runs_atexit: bool = True
    tears_down: bool = True
    directory: str = ""  # force-cwd
    mountpoints: tuple[str, ...] = ()  # check-mountpoint
    after_request: tuple[str, ...] = ()
    hooks_timed: bool = True  # harakiri counts while they run
    reaper: bool = False
    profiler: str = ""
    note_socket: str = ""
    namespace_door: str = ""  # setns-socket
    emperor_proxy: str = ""  # emperor-proxy-socket
    kept_namespaces: tuple[str, ...] = ()  # that it does not give away
    heartbeat: int = 0  # seconds
    help_seconds: int = 0  # vassal-sos
    help_queue: int = 0  # vassal-sos-backlog

    @property
    def steps_down(self) -> bool:
        """Whether the master only lends its rights to the app: each zygote needs them for a while."""
        return self.jail.wanted or self.drop_after_apps


def read(config: Config) -> StartSettings:
    """The settings of `config`."""
    settings = config.settings
    late = [Lock(settings.text(name, ""), waits) for name, waits in (("flock2", False), ("flock-wait2", True))]
    return StartSettings(
        locks=tuple(Lock(path, waits) for name, waits in _LOCKS for path in settings.texts(name)),
        late_locks=tuple(lock for lock in late if lock.path),
        gates=_gates(config),
        app_gates=_waits(config, "socket", "wait-for-socket", "wait-for-socket-timeout"),
        limits=_limits(config),
        jail=_jail(config),
        capabilities=_capabilities(config),
        drop_after_apps=settings.flag("drop-after-apps"),
        files=settings.each("file-write", _pair),
        patches=Patches(_patch(config, "privileged"), _patch(config, "unprivileged")),
        keeps_stdin=settings.flag("honour-stdin"),
        runs_atexit=not settings.flag("skip-atexit"),
        tears_down=not settings.flag("skip-atexit-teardown"),
        directory=settings.text("force-cwd", ""),
        mountpoints=settings.texts("check-mountpoint"),
        note_socket=settings.text("notify-socket", ""),
        namespace_door=settings.text("setns-socket", ""),
        kept_namespaces=settings.texts("setns-socket-skip"),
        emperor_proxy=settings.text("emperor-proxy-socket", ""),
        heartbeat=settings.integer("heartbeat", 0),
        help_seconds=settings.integer("vassal-sos", 0),
        help_queue=settings.integer("vassal-sos-backlog", 0),
        hooks_timed=not settings.flag("harakiri-no-arh"),
        reaper=settings.flag("reaper"),
        profiler=_profiler(config),
        after_request=settings.each("after-request-hook", _function),
    )


_LOCKS: Final = (("flock", False), ("flock-wait", True))


def _gates(config: Config) -> tuple[Gate, ...]:
    return (
        *_waits(config, "interface", "wait-for-interface", "wait-for-interface-timeout"),
        *_waits(config, "fs", "wait-for-fs", "wait-for-fs-timeout"),
        *_waits(config, "mountpoint", "wait-for-mountpoint", "wait-for-fs-timeout"),
    )


def _waits(config: Config, kind: str, option: str, timeout: str) -> tuple[Gate, ...]:
    seconds = config.settings.integer(timeout, DEFAULT_SECONDS) or DEFAULT_SECONDS
    return tuple(Gate(kind, name, seconds) for name in config.settings.texts(option))


def _limits(config: Config) -> LimitSettings:
    settings = config.settings
    mode = settings.given("cgroup-dir-mode")
    return LimitSettings(
        address_space=settings.size("limit-as"),
        processes=settings.integer("limit-nproc", 0),
        descriptors=settings.integer("max-fd", 0),
        priority=settings.integer("prio", 0, minimum=-20, maximum=19),
        cpus=settings.integer("cpu-affinity", 0),
        never_swap=settings.flag("never-swap"),
        merge=settings.integer("ksm", 0) > 0,
        cgroups=settings.texts("cgroup"),
        cgroup_options=settings.each("cgroup-opt", _cgroup_option),
        cgroup_mode=mode.parsed(_octal) if mode else 0o700,
    )


def _jail(config: Config) -> JailSettings:
    pivot = config.settings.given("pivot-root")
    unshare, after = (config.settings.given(name) for name in ("unshare", "unshare2"))
    return JailSettings(
        joined=tuple(filter(None, [config.settings.text("setns", "")])),
        unshare=unshare.parsed(_namespaces) if unshare else 0,
        root=config.settings.text("chroot", ""),
        pivot=pivot.parsed(_pivot) if pivot else None,
        unshare_after=after.parsed(_namespaces) if after else 0,
    )


def _namespaces(text: str) -> int:
    from palatine.kernel_words import NAMESPACES

    flags = 0
    for word in filter(None, text.split(",")):
        if word in _NOT_ALONE:
            raise ConfigError(f"a {word} namespace would hide the workers from their master: use a container")
        if word not in NAMESPACES:
            raise ConfigError(f"unknown namespace subsystem: {word} (there are {', '.join(NAMESPACES)})")
        flags |= NAMESPACES[word]
    return flags


def _pivot(text: str) -> tuple[str, str]:
    new, space, old = text.partition(" ")
    if not space:
        raise ConfigError("invalid pivot_root syntax, new_root and put_old must be separated by a space")
    return new, old.removeprefix(new).lstrip("/")


def _capabilities(config: Config) -> frozenset[int]:
    option = config.settings.given("cap")
    if option is None:
        return frozenset()
    from palatine.kernel_words import capabilities

    return option.parsed(capabilities)


def _profiler(config: Config) -> str:
    option = config.settings.given("profiler")
    if option is None:
        return ""
    if option.value not in {"pycall", "pyline"}:
        raise option.origin.error(f"unable to find profiler {option.value!r} (there are pycall, pyline)")
    return option.value


def _patch(config: Config, which: str) -> tuple[str, ...]:
    program = config.settings.text(f"{which}-binary-patch", "")
    return (program,) if program else tuple(config.settings.text(f"{which}-binary-patch-arg", "").split())


def _octal(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError as error:
        raise ConfigError(f"{text!r} is not an octal number") from error


def _cgroup_option(text: str) -> tuple[str, str]:
    return _pair(text if "=" in text else text.replace(":", "=", 1))


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ConfigError(f"it takes a name, = and a value, not {text!r}")
    return name, value


def _function(text: str) -> str:
    if not text.replace(":", ".").replace(".", "").isidentifier() or not set(text) & {".", ":"}:
        raise ConfigError(f"it takes MODULE:FUNCTION, a Python function (C functions cannot be called), not {text!r}")
    return text
