"""What an emperor is told: by `/etc/palatine/emperor.yaml`, then by uWSGI's words; must never act on any of it.

Both ways use uWSGI's option names. A word overrides the file; of what may be given several times, words are added.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from palatine import config
from palatine.config.table import Kind
from palatine.errors import ConfigError
from palatine_emperor import vassal_rights
from palatine_emperor.throttle_policy import Throttle
from palatine_emperor.vassal import Limits

#: Words of every daemon, which uWSGI does not know. `config` and `log-format` are taken out before (see `split_words`).
OWN_OPTIONS: Final[Mapping[str, Kind]] = {
    name: Kind(name) for name in ("runtime-dir", "state-dir", "log-level", "user", "group", "emperor-exec")
}
_DAEMON_FILES: Final = (".yaml", ".yml")
_LOG_STYLES: Final = ("auto", "console", "json")


def _positive(_: Any, attribute: "attrs.Attribute[Any]", value: float) -> None:
    if value <= 0:
        raise ValueError(f"{attribute.name.replace('_', '-')} must be above 0, not {value}", attribute)


def _read_by(parse: Callable[[str], object]) -> Callable[[Any, "attrs.Attribute[Any]", str], None]:
    """A validator: `parse` must make something of the text."""

    def check(_: Any, attribute: "attrs.Attribute[Any]", text: str) -> None:
        try:
            parse(text)
        except ConfigError as error:
            raise ValueError(f"{attribute.name.replace('_', '-')} = {text}: {error.message}", attribute) from error

    return check


@attrs.frozen
class Settings:
    """All settings, by uWSGI's names. Seconds, except the throttles, which are milliseconds.

    Attributes of our own: `emperors` (uWSGI: `emperor`, repeatable), `emperor_exec` (a program, such as the real uwsgi,
    for vassals our app-server refuses), `min_uid` (ids below it are refused where a message or a file's owner says whom
    a vassal runs as).
    """

    emperors: tuple[str, ...] = ()
    emperor_freq: float = attrs.field(default=3, validator=_positive)
    emperor_required_heartbeat: float = attrs.field(default=30, validator=_positive)
    emperor_curse_tolerance: float = attrs.field(default=30, validator=_positive)
    emperor_throttle: int = 1000
    emperor_max_throttle: int = 180_000
    emperor_no_blacklist: bool = False
    emperor_graceful_shutdown: bool = False
    emperor_stats: str = ""
    emperor_pidfile: str = ""
    emperor_procname: str = ""
    emperor_broodlord: int = 0
    emperor_use_clone: str = attrs.field(default="", validator=_read_by(vassal_rights.namespaces))
    emperor_cap: str = attrs.field(default="", validator=_read_by(vassal_rights.capabilities))
    emperor_tyrant: bool = False
    emperor_tyrant_nofollow: bool = False
    emperor_nofollow: bool = False
    emperor_magic_exec: bool = False
    emperor_extra_extension: tuple[str, ...] = ()
    emperor_on_demand_extension: str = ""
    emperor_on_demand_directory: str = ""
    emperor_on_demand_exec: str = ""
    emperor_wrapper: str = ""
    emperor_exec: str = ""
    emperor_wrapper_override: tuple[str, ...] = ()
    emperor_wrapper_fallback: tuple[str, ...] = ()
    vassals_inherit: tuple[str, ...] = ()
    vassals_include: tuple[str, ...] = ()
    vassals_inherit_before: tuple[str, ...] = ()
    vassals_include_before: tuple[str, ...] = ()
    vassal_set: tuple[str, ...] = ()
    vassals_start_hook: str = ""
    vassals_stop_hook: str = ""
    hook_emperor_start: tuple[str, ...] = ()
    hook_as_vassal: tuple[str, ...] = ()
    mount_as_vassal: tuple[str, ...] = ()
    umount_as_vassal: tuple[str, ...] = ()
    exec_as_vassal: tuple[str, ...] = ()
    hook_as_emperor: tuple[str, ...] = ()
    mount_as_emperor: tuple[str, ...] = ()
    umount_as_emperor: tuple[str, ...] = ()
    exec_as_emperor: tuple[str, ...] = ()
    reload_mercy: float = attrs.field(default=30, validator=_positive)
    ksm: bool = False  # the kernel may merge equal pages of the vassals
    listen: int = attrs.field(default=100, validator=_positive)
    pidfile: str = ""
    stats_http: bool = False
    stats_minified: bool = False
    min_uid: int = 1

    @property
    def limits(self) -> Limits:
        """What the vassals' policy obeys."""
        throttle = Throttle(
            self.emperor_freq, self.emperor_throttle, self.emperor_max_throttle, not self.emperor_no_blacklist
        )
        return Limits(
            throttle,
            self.emperor_curse_tolerance,
            self.emperor_required_heartbeat,
            self.emperor_graceful_shutdown,
            bool(self.emperor_exec),
            self.emperor_broodlord,
        )


@attrs.frozen
class Words:
    """A command line, split: what every daemon understands, and a config as uWSGI reads it."""

    daemon: tuple[str, ...]
    config: config.Config

    def over(self, base: Settings) -> Settings:
        """`base` with what the words say; ConfigError, with its place, for a value that makes no sense."""
        given: dict[str, Any] = {}
        for field in attrs.fields(Settings):
            option = "emperor" if field.name == "emperors" else field.name.replace("_", "-")
            if self.config.settings.given(option) is not None:
                given[field.name] = self._value(option, field.default, getattr(base, field.name))
        try:
            return attrs.evolve(base, **given)
        except ValueError as error:
            raise ConfigError(str(error.args[0]), "command line") from error

    def _value(self, option: str, default: Any, base: Any) -> Any:
        settings = self.config.settings
        if isinstance(default, bool):
            return settings.flag(option)
        if isinstance(default, int | float):
            return settings.integer(option)
        if isinstance(default, tuple):
            return (*base, *(item.value or "" for item in settings.items(option)))
        return settings.text(option) or ""


def read_words(argv: Sequence[str], cwd: str) -> Words:
    """Read a command line (without the program's name) and the files it names; ConfigError where that fails."""
    daemon, rest = split_words(argv)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("UWSGI_VASSAL")}
    read = config.load(rest, environ, cwd=cwd, extra_options=OWN_OPTIONS)
    for name in sorted(OWN_OPTIONS.keys() - {"emperor-exec"}):
        value = read.settings.text(name)
        if value is not None:
            daemon += [f"--{name}", value]
    for ours, uwsgis in (("user", "uid"), ("group", "gid")):
        value = read.settings.text(uwsgis)
        if value and not read.settings.given(ours):
            daemon += [f"--{ours}", value]
    return Words(tuple(daemon), read)


def split_words(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(words for the daemon, the rest): `--config` of a YAML file and `--log-format` of a style are not uWSGI's."""
    ours: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in {"--config", "--log-format"}:
            rest.append(word)
            continue
        if not equals:
            value = next(words, "")
        mine = value.endswith(_DAEMON_FILES) if name == "--config" else value in _LOG_STYLES
        (ours if mine else rest).extend([name, value])
    return ours, rest
