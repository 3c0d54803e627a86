"""What a master stands on, laid once before it serves: sockets, privileges, the segment, the first log lines.

Order matters and is the master's: sockets are bound with the rights it was started with, everything else is made with
the app's.
"""

import errno
import grp
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from palatine import __version__, places
from palatine.counters import Segment
from palatine.errors import ConfigError
from palatine.schema import INSTANCE
from palatine_app_server.config.settings import AppSettings
from palatine_app_server.config.socket_settings import CGI, HTTP, SocketSettings, SocketWish
from palatine_app_server.config.zerg_settings import POOL_DOOR, POOLED
from palatine_app_server.log import log_opening
from palatine_app_server.log.log_sinks import FileSink, Sink
from palatine_app_server.log.logs import Logs
from palatine_app_server.serving import build
from palatine_app_server.sharing import commons
from palatine_app_server.starting import gates, hooks, limits, privileges
from palatine_app_server.starting.privileges import ids
from palatine_app_server.system import linux, sockets
from palatine_app_server.system.instance import Place
from palatine_app_server.system.sockets import BindError, Bound
from palatine_app_server.uwsgi_module.snmp_values import SNMP_VALUES

BIND_AGAIN_SECONDS: Final = 0.05

#: What uWSGI calls the families of what a zerg server gives.
_FAMILIES: Final = {socket.AF_UNIX: "UNIX", socket.AF_INET: "INET", socket.AF_INET6: "INET6"}
_LOCKS: Final = ("signal", "filemon", "timer", "rbtimer", "cron", "rpc")


class Sockets(NamedTuple):
    """Everything the config asks for: workers accept from `requests`, other daemons serve what is `offered`.

    What is `pooled` is for zergs: nobody here accepts from it.
    """

    requests: tuple[Bound, ...]
    offered: tuple[Bound, ...]
    pooled: tuple[Bound, ...] = ()

    @property
    def everything(self) -> tuple[Bound, ...]:
        """All of them, in the order of `wishes`."""
        return (*self.requests, *self.offered, *self.pooled)


def wishes(settings: AppSettings) -> tuple[SocketWish, ...]:
    """What the config asks for, in the order of `Sockets.everything`."""
    return (*settings.sockets, *settings.daemon_sockets, *settings.zerg.wishes)


def bind_all(settings: AppSettings, left: Mapping[SocketWish, int], patience: float = 0.0) -> Sockets:
    """Bind what the config names; BindError or ConfigError for the first that cannot be.

    Descriptors `left` by a predecessor are taken instead, and closed where nothing asks for them any more. An address
    in use is tried again for `patience` seconds: the workers of a killed master finish what they serve.
    """
    deadline = time.monotonic() + patience
    wanted = set(wishes(settings))
    for wish, fd in left.items():
        if wish not in wanted:
            os.close(fd)

    def bind(wish: SocketWish) -> Bound:
        if wish in left:
            return sockets.taken_over(wish.kind, wish.address, left[wish])
        return _bind(settings, wish.kind, wish.address, deadline)

    groups = (settings.sockets, settings.daemon_sockets, settings.zerg.wishes)
    return Sockets(*(tuple(map(bind, group)) for group in groups))


def open_log(settings: AppSettings, *, begun: bool) -> Sink:
    """Open the log with the rights we were started with; `begun`: a predecessor wrote to it, so it is not truncated."""
    log = log_opening.open_log(settings.log, settings.log.logto, begun=begun)
    if settings.log.chown and isinstance(log, FileSink):
        uid, gid = ids(settings.uid, settings.gid)
        os.fchown(log.fd, -1 if uid is None else uid, -1 if gid is None else gid)
    return log


def drop_privileges(settings: AppSettings, place: Place, bound: Sockets, argv: Sequence[str]) -> None:
    """Become the user and group the config names, or only step down to them; the instance's directory goes with us."""
    process, start = settings.process, settings.process.start
    for lock in start.late_locks:
        gates.hold(lock)
    limits.put_on(start.limits)
    _become_another(start.patches.privileged, argv, bound)
    for moment in ("pre-jail", "post-jail", "in-jail"):
        hooks.run(process.hooks_at(moment), moment)
    _write_files(start.files)
    if start.steps_down:
        _own_directory(settings.uid, settings.gid, place)
        rights = process.rights
        if not rights.master_as_root:
            privileges.step_down(settings.uid, settings.gid, rights.additional_gids, init_groups=_account(settings))
    else:
        for gate in start.gates:
            gates.wait(gate)
        hooks.run(process.hooks_at("as-root"), "as-root")
        _own_directory(settings.uid, settings.gid, place)
        if not process.rights.master_as_root:
            become_app(settings)
        hooks.run(process.hooks_at("as-user"), "as-user")
        _become_another(start.patches.unprivileged, argv, bound)
    for gate in start.app_gates:
        gates.wait(gate)


