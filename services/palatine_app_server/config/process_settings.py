"""What the config says of the instance's processes besides its workers' number: orders, hooks, names, files. Plain.

Read with the rest of the settings; ConfigError names the line that is wrong.
"""

import os
import signal
from collections.abc import Mapping
from functools import partial
from typing import Final, NamedTuple

from palatine.codec import alarm_grammar
from palatine.config import Config, Option
from palatine_app_server.config import attached_settings, start_settings
from palatine_app_server.config.attached_settings import DaemonWish
from palatine_app_server.config.start_settings import StartSettings
from palatine_app_server.orders.fd_orders import FdOrder
from palatine_app_server.orders.touches import Touch
from palatine_app_server.starting import hooks
from palatine_app_server.starting.hooks import CALL_MOMENTS, EXEC_MOMENTS, MOMENTS, MOUNT_MOMENTS, SHELL, Hook
from palatine_app_server.system.titles import TitleSettings

_TOUCHES: Final = ("reload", "workers-reload", "chain-reload")
_FD_RELOADS: Final = ("reload-on-fd", "brutal-reload-on-fd")
#: As in uWSGI. Seconds.
DEFAULT_FORKBOMB_SECONDS: Final = 2
_TREES: Final = ("reload", "brutal-reload", "signal")
_TOUCHES_WITH_ARGUMENT: Final = ("exec", "signal")


class HarakiriSettings(NamedTuple):
    """Options harakiri-*."""

    verbose: bool = False
    graceful_seconds: int = 0
    graceful_signal: int = signal.SIGTERM
    queue_threshold: int = 0


class Rights(NamedTuple):
    """Beside uid and gid: users and groups by name or number."""

    immediate_uid: str = ""  # from the start, before anything is bound
    immediate_gid: str = ""
    additional_gids: tuple[str, ...] = ()
    init_groups: bool = True
    master_as_root: bool = False  # only zygotes and workers become uid and gid
    umask: int | None = None


class ProcessSettings(NamedTuple):
    """Paths are as the config spells them; `hooks` by moment."""

    touches: tuple[Touch, ...] = ()
    fs: tuple[Touch, ...] = ()  # fs-reload and its kin: the kernel tells, nobody looks
    fifos: tuple[str, ...] = ()
    early_pidfiles: tuple[str, ...] = ()  # written before privileges are dropped
    pidfiles: tuple[str, ...] = ()  # and after
    safe_pidfiles: tuple[str, ...] = ()  # once the instance serves
    titles: TitleSettings = TitleSettings()
    hooks: Mapping[str, tuple[Hook, ...]] = {}
    tracebacker: str = ""  # where each worker's threads can be looked at
    worker_program: str = ""  # a program that is executed in place of each worker
    worker_override: str = ""  # a script that is run in place of each worker
    auto_reload: int = 0  # seconds
    auto_reload_ignored: tuple[str, ...] = ()
    exit_on_reload: bool = False
    crash_alarms: tuple[str, ...] = ()
    fd_orders: tuple[FdOrder, ...] = ()
    forkbomb_seconds: float = DEFAULT_FORKBOMB_SECONDS
    harakiri: HarakiriSettings = HarakiriSettings()
    daemons: tuple[DaemonWish, ...] = ()
    rights: Rights = Rights()
    start: StartSettings = StartSettings()
    shell: str = SHELL  # binsh
    background: str = ""  # where a detached instance logs
    background_waits: bool = False  # daemonize2: until it serves

    @property
    def all_pidfiles(self) -> tuple[str, ...]:
        """Everything `vacuum` removes."""
        return (*self.early_pidfiles, *self.pidfiles, *self.safe_pidfiles)

    def hooks_at(self, moment: str) -> tuple[Hook, ...]:
        """Those of one moment."""
        return self.hooks.get(moment, ())


def read(config: Config) -> ProcessSettings:
    """The settings of `config`."""
    settings = config.settings
    prefix = settings.given("procname-prefix")
    spaced = settings.given("procname-prefix-spaced")
    return ProcessSettings(
        touches=_touches(config),
        fs=tuple(
            _touch(config, f"fs-{order}", order, value) for order in _TREES for value in settings.texts(f"fs-{order}")
        ),
        fifos=settings.texts("master-fifo"),
        early_pidfiles=_last(config, "pidfile"),
        pidfiles=_last(config, "pidfile2"),
        safe_pidfiles=(*_last(config, "safe-pidfile"), *_last(config, "safe-pidfile2")),
        titles=TitleSettings(
            auto=settings.flag("auto-procname"),
            prefix=f"{spaced.value or ''} " if spaced else (prefix.value or "") if prefix else "",
            append=settings.text("procname-append", ""),
            name=settings.text("procname", ""),
            master=settings.text("procname-master", ""),
        ),
        hooks=_hooks(config),
        tracebacker=settings.text("py-tracebacker", ""),
        worker_program=settings.text("worker-exec", "") or settings.text("worker-exec2", ""),
        worker_override=settings.text("python-worker-override", ""),
        auto_reload=settings.integer("py-auto-reload", 0),
        auto_reload_ignored=settings.texts("py-auto-reload-ignore"),
        exit_on_reload=settings.flag("exit-on-reload"),
        crash_alarms=tuple(
            _known_alarm(config, option, option.value or "") for option in settings.items("alarm-segfault")
        ),
        fd_orders=_fd_orders(config),
        forkbomb_seconds=float(settings.integer("forkbomb-delay", DEFAULT_FORKBOMB_SECONDS)),
        harakiri=HarakiriSettings(
            verbose=settings.flag("harakiri-verbose"),
            graceful_seconds=settings.integer("harakiri-graceful-timeout", 0),
            graceful_signal=settings.integer("harakiri-graceful-signal", signal.SIGTERM, minimum=1, maximum=64),
            queue_threshold=settings.integer("harakiri-queue-threshold", 0),
        ),
        daemons=attached_settings.read(config),
        rights=_rights(config),
        start=start_settings.read(config),
        shell=_shell(config),
        background=settings.text("daemonize", "") or settings.text("daemonize2", ""),
        background_waits=settings.given("daemonize") is None,
    )


