"""A configuration for people: as `--show-config` prints it, and line by line with what became of each option."""

from collections.abc import Mapping
from typing import NamedTuple

from palatine.codec.config_source import Origin
from palatine.config.effects import IMPLEMENTED, Effect, Effects
from palatine.config.files import format_of, split_section
from palatine.config.load import Config, inspect
from palatine.config.settings import Option
from palatine.config.table import Table


class Line(NamedTuple):
    """One option: where it stands, its name and value after all passes, its verdict and the reason.

    The verdict is one of `palatine.config.effects`, "placeholder", or "unknown".
    """

    origin: Origin
    name: str
    value: str
    verdict: str
    reason: str


def show(config: Config) -> str:
    """The text of `--show-config`."""
    lines = "".join(f"{option.name} = {shown_value(option)}\n" for option in config.options)
    return f"\n;uWSGI instance configuration\n[uwsgi]\n{lines};end of configuration\n\n"


def shown_value(option: Option) -> str:
    """The value as uWSGI shows it: a bare flag of the command line is "true"."""
    return "true" if option.value is None else option.value


def inspect_file(name: str, environ: Mapping[str, str], *, cwd: str) -> Config:
    """The configuration in `name` (a path or URL, with or without `:section`) alone, without UWSGI_ variables."""
    kind = format_of(split_section(name)[0])
    plain = {variable: value for variable, value in environ.items() if not variable.startswith("UWSGI_")}
    return inspect([f"--{kind}", name], plain, cwd=cwd)


def resolved(config: Config) -> list[Line]:
    """What becomes of each option here."""
    table, effects = Table(), Effects()
    lines = []
    for option, found in zip(config.options, config.verdicts, strict=True):
        reason = found.reason.message if found.reason else ""
        kind = table.find(option.name)
        if found.status != "option":
            effect = Effect(found.status, reason or "a value for %() and if-opt")
        elif kind is None:
            effect = Effect(IMPLEMENTED, "an option this configuration declares")
        else:
            effect = effects.of(kind)
        lines.append(Line(option.origin, option.name, shown_value(option), *effect))
    return lines
