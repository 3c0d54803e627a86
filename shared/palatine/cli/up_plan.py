"""What `palatine up` runs, from a directory or configurations: which daemon with which words; must never start one."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from palatine.cli.words import CONFIG_ENDINGS
from palatine.errors import ConfigError
from palatine.places import safe_name

#: Those every machine needs, in the order in which they are shown.
ALWAYS: Final = ("stats-exporter", "snmp-agent", "alarm-daemon")
_APP_ENDINGS: Final = CONFIG_ENDINGS


class Part(NamedTuple):
    """A child of `palatine up`: what it is called, which daemon it is, its words, and what is added to its environment.

    `instance` is the app-server's instance name, "" for the others.
    """

    name: str
    daemon: str
    words: tuple[str, ...]
    environ: tuple[tuple[str, str], ...] = ()
    instance: str = ""


class Places(NamedTuple):
    """The directories everybody gets, and the options for logs."""

    runtime: str
    state: str
    log_format: str


def plan(demo: str | None, configs: Sequence[str], places: Places, without: Iterable[str] = ()) -> list[Part]:
    """The parts: daemons, an emperor for each directory of vassals, an app-server for each configuration.

    `demo` is a directory with app configurations (*.ini and so on), optionally `vassals/` and `<daemon>.yaml`.
    Each of `configs` is an app's configuration, or a directory of vassals. ConfigError for one that is not there.
    """
    folder = _directory(demo) if demo else None
    apps = sorted(path for path in folder.iterdir() if _is_app(path)) if folder else []
    courts = [folder / "vassals"] if folder and (folder / "vassals").is_dir() else []
    for config in configs:
        path = Path(config).absolute()
        if not path.exists():
            raise ConfigError("is not there", config)
        (courts if path.is_dir() else apps).append(path)
    parts = [Part(name, name, (*_common(places), *_own_config(folder, name))) for name in ALWAYS]
    if courts:
        parts.append(_emperor(courts, places, folder))
    parts += _app_servers(apps, places)
    return [part for part in parts if part.name not in set(without)]


def _directory(name: str) -> Path:
    path = Path(name).absolute()
    if not path.is_dir():
        raise ConfigError("is not a directory", name)
    return path


def _is_app(path: Path) -> bool:
    daemons = {f"{daemon}{ending}" for daemon in (*ALWAYS, "emperor") for ending in (".yaml", ".yml")}
    return path.name.endswith(_APP_ENDINGS) and path.is_file() and path.name not in daemons


def _common(places: Places) -> tuple[str, ...]:
    return ("--runtime-dir", places.runtime, "--state-dir", places.state, "--log-format", places.log_format)


def _own_config(folder: Path | None, daemon: str) -> tuple[str, ...]:
    path = folder / f"{daemon}.yaml" if folder else None
    return ("--config", os.fspath(path)) if path and path.is_file() else ()


def _emperor(courts: Sequence[Path], places: Places, folder: Path | None) -> Part:
    words = [*_common(places), *_own_config(folder, "emperor")]
    for court in courts:
        words += ["--emperor", os.fspath(court)]
    # under an umbrella an emperor that is stopped stops its vassals
    return Part("emperor", "emperor", tuple(words), (("PALATINE_UMBRELLA", "1"),))


def _app_servers(apps: Sequence[Path], places: Places) -> list[Part]:
    parts: list[Part] = []
    taken = {"emperor", *ALWAYS}
    for app in apps:
        name = stem = safe_name(app.stem)
        while name in taken:
            name = f"{stem}-{len(taken)}"
        taken.add(name)
        words = ("--runtime-dir", places.runtime, "--state-dir", places.state, "--name", name, os.fspath(app))
        parts.append(Part(name, "app-server", words, instance=name))
    return parts
