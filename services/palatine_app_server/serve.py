"""From words to a serving master: reads the config, settles the instance, and becomes its master, or an emperor.

The command calls it in its own process, the keeper in a freshly forked child.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from palatine import config, exits
from palatine.codec import emperor_pipe
from palatine.config.show import show
from palatine.errors import PalatineError
from palatine_app_server import instance, master, settings, succession
from palatine_app_server.succession import Words
from palatine_app_server.vassal import EmperorPipe

_UMBRELLA = "PALATINE_UMBRELLA"
#: Set by `palatine up` for its children; a daemon the app starts must not take it for its own.
_PARENT = "PALATINE_PARENT"


def serve(argv: Sequence[str], environ: Mapping[str, str], *, cwd: str) -> int:
    """Read the config and be the master of what it describes; also called by the keeper in a forked child."""
    environ = dict(environ)
    umbrella = environ.pop(_UMBRELLA, "") == "1"
    for name in (_UMBRELLA, _PARENT):
        environ.pop(name, None)
        os.environ.pop(name, None)
    successor = succession.VARIABLE in environ
    try:
        read = _load(argv, environ, cwd, again=successor)
        for warning in read.warnings:
            sys.stderr.write(f"{warning}\n")
        if read.settings.given("emperor"):
            _become_emperor(argv, umbrella=umbrella)
        if read.settings.flag("show-config"):
            sys.stderr.write(show(read))
        if read.settings.flag("no-server"):
            return exits.OK
        wanted = settings.read(read)
        if wanted.app.chdir:
            os.chdir(wanted.app.chdir)
        place = instance.settle(
            wanted.name,
            wanted.runtime_dir,
            may_be_private=umbrella,
            identity=instance.identity_of(cwd, " ".join(argv)),
        )
        words = Words(tuple(argv), environ, cwd, umbrella)
        return master.start(wanted, place, words, partial(_reread, words))
    except PalatineError as error:
        sys.stderr.write(f"palatine-app-server: {error}\n")
        pipe = EmperorPipe.from_environment(environ)
        if pipe is not None:
            pipe.tell_reason(str(error))
        return error.exit_status


def _load(argv: Sequence[str], environ: Mapping[str, str], cwd: str, *, again: bool) -> config.Config:
    """Read the config; `again` has the Emperor send the one it holds on the config pipe."""
    if again and emperor_pipe.CONFIG_FD_VARIABLE in environ:
        pipe = EmperorPipe.from_environment(environ)
        if pipe is not None:
            pipe.tell(emperor_pipe.SEND_CONFIG)
    return config.load(argv, environ, cwd=cwd, is_reload=again)


def _reread(words: Words) -> settings.AppSettings:
    """The settings as the config says now; ConfigError where it cannot be read."""
    return settings.read(_load(words.argv, words.environ, words.cwd, again=True))


def _become_emperor(argv: Sequence[str], *, umbrella: bool) -> None:
    """An `emperor` option makes this process an emperor: same pid, same words, another program."""
    if umbrella:
        os.environ[_UMBRELLA] = "1"
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "palatine_emperor", *argv])  # noqa: S606 - no shell wanted
