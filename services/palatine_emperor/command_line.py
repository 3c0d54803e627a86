"""A vassal's command line and environment, as uWSGI composes them; pure, must never look at the file it names."""

from collections.abc import Mapping
from typing import Final

import attrs

from palatine.codec.emperor_pipe import CONFIG_FD_VARIABLE, FD_VARIABLE
from palatine_emperor.broodlord_policy import SECTION
from palatine_emperor.settings import Settings
from palatine_emperor.vassal import Wanted

#: What the app-server is called where the keeper runs it without a program.
APP_SERVER: Final = "palatine-app-server"
#: uWSGI's own limit.
NAME_BYTES: Final = 254

_FLAGS: Final[Mapping[str, str]] = {
    ".xml": "--xml",
    ".ini": "--ini",
    ".yml": "--yaml",
    ".yaml": "--yaml",
    ".js": "--json",
    ".json": "--json",
}
#: The emperor's own business with its manager, its umbrella and, if it is a vassal itself, its own emperor.
_NOT_INHERITED: Final = frozenset(
    {
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "NOTIFY_SOCKET",
        "PALATINE_CONFIG",
        "PALATINE_PARENT",
        "PALATINE_UMBRELLA",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        "UWSGI_EMPEROR",
        "UWSGI_EMPEROR_PROXY",
        FD_VARIABLE,
        CONFIG_FD_VARIABLE,
    }
)
_FOR_VASSALS: Final = "UWSGI_VASSAL_"


@attrs.frozen
class Place:
    """Where palatine's own vassals live: their instance name, and this emperor's directories (state: "" for theirs)."""

    instance: str
    runtime_dir: str
    state_dir: str


def is_valid_name(name: str, extra: tuple[str, ...] = ()) -> bool:
    """Whether a monitor may call a vassal so: a known extension, printable UTF-8, short enough."""
    return flag_of(name, extra) is not None and name.isprintable() and len(name.encode()) <= NAME_BYTES


def flag_of(name: str, extra: tuple[str, ...] = ()) -> str | None:
    """The option that reads a config of this name; None if it is none."""
    for extension, flag in _FLAGS.items():
        if name.endswith(extension) and name != extension:
            return flag
    return "--config" if any(name.endswith(extension) for extension in extra) else None


def arguments(wanted: Wanted, settings: Settings, place: Place | None, program: str = "") -> tuple[str, ...]:
    """The vassal's argv: templates before, settings, its config, templates after; `place` for our own app-server."""
    name = wanted.zerg_of or wanted.name
    flag = flag_of(name, settings.emperor_extra_extension) or "--inherit"
    scheme = "emperor://" if wanted.config is not None else "exec://" if wanted.executable else ""
    source = f"{scheme}{name}:{SECTION}" if wanted.zerg else f"{scheme}{name}"
    own: list[tuple[str, str]] = []
    if place is not None:
        own = [("--name", place.instance), ("--runtime-dir", place.runtime_dir)]
        own += [("--state-dir", place.state_dir)] if place.state_dir else []
    pairs = [
        *(("--inherit", path) for path in settings.vassals_inherit_before),
        *(("--include", path) for path in settings.vassals_include_before),
        *(("--set", value) for value in settings.vassal_set),
        *own,
        (flag, source),
        *(("--inherit", path) for path in settings.vassals_inherit),
        *(("--include", path) for path in settings.vassals_include),
    ]
    return (program or APP_SERVER, *(word for pair in pairs for word in pair))


def environment(wanted: Wanted, environ: Mapping[str, str]) -> dict[str, str]:
    """The vassal's environment: the emperor's, with each `UWSGI_VASSAL_x` as `UWSGI_x`, and `UWSGI_VASSALS_DIR`."""
    result = {
        name: value
        for name, value in environ.items()
        if name not in _NOT_INHERITED and not name.startswith(_FOR_VASSALS)
    }
    for name, value in environ.items():
        if name.startswith(_FOR_VASSALS):
            result[f"UWSGI_{name.removeprefix(_FOR_VASSALS)}"] = value
    result["UWSGI_VASSALS_DIR"] = wanted.directory
    if wanted.zerg:
        result["UWSGI_BROODLORD_NUM"] = str(wanted.zerg)
    return result
