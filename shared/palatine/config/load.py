"""`load`: everything of this package put together. Must stay the only place where the default readers are chosen."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

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


class Config(NamedTuple):
    """A configuration that was read.

    `options` is every option and placeholder in uWSGI's order, as `--show-config` prints them; `settings` answers by
    type; `warnings` are complete sentences starting with file:line:column; `problems` are the errors `load` raises
    the first of (only `inspect` returns a Config that has any).
    """

    options: tuple[Option, ...]
    settings: Settings
    warnings: list[str]
    problems: tuple[ConfigError, ...]
    unknown: tuple[Option, ...]


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
    if config.problems:
        raise config.problems[0]
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
    """As `load`, but errors about single options are returned in `problems`; raises only where reading cannot go on."""
    host = host or Host(cwd)
    table = Table(extra_options)
    files = Files({**default_readers(cwd, environ), **(readers or {})}, Magic(host), cwd, yaml)
    loader = Loader(table, files, ACTIONS, environ, hostname=lambda: host.fact("h"), is_reload=is_reload)
    loader.run(argv)
    unknown = [slot for slot in loader.slots if slot.kind is None and not slot.used]
    warnings = loader.warnings + [_unknown(slot, table) for slot in unknown if not loader.strict]
    effective = [option for slot in loader.slots for option in _effective(slot)]
    return Config(
        tuple(Option(slot.name, slot.value, slot.origin) for slot in loader.slots),
        Settings(effective, table, warnings),
        warnings,
        tuple(loader.problems),
        tuple(Option(slot.name, slot.value, slot.origin) for slot in unknown),
    )


def _effective(slot: Slot) -> list[Option]:
    """What a slot sets: itself, or what it stands for; nothing if it is only a placeholder."""
    if slot.kind is None:
        return []
    return [Option(slot.name, slot.value, slot.origin), *(Option(*entry) for entry in slot.generated)]


def _unknown(slot: Slot, table: Table) -> str:
    hint = did_you_mean(slot.name, table.names())
    return f'{slot.origin}: unknown option "{slot.name}", kept as a placeholder{hint}'