def _own_directory(user: str, group: str, place: Place) -> None:
    uid, gid = ids(user, group)
    if os.geteuid() != 0 or (uid is None and gid is None):
        return
    os.chown(place.directory, -1 if uid is None else uid, _palatine_group(gid))
    if place.private:
        os.chown(place.runtime, -1 if uid is None else uid, -1 if gid is None else gid)


def _write_files(files: Sequence[tuple[str, str]]) -> None:
    for path, text in files:
        try:
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(f"{text}\n")
        except OSError as error:
            raise ConfigError(f"file-write {path}: {error.strerror}") from error


def _become_another(program: Sequence[str], argv: Sequence[str], bound: Sockets) -> None:
    """Execute `program` in our place, with our words where it has none, and with every socket we have bound."""
    if not program:
        return
    for one in bound.everything:
        one.socket.set_inheritable(True)
    words = [*program, *argv] if len(program) == 1 else list(program)
    try:
        os.execvp(words[0], words)  # noqa: S606 - no shell wanted
    except OSError as error:
        raise ConfigError(f"execvp(): {error.strerror}: {words[0]}") from error


def _account(settings: AppSettings) -> bool:
    """Whether the groups of the user's account are wanted."""
    return settings.process.rights.init_groups and bool(settings.uid) and not settings.uid.isdigit()


def become_app(settings: AppSettings) -> None:
    """Take the rights of the app, for ever: the master, or with master-as-root each zygote."""
    rights, capabilities = settings.process.rights, settings.process.start.capabilities
    try:
        privileges.become(
            settings.uid, settings.gid, rights.additional_gids,
            init_groups=_account(settings), capabilities=capabilities,
        )  # fmt: skip
    except OSError as error:
        raise ConfigError(f"the rights of uid, gid or cap cannot be taken: {error.strerror}") from error
    if settings.life.memory_report:
        linux.stay_dumpable()  # the master reads its workers' shares


def begin_with_rights(settings: AppSettings, place: Place) -> None:
    """What must hold before anything is bound or written: the umask, and the immediate user and group."""
    rights = settings.process.rights
    if rights.umask is not None:
        os.umask(rights.umask)
    _own_directory(rights.immediate_uid, rights.immediate_gid, place)
    privileges.become(rights.immediate_uid, rights.immediate_gid)


def make_spools(settings: AppSettings, cwd: str) -> None:
    """Make the spool directories, which `cwd` is the base of, with the rights we were started with."""
    uid, gid = ids(settings.uid, settings.gid)
    owner = (-1 if uid is None else uid, -1 if gid is None else gid)
    try:
        commons.make_spools(settings.features, cwd, owner if os.geteuid() == 0 else None)
    except OSError as error:
        raise ConfigError(f"spooler {error.filename}: {error.strerror}") from error


def make_segment(settings: AppSettings, place: Place, bound: Sockets, cwd: str) -> Segment:
    """The instance's counters, published: readers see the instance from now on."""
    cores = settings.processes * settings.threads
    locks = (*_LOCKS, *commons.locks(settings, cwd))
    points = settings.app.points
    rows = {
        "sockets": len(bound.requests), "slots": settings.processes, "workers": settings.processes,
        "cores": cores, "activity": cores, "apps": cores * len(points), "locks": settings.locks + len(locks),
        "snmp_values": SNMP_VALUES if settings.snmp else 0,
        "variables": cores if settings.stats_options["full_vars"] else 0,
        **commons.rows(settings),
    }  # fmt: skip
    rows["daemons"] = len(settings.process.daemons)
    labels = {
        "name": place.name,
        "version": "2.0.31",
        "palatine": __version__,
        "cwd": os.getcwd(),
        "threads": settings.threads,
        "processes": settings.processes,
        "needs": list(settings.companions),
        "sockets": [{"name": one.name, "proto": one.kind, "shared": 0, "can_offload": 0} for one in bound.requests],
        "offers": [{"kind": one.kind, "name": one.name} for one in bound.offered],
        "apps": [{"id": n, "modifier1": 0, "mountpoint": point, "chdir": ""} for n, point in enumerate(points)],
        "locks": [{"name": f"user {number}"} for number in range(settings.locks)] + [{"name": name} for name in locks],
        "daemons": [{"cmd": wish.command} for wish in settings.process.daemons],
        **commons.labels(settings, cwd),
    }
    segment = Segment.create(place.directory / "seg", INSTANCE, rows, labels)
    server = segment.cells("server")
    values = {"pid": os.getpid(), "uid": os.getuid(), "gid": os.getgid(), "started": int(time.time())}
    for name, value in values.items():
        server[segment.word("server", name)] = value
    segment.publish()
    return segment


