"""From words to a serving master: reads the config, settles the instance, and becomes its master, or an emperor.

The command calls it in its own process, the keeper in a freshly forked child.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, NoReturn

from palatine import config, exits
from palatine.codec import emperor_pipe, segment
from palatine.config.effects import NOT_YET, REFUSED
from palatine.config.show import resolved, show
from palatine.errors import ConfigError, PalatineError
from palatine.schema import INSTANCE
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
#: Of orders/emperor_proxy.py.
_PROXY: Final = "UWSGI_EMPEROR_PROXY"


def serve(argv: Sequence[str], environ: Mapping[str, str], *, cwd: str) -> int:
    """Read the config and be the master of what it describes; also called by the keeper in a forked child."""
    environ = dict(environ)
    umbrella = environ.pop(_UMBRELLA, "") == "1"
    for name in (_UMBRELLA, _PARENT):
        environ.pop(name, None)
        os.environ.pop(name, None)
    fallback = ""
    try:
        if _PROXY in environ:
            from palatine_app_server.orders import emperor_proxy  # who stands behind one is rare

            environ = emperor_proxy.through_proxy(environ)
        words = Words(tuple(argv), environ, cwd, umbrella)
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
    segment.encode_head(segment.plan(INSTANCE, {}), {}, uuid=bytes(16), boot_id=bytes(16), created=0)


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
    words = succession.remembered(words) if successor else words._replace(serves_stdin=sockets.listens(0))
    wanted = _settings(words, read)
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
    words, wanted = _with_something_to_do(words, wanted, read, successor=successor)
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


def _settings(words: Words, read: config.Config) -> settings.AppSettings:
    """What the config says, and the sockets others bound for us; there may be none at all."""
    wanted = settings.read(read)
    if wanted.process.background:
        wanted = wanted._replace(log=wanted.log._replace(logto=wanted.log.logto or wanted.process.background))
    _, unnamed = sockets.activated(wanted.sockets, words.environ, os.getpid())
    # systemd.socket(5): what no option asks for speaks the default protocol
    others = [SocketWish(socket_settings.protocol(read), f"fd://{fd}") for fd in unnamed]
    if wanted.zerg.nodes:
        others += [wish for wish, _ in words.given if wish.address.startswith(sockets.GIVEN)]
    if words.serves_stdin and not (wanted.sockets or others):
        others.append(SocketWish(socket_settings.protocol(read), sockets.STDIN))
    if others:
        traits = socket_settings.read_traits(read, [wish.kind for wish in others])
        return wanted._replace(sockets=(*wanted.sockets, *others), traits=traits)
    if not wanted.sockets:
        return wanted._replace(life=wanted.life._replace(cheap=True))  # nobody can come: no worker is ever needed
    return wanted


def _with_something_to_do(
    words: Words, wanted: settings.AppSettings, read: config.Config, *, successor: bool
) -> tuple[Words, settings.AppSettings]:
    """With the sockets of zerg servers, if the config names any; NoSocketError where there is nobody to serve then."""
    if wanted.zerg.nodes and not successor:
        words, wanted = _as_zerg(words, wanted, read)
    if not (wanted.sockets or _works_without_sockets(wanted)):
        raise NoSocketError("The -s/--socket option is missing and stdin is not a socket.")
    return words, wanted


def _as_zerg(words: Words, wanted: settings.AppSettings, read: config.Config) -> tuple[Words, settings.AppSettings]:
    """With the sockets of the zerg servers the config names; ZergError where one is not there."""
    from palatine_app_server.supervision import zergs  # most instances have their own

    def say(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    found = zergs.ask(wanted.zerg, socket_settings.protocol(read), say)
    if found:
        say("zerg sockets attached")
    own = socket_settings.read_sockets(read)
    words = words._replace(given=tuple(zergs.wishes(found, own)))
    return words, _settings(words, read)


def _works_without_sockets(wanted: settings.AppSettings) -> bool:
    """Whether there is something to do for an instance that serves nobody: uWSGI's "no-workers" mode."""
    start, features = wanted.process.start, wanted.features
    doors = wanted.zerg.pools or start.namespace_door or start.emperor_proxy
    udp = any(wish.kind == "udp" for wish in wanted.daemon_sockets)
    return bool(wanted.process.daemons or features.crons or features.spoolers.directories or doors or udp)


def _without_effect(read: config.Config) -> list[str]:
    """A line for each option that is read and does nothing; ConfigError for those that must not be passed over."""
    ignored = []
    for line in resolved(read):
        if line.verdict == REFUSED:
            raise line.origin.error(f"{line.name}: {line.reason}")
        if line.verdict == NOT_YET:
            ignored.append(f"{line.origin}: {line.name} has no effect here yet")
    return ignored


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
    return _settings(words, _load(words, again=True))


def _become_emperor(words: Words) -> None:
    """An `emperor` option makes this process an emperor: same pid, same words, another program."""
    if words.umbrella:
        os.environ[_UMBRELLA] = "1"
    sys.stdout.flush()
    command = [sys.executable, "-P", "-m", "palatine_emperor", *words.argv]
    os.execv(sys.executable, command)  # noqa: S606 - no shell wanted
