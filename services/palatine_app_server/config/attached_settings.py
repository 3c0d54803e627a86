"""Attached daemons as the config names them: attach-daemon, its smart kin, and the key=value form. Plain."""

import signal
from collections.abc import Mapping
from typing import Final, NamedTuple

from palatine.codec import keyval
from palatine.config import Config, Option
from palatine.errors import ConfigError
from palatine_app_server.supervision.attached_policy import DEFAULT_MOST_THROTTLE

DEFAULT_FREQUENCY: Final = 10
_KEYS: Final[Mapping[str, str]] = {
    spelling: spellings.split()[0]
    for spellings in (
        "command cmd exec", "pidfile", "freq", "control", "daemonize daemon", "touch", "stopsignal stop_signal",
        "reloadsignal reload_signal", "stdin", "uid", "gid", "chdir", "max_throttle", "notifypid",
    )
    for spelling in spellings.split()
}  # fmt: skip


class DaemonWish(NamedTuple):
    """One daemon. With a `pidfile` it is a smart one: it outlives the instance and is looked for by that file."""

    command: str
    pidfile: str = ""
    frequency: int = DEFAULT_FREQUENCY  # seconds between two looks at the pidfile
    daemonize: bool = False  # smart, and does not go to the background by itself
    control: bool = False  # the instance ends with it
    touches: tuple[str, ...] = ()
    stop_signal: int = signal.SIGTERM
    reload_signal: int = 0
    keep_stdin: bool = False
    uid: str = ""
    gid: str = ""
    chdir: str = ""
    most_throttle: int = DEFAULT_MOST_THROTTLE
    notify: bool = False  # a smart one hears of stops and reloads too


def read(config: Config) -> tuple[DaemonWish, ...]:
    """The daemons of `config`, in order; ConfigError names the line that is wrong."""
    keep_stdin = config.settings.flag("daemons-honour-stdin")
    forms = {
        "attach-daemon": lambda option: DaemonWish(_command(option)),
        "attach-control-daemon": lambda option: DaemonWish(_command(option), control=True),
        "smart-attach-daemon": lambda option: _smart(option, daemonize=False),
        "smart-attach-daemon2": lambda option: _smart(option, daemonize=True),
        "attach-daemon2": _keyed,
    }
    found = [forms[option.name](option) for option in config.options if option.name in forms]
    return tuple(wish._replace(keep_stdin=wish.keep_stdin or keep_stdin) for wish in found)


def _command(option: Option) -> str:
    if not option.value:
        raise option.origin.error(f"{option.name} takes a command")
    return option.value


def _smart(option: Option, *, daemonize: bool) -> DaemonWish:
    pidfile, _, command = (option.value or "").partition(" ")
    if not command.strip():
        text = f"invalid smart-attach-daemon syntax: {option.value}"
        raise option.origin.error(f"{text}: it takes a pidfile and a command")
    return DaemonWish(command.strip(), pidfile, daemonize=daemonize)


def _keyed(option: Option) -> DaemonWish:
    try:
        values = keyval.parse(option.value or "", _KEYS)
        return DaemonWish(
            command=values["command"],
            pidfile=values.get("pidfile", ""),
            frequency=int(values.get("freq", DEFAULT_FREQUENCY)),
            daemonize=_on(values, "daemonize"),
            control=_on(values, "control"),
            touches=tuple(path for path in values.get("touch", "").split(";") if path),
            stop_signal=_signal(values.get("stopsignal", "15")),
            reload_signal=_signal(values.get("reloadsignal", "0")),
            keep_stdin=_on(values, "stdin"),
            uid=values.get("uid", ""),
            gid=values.get("gid", ""),
            chdir=values.get("chdir", ""),
            most_throttle=int(values.get("max_throttle", DEFAULT_MOST_THROTTLE)),
            notify=_on(values, "notifypid"),
        )
    except KeyError as error:
        raise option.origin.error(f"{option.name} needs a command") from error
    except (ValueError, ConfigError) as error:
        raise option.origin.error(f"{option.name}: {error}") from error


def _on(values: Mapping[str, str], key: str) -> bool:
    return values.get(key, "0") not in {"0", "", "false"}


def _signal(text: str) -> int:
    number = int(text)
    if number and number not in signal.valid_signals():
        raise ValueError(f"there is no signal {number}")
    return number