def announce(settings: AppSettings, logs: Logs, bound: Sockets) -> None:
    """UWSGI's start-up lines, as far as they say something true here."""
    say = logs.say
    say(f"*** Starting uWSGI 2.0.31 (palatine {__version__}{build.suffix()}, 64bit) on [{time.ctime()}] ***")
    say(f"current working directory: {os.getcwd()}")
    if os.geteuid() == 0:
        say("*** WARNING: you are running uWSGI as root !!! (use the --uid flag) *** ")
    for number, (wish, one) in enumerate(zip(settings.sockets, bound.requests, strict=True)):
        family = "UNIX" if one.socket.family == socket.AF_UNIX else "TCP"
        how = "inherited" if one.inherited else "bound to"
        what = f"socket {number} {how} {family}"
        if wish.address.startswith(sockets.GIVEN):
            what = f"zerg socket {number} attached to {_FAMILIES[one.socket.family]}"
        say(f"uwsgi {what} address {one.name} fd {one.socket.fileno()}")
        fast = any(option == socket.TCP_FASTOPEN for _, option, _ in settings.binding.flags)
        if fast and not (one.path or one.inherited):
            say(f"TCP_FASTOPEN enabled on {one.name}")
    say(f"your server socket listen backlog is limited to {settings.listen} connections")
    say(f"your mercy for graceful operations on workers is {settings.mercy_seconds} seconds")
    say(f"*** Operational MODE: {_mode(settings)} ***")
    if "single-interpreter" not in settings.options:
        say("*** uWSGI is running in multiple interpreter mode ***")
    say(f"spawned uWSGI master process (pid: {os.getpid()})")
    for one in bound.offered:
        if one.kind == "stats":
            say(f"*** Stats server enabled on {one.name} fd: {one.socket.fileno()} ***")
        elif one.kind == "snmp":
            say(f"SNMP server enabled on {one.name}")
        else:
            say("UDP server enabled.")
    if settings.snmp and not any(one.kind == "snmp" for one in bound.offered):
        say("SNMP agent enabled.")


def _bind(settings: AppSettings, kind: str, address: str, deadline: float) -> Bound:
    while True:
        try:
            return _bind_now(settings, kind, address)
        except BindError as error:
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                raise
        time.sleep(BIND_AGAIN_SECONDS)  # the kernel tells nobody when an address becomes free; we supervise nothing yet


def _bind_now(settings: AppSettings, kind: str, address: str) -> Bound:
    if kind in {"snmp", "udp"}:
        return sockets.bind_datagram(kind, address)
    if kind == POOL_DOOR:
        return sockets.bind_door("zergpool", kind, address, settings.listen, _owned(settings))
    defers = settings.binding.defer and kind in {*HTTP, *CGI, "uwsgi", POOLED}
    defer = int(settings.limits.read_seconds) if defers else 0
    return sockets.bind_stream(kind, address, settings.listen, defer_seconds=defer, how=_owned(settings))


def _owned(settings: AppSettings) -> SocketSettings:
    """UNIX sockets' files belong to whom we are about to become: uWSGI drops its privileges before it binds."""
    how, process = settings.binding, settings.process
    if os.geteuid() != 0 or process.rights.master_as_root or process.start.drop_after_apps:
        return how
    uid, gid = ids(settings.uid, settings.gid)
    return how._replace(
        uid=how.uid if how.uid >= 0 or uid is None else uid, gid=how.gid if how.gid >= 0 or gid is None else gid
    )


def _mode(settings: AppSettings) -> str:
    if not settings.sockets:
        return "no-workers"
    if settings.processes == 1:
        return "threaded" if settings.threads > 1 else "single process"
    return "preforking+threaded" if settings.threads > 1 else "preforking"


def _palatine_group(fallback: int | None) -> int:
    try:
        return grp.getgrnam(places.GROUP).gr_gid
    except KeyError:
        return -1 if fallback is None else fallback
