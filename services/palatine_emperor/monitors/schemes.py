"""Which monitor an `emperor` URL means; imports a monitor's library only where a URL asks for it."""

import glob
import os

from palatine.errors import ConfigError
from palatine_emperor.command_line import is_valid_name
from palatine_emperor.deploy_journal import DeployJournal
from palatine_emperor.monitors.files import directory_monitor, glob_monitor
from palatine_emperor.monitors.interface import Monitor
from palatine_emperor.settings import Settings


def open_monitor(url: str, settings: Settings, journal: DeployJournal, cwd: str) -> Monitor:
    """The monitor of `url`: `scheme://...`, or a bare path or pattern, which is globbed as uWSGI does.

    Those of files are shown without their scheme, as uWSGI shows them.

    Raises:
        ConfigError: an unknown scheme, or a directory named as such that does not exist.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _bare(url, settings, cwd)
    match scheme:
        case "dir":
            return _directory(rest, os.path.join(cwd, rest), settings)
        case "glob":
            return glob_monitor(rest, rest, cwd, settings)
        case "zmq":
            from palatine_emperor.monitors.queue import QueueMonitor

            return QueueMonitor(url, rest, cwd, settings, journal)
    raise ConfigError(f"no imperial monitor knows {scheme}:// (there are dir, glob, zmq)", url)


def _bare(path: str, settings: Settings, cwd: str) -> Monitor:
    """A path without a scheme: a directory if that is all it matches, else a pattern that may match later.

    What is no pattern, is not there and is not called as a config is, is a directory to come.
    """
    matches = glob.glob(path, root_dir=cwd)
    if len(matches) == 1 and os.path.isdir(os.path.join(cwd, matches[0])):
        return _directory(path, os.path.join(cwd, matches[0]), settings)
    if matches or glob.has_magic(path) or is_valid_name(os.path.basename(path), settings.emperor_extra_extension):
        return glob_monitor(path, path, cwd, settings)
    return directory_monitor(path, os.path.join(cwd, path), settings, may_come=True)


def _directory(url: str, path: str, settings: Settings) -> Monitor:
    if not os.path.isdir(path):
        raise ConfigError("is not a directory", path)
    return directory_monitor(url, path, settings)
