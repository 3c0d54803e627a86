"""From words to a serving master: reads the config, settles the instance, and becomes its master, or an emperor.

The command calls it in its own process, the keeper in a freshly forked child.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, NoReturn

from palatine import config, exits
from palatine.codec import emperor_pipe
from palatine.config.effects import NOT_YET, REFUSED
from palatine.config.show import resolved, show
from palatine.errors import ConfigError, PalatineError
from palatine_app_server import commands
from palatine_app_server.config import settings, socket_settings
from palatine_app_server.config.socket_settings import SocketWish
from palatine_app_server.orders.vassal import EmperorPipe
from palatine_app_server.starting import gates
from palatine_app_server.supervision import master, succession
from palatine_app_server.supervision.succession import Words
from palatine_app_server.system import background, instance, sockets


class NoSocketError(PalatineError):
    """No socket is configured and none was inherited: exit code 1, as uWSGI's."""


#: Exit codes after which `fallback-config` is taken: uWSGI has only the first for what is wrong.
_FALLS_BACK: Final = frozenset({exits.FAILURE, exits.BAD_CONFIG})
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
    words = Words(tuple(argv), environ, cwd, umbrella)
    fallback = ""
    try:
        read = _load(words, again=succession.VARIABLE in environ)
        fallback = read.settings.text("fallback-config", "")
        done = commands.run(read, environ, cwd)
        code = _serve(words, read) if done is None else done
    except PalatineError as error:
        sys.stderr.write(f"palatine-app-server: {error}\n")
        fallback = fallback or (error.fallback if isinstance(error, ConfigError) else "")
        pipe = EmperorPipe.from_environment(environ)
        if pipe is not None and not fallback:
            pipe.tell_reason(str(error))
        code = error.exit_status
    if fallback and code in _FALLS_BACK:
        _fall_back(fallback, environ, cwd)
    return code


def _fall_back(name: str, environ: Mapping[str, str], cwd: str) -> NoReturn:
    """`fallback-config`: the same process with another configuration, and nothing of the words it was called with."""
    sys.stderr.write(f"!!! Fallback config to {name} !!!\n")
    sys.stderr.flush()
    os.chdir(cwd)
    command = [sys.executable, "-P", "-m", "palatine_app_server", name]
    os.execve(sys.executable, command, environ)  # noqa: S606 - no shell wanted


def rehearse() -> None:
    """Read a config for nothing: what a keeper has looked up before it forks, no vassal looks up again."""
    read = config.load(("--master", "--module", "app", "--http-socket", ":0", "--strict"), {}, cwd="/")
    _without_effect(read)
    settings.read(read)


def _serve(words: Words, read: config.Config) -> int:
    for warning in (*read.warnings, *_without_effect(read)):
        sys.stderr.write(f"{warning}\n")
    if read.settings.given("emperor"):
        _become_emperor(words)
    if read.settings.flag("show-config"):
        sys.stderr.write(show(read))
    if read.settings.flag("no-server"):
        return exits.OK
    successor = succession.VARIABLE in words.environ
    wanted = _settings(words, read, successor=successor)
    if read.settings.given("zabbix-template") and not successor:
        _write_zabbix_template(read.settings.text("zabbix-template", ""), wanted)
    start = wanted.process.start
    _enter(start.directory)
    for lock in start.locks:
        gates.hold(lock)
    if wanted.process.background and not successor and emperor_pipe.FD_VARIABLE not in words.environ:
        environ = dict(words.environ)
        code = background.detach(environ, wanted.log.logto, wait=wanted.process.background_waits)
        if code is not None:
            return code
        words = words._replace(environ=environ)
    _enter("" if start.jail.has_root else wanted.app.chdir)
    place = instance.settle(
        wanted.name,
        wanted.runtime_dir,
        may_be_private=words.umbrella,
        identity=instance.identity_of(words.cwd, " ".join(words.argv)),
    )
    return master.start(wanted, place, words, partial(_reread, words))


def _write_zabbix_template(path: str, wanted: settings.AppSettings) -> None:
    from palatine_app_server import zabbix_template
    from palatine_app_server.sharing.commons import metric_table

    table = metric_table(wanted)
    zabbix_template.write(path, table.rows if table else ())


def _settings(words: Words, read: config.Config, *, successor: bool) -> settings.AppSettings:
    wanted = settings.read(read)
    _, unnamed = sockets.activated(wanted.sockets, words.environ, os.getpid())
    if unnamed:  # systemd.socket(5): what no option asks for speaks the default protocol
        kind = socket_settings.protocol(read)
        wanted = wanted._replace(sockets=(*wanted.sockets, *(SocketWish(kind, f"fd://{fd}") for fd in unnamed)))
    if wanted.process.background:
        wanted = wanted._replace(log=wanted.log._replace(logto=wanted.log.logto or wanted.process.background))
    if wanted.sockets:
        return wanted
    return wanted._replace(sockets=(_stdin_socket(read, successor=successor),))


def _without_effect(read: config.Config) -> list[str]:
    """A line for each option that is read and does nothing; ConfigError for those that must not be passed over."""
    ignored = []
    for line in resolved(read):
        if line.verdict == REFUSED:
            raise line.origin.error(f"{line.name}: {line.reason}")
        if line.verdict == NOT_YET:
            ignored.append(f"{line.origin}: {line.name} has no effect here yet")
    return ignored


def _stdin_socket(read: config.Config, *, successor: bool) -> SocketWish:
    """The listener an Emperor or inetd left on descriptor 0; without one there is nobody to serve, as uWSGI says."""
    if not successor and not sockets.listens(0):
        raise NoSocketError("The -s/--socket option is missing and stdin is not a socket.")
    return SocketWish(socket_settings.protocol(read), "fd://0")


def _enter(directory: str) -> None:
    if directory:
        try:
            os.chdir(directory)
        except OSError as error:
            raise ConfigError(f"chdir(): {error.strerror}: {directory}") from error


def _load(words: Words, *, again: bool) -> config.Config:
    """Read the config; `again` has the Emperor send the one it holds on the config pipe."""
    if again and emperor_pipe.CONFIG_FD_VARIABLE in words.environ:
        pipe = EmperorPipe.from_environment(words.environ)
        if pipe is not None:
            pipe.tell(emperor_pipe.SEND_CONFIG)
    return config.load(words.argv, words.environ, cwd=words.cwd, is_reload=again)


def _reread(words: Words) -> settings.AppSettings:
    """The settings as the config says now; ConfigError where it cannot be read."""
    return _settings(words, _load(words, again=True), successor=True)


def _become_emperor(words: Words) -> None:
    """An `emperor` option makes this process an emperor: same pid, same words, another program."""
    if words.umbrella:
        os.environ[_UMBRELLA] = "1"
    sys.stdout.flush()
    command = [sys.executable, "-P", "-m", "palatine_emperor", *words.argv]
    os.execv(sys.executable, command)  # noqa: S606 - no shell wanted