def _fd_orders(config: Config) -> tuple[FdOrder, ...]:
    items = config.settings.items
    reloads = [_fd_reload(name, option) for name in _FD_RELOADS for option in items(name)]
    return (*(_fd_alarm(config, option) for option in items("alarm-fd")), *reloads)


def _fd_reload(name: str, option: Option) -> FdOrder:
    """`FD[:SIZE]`; the descriptor may be written as fd://N."""
    number, size = _fd_and_size(option.value or "")
    if number < 0:
        raise option.origin.error(f"{name} takes a descriptor and perhaps a size, FD[:SIZE], not {option.value!r}")
    return FdOrder(name, number, size)


def _fd_alarm(config: Config, option: Option) -> FdOrder:
    """`ALARM FD[:SIZE] MESSAGE`; likewise."""
    words = (option.value or "").split(None, 2)
    number, size = _fd_and_size(words[1] if len(words) > 1 else "")
    if number < 0:
        raise option.origin.error(f"alarm-fd takes an alarm, a descriptor and a message, not {option.value!r}")
    alarm = _known_alarm(config, option, words[0])
    return FdOrder("alarm-fd", number, size, alarm, words[2] if len(words) > 2 else "")


def _fd_and_size(text: str) -> tuple[int, int]:
    """(descriptor, size); the descriptor is -1 where the text is neither."""
    number, _, size = text.removeprefix("fd://").partition(":")
    if not number.isdigit() or (size and not size.isdigit()):
        return -1, 0
    return int(number), int(size or 1)


def _known_alarm(config: Config, option: Option, name: str) -> str:
    known = {alarm_grammar.parse_alarm(each.value or "").name for each in config.settings.items("alarm")}
    if name not in known:
        raise option.origin.error(f"unknown alarm: {name}")
    return name


def _rights(config: Config) -> Rights:
    settings = config.settings
    umask = settings.given("umask")
    try:
        mask = int(umask.value or "", 8) if umask else None
    except ValueError as error:
        assert umask is not None
        raise umask.origin.error(f"umask takes an octal mode, not {umask.value!r}") from error
    return Rights(
        immediate_uid=settings.text("immediate-uid", ""),
        immediate_gid=settings.text("immediate-gid", ""),
        additional_gids=settings.texts("add-gid"),
        init_groups=not settings.flag("no-initgroups"),
        master_as_root=settings.flag("master-as-root"),
        umask=mask,
    )


def _touches(config: Config) -> tuple[Touch, ...]:
    found = [Touch(path, order) for order in _TOUCHES for path in config.settings.texts(f"touch-{order}")]
    for order in _TOUCHES_WITH_ARGUMENT:
        found += [_touch(config, f"touch-{order}", order, value) for value in config.settings.texts(f"touch-{order}")]
    return (*found, *config.settings.each("hook-touch", partial(_hook_touch, shell=_shell(config))))


def _hook_touch(text: str, shell: str) -> Touch:
    path, _, hook = text.partition(" ")
    hooks.parse(hook, "touch", shell)  # refused now, not when the file is touched
    return Touch(path, "hook", hook)


def _touch(config: Config, name: str, order: str, value: str) -> Touch:
    path, _, argument = value.partition(" ")
    option = config.settings.given(name)
    assert option is not None
    if order == "signal" and not (argument.isdigit() and int(argument) <= 255):
        raise option.origin.error(f"{name} takes a file and the number of a uwsgi signal, not {value!r}")
    if order == "exec" and not argument:
        raise option.origin.error(f"{name} takes a file and a command, not {value!r}")
    return Touch(path, order, argument)


def _hooks(config: Config) -> dict[str, tuple[Hook, ...]]:
    """In uWSGI's order: hooks, mounts, commands, functions."""
    shell = _shell(config)
    found: dict[str, tuple[Hook, ...]] = {}
    for moment in MOMENTS:
        wanted = _hooks_of(config, f"hook-{moment}", moment, "", shell)
        if moment in MOUNT_MOMENTS:
            wanted += _hooks_of(config, f"mount-{moment}", moment, "mount:", shell)
            wanted += _hooks_of(config, f"umount-{moment}", moment, "umount:", shell)
        if moment in EXEC_MOMENTS:
            wanted += _hooks_of(config, f"exec-{moment}", moment, "exec:", shell)
        if moment in CALL_MOMENTS:
            wanted += _hooks_of(config, f"call-{moment}", moment, "call:", shell)
        if wanted:
            found[moment] = tuple(wanted)
    return found


def _hooks_of(config: Config, name: str, moment: str, verb: str, shell: str) -> list[Hook]:
    return list(config.settings.each(name, lambda text: hooks.parse(f"{verb}{text}", moment, shell)))


def _shell(config: Config) -> str:
    """The first of binsh that can be executed."""
    return next((path for path in config.settings.texts("binsh") if os.access(path, os.X_OK)), SHELL)


def _last(config: Config, name: str) -> tuple[str, ...]:
    return config.settings.texts(name)[-1:]
