"""Where runtime, state and config files live. Plain: master, zygote and workers load this.

| what        | default                                             | override                                |
|-------------|-----------------------------------------------------|-----------------------------------------|
| runtime dir | /run/palatine, else $XDG_RUNTIME_DIR/palatine,      | --runtime-dir, $PALATINE_RUNTIME_DIR    |
|             | else /tmp/palatine-<uid>                            |                                         |
| state dir   | /var/lib/palatine/<daemon>,                         | --state-dir, $PALATINE_STATE_DIR        |
|             | else $XDG_STATE_HOME/palatine/<daemon>              |                                         |
| config file | /etc/palatine/<daemon>.yaml                         | --config, $PALATINE_CONFIG              |
"""

import os
import re
import stat
from pathlib import Path
from typing import Final

from palatine.errors import ConfigError

#: Members of this group read every instance's counters; app uids never belong to it.
GROUP: Final = "palatine"
INSTANCE_NAME_BYTES: Final = 40

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def runtime_dir(override: str | None = None) -> Path:
    """The runtime directory, created if it must be; ConfigError if it cannot be made or belongs to somebody else."""
    named = override or os.environ.get("PALATINE_RUNTIME_DIR")
    if named:
        return _made(Path(named).absolute(), 0o755)
    system = Path("/run/palatine")
    if _usable(system):
        return _made(system, 0o755)
    xdg = os.environ.get("XDG_RUNTIME_DIR")
    if xdg and _usable(Path(xdg)):
        return _made(Path(xdg) / "palatine", 0o700)
    private = _made(Path(f"/tmp/palatine-{os.geteuid()}"), 0o700)  # noqa: S108 - checked below: ours, and 0700
    facts = private.lstat()
    if facts.st_uid != os.geteuid() or not stat.S_ISDIR(facts.st_mode) or stat.S_IMODE(facts.st_mode) & 0o077:
        raise ConfigError("is not a directory of this user with mode 0700", str(private))
    return private


def state_dir(daemon: str, override: str | None = None) -> Path:
    """The directory of a daemon's journals, created 0700 if it must be."""
    return _made(_state_path(daemon, override), 0o700)


def has_state(daemon: str, override: str | None = None) -> bool:
    """Whether that directory exists."""
    try:
        return _state_path(daemon, override).is_dir()
    except PermissionError:  # the home of who started us, and we are somebody else now
        return False


def config_file(daemon: str, override: str | None = None) -> Path | None:
    """The daemon's YAML file, or None where none is named and the default does not exist."""
    named = override or os.environ.get("PALATINE_CONFIG")
    if named:
        return Path(named).absolute()
    default = Path("/etc/palatine") / f"{daemon}.yaml"
    return default if default.exists() else None


def is_private(runtime: Path) -> bool:
    """Whether this is the runtime directory one app made for itself and the daemons it started beside it."""
    return runtime.name.startswith("private-")


def daemon_dir(runtime: Path, daemon: str) -> Path:
    """`<runtime>/<daemon>/`, mode 0750: a host daemon's segment, ctl socket and lock."""
    return _made(runtime / daemon, 0o750)


def instances_dir(runtime: Path) -> Path:
    """`<runtime>/i/`: one directory per app-server instance."""
    return _made(runtime / "i", 0o755)


def safe_name(text: str) -> str:
    """`text` as an instance name: `[A-Za-z0-9._-]`, at most 40 bytes, never empty, never starting with a dot."""
    return _UNSAFE.sub("-", text).strip("-.")[:INSTANCE_NAME_BYTES] or "app"


def _state_path(daemon: str, override: str | None) -> Path:
    named = override or os.environ.get("PALATINE_STATE_DIR")
    if named:
        return Path(named).absolute() / daemon
    system = Path("/var/lib/palatine")
    if _usable(system):
        return system / daemon
    home = os.environ.get("XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    return Path(home) / "palatine" / daemon


def _usable(path: Path) -> bool:
    if path.is_dir():
        return os.access(path, os.W_OK | os.X_OK)
    return path.parent.is_dir() and os.access(path.parent, os.W_OK | os.X_OK)


def _made(path: Path, mode: int) -> Path:
    if path.is_dir():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=mode, exist_ok=True)
        path.chmod(mode)  # the umask may have taken bits away
    except OSError as error:
        raise ConfigError(f"cannot be made: {error.strerror}", str(path)) from error
    return path
