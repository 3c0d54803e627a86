"""A configuration for people: as `--show-config` prints it, and line by line with what became of each option."""

from collections.abc import Container, Mapping
from typing import NamedTuple

from palatine.codec.config_source import Origin
from palatine.config.files import format_of, split_section
from palatine.config.load import Config, inspect
from palatine.config.settings import Option
from palatine.config.table import Table


class Line(NamedTuple):
    """One option: where it stands, its name and value after all passes, its status and, unless that is ok, why.

    The status is "ok", "ignored" (an option of uWSGI this program does nothing with), "unknown" or "refused".
    """

    origin: Origin
    name: str
    value: str
    status: str
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


def resolved(config: Config, honoured: Container[str] | None = None) -> list[Line]:
    """What became of each option; those whose canonical name is not in `honoured`, if given, are "ignored"."""
    table = Table()
    lines = []
    for option, verdict in zip(config.options, config.verdicts, strict=True):
        status = verdict.status if verdict.status in {"unknown", "refused"} else "ok"
        reason = verdict.reason.message if verdict.reason else ""
        if verdict.status == "option" and honoured is not None and table.canonical(option.name) not in honoured:
            status, reason = "ignored", "palatine does nothing with this option"
        lines.append(Line(option.origin, option.name, shown_value(option), status, reason))
    return lines
