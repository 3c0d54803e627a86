"""`load`: everything of this package put together. Must stay the only place where the default readers are chosen."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from palatine.codec.config_math import leading_int
from palatine.config.directives import ACTIONS
from palatine.config.files import Files, Parser
from palatine.config.loader import Loader, Slot
from palatine.config.magic import Host, Magic
from palatine.config.readers import Reader, default_readers
from palatine.config.settings import Option, Settings
from palatine.config.suggest import did_you_mean
from palatine.config.table import Kind, Table
from palatine.config.yaml_child import parse_yaml_in_child
from palatine.errors import ConfigError


class Verdict(NamedTuple):
    """What became of an option: status "option", "placeholder", "unknown" or "refused", the last two with a reason."""

    status: str
    reason: ConfigError | None = None


class Config(NamedTuple):
    """A configuration that was read.

    `options` is every option and placeholder in uWSGI's order, as `--show-config` prints them, and `verdicts` what
    became of each; `settings` answers by type; `warnings` are complete lines starting with file:line:column, and
    reading a sloppy value through `settings` adds to them. Only `inspect` returns one with refused options.
    """

    options: tuple[Option, ...]
    verdicts: tuple[Verdict, ...]
    settings: Settings
    warnings: list[str]


def load(
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    cwd: str,
    extra_options: Mapping[str, Kind] | None = None,
    readers: Mapping[str, Reader] | None = None,
    host: Host | None = None,
    yaml: Parser = parse_yaml_in_child,
    is_reload: bool = False,
) -> Config:
    """Read a configuration from `argv` (without the program's name) and `environ`.

    `extra_options` are names this program knows on top of uWSGI's; `readers` replace or add sources by scheme;
    `host` answers for the machine; `yaml` parses YAML text, by default in a short-lived child. Raises ConfigError,
    with the place, for what cannot be read, is refused, or is unknown under `strict`; ConfigExit for `exit = N`.
    """
    config = inspect(
        argv,
        environ,
        cwd=cwd,
        extra_options=extra_options,
        readers=readers,
        host=host,
        yaml=yaml,
        is_reload=is_reload,
    )
    for verdict in config.verdicts:
        if verdict.status == "refused" and verdict.reason:
            raise verdict.reason
    return config


def inspect(
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    cwd: str,
    extra_options: Mapping[str, Kind] | None = None,
    readers: Mapping[str, Reader] | None = None,
    host: Host | None = None,
    yaml: Parser = parse_yaml_in_child,
    is_reload: bool = False,
) -> Config:
    """As `load`, but a refused option is a verdict; raises ConfigError only where reading cannot go on."""
    host = host or Host(cwd)
    table = Table(extra_options)
    files = Files({**default_readers(cwd, environ), **(readers or {})}, Magic(host), cwd, yaml)
    loader = Loader(table, files, ACTIONS, environ, hostname=lambda: host.fact("h"), is_reload=is_reload)
    try:
        loader.run(argv)
    except ConfigError as error:
        error.fallback = loader.option("fallback-config") or ""
        raise
    verdicts = tuple(_verdict(slot, table) for slot in loader.slots)
    warnings = loader.warnings + [str(verdict.reason) for verdict in verdicts if verdict.status == "unknown"]
    effective = [option for slot in loader.slots for option in _effective(slot)]
    options = tuple(Option(slot.name, slot.value, slot.origin) for slot in loader.slots)
    return Config(options, verdicts, Settings(effective, table, warnings), warnings)


def _effective(slot: Slot) -> list[Option]:
    """What a slot sets: itself, or what it stands for; nothing if it is only a placeholder."""
    if slot.kind is None:
        return []
    return [Option(slot.name, slot.value, slot.origin), *(Option(*entry) for entry in slot.generated)]


def _verdict(slot: Slot, table: Table) -> Verdict:
    if slot.problem:
        return Verdict("refused", slot.problem)
    if slot.kind:
        if slot.kind.type == "int" and leading_int(slot.value or "") < 0:
            return Verdict("refused", slot.origin.error(f"{slot.name} = {slot.value}: it must not be negative"))
        return Verdict("option")
    if slot.used:
        return Verdict("placeholder")
    hint = did_you_mean(slot.name, table.names())
    return Verdict("unknown", slot.origin.error(f'unknown option "{slot.name}", kept as a placeholder{hint}'))
