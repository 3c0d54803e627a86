"""The keeper: a plain, single-threaded fork server, parent and reaper of all vassals; it must never decide anything.

An emperor starts it (`palatine-app-server --keeper --fd N`, N a listening SOCK_SEQPACKET socket at
`<runtime>/emperor/keeper.sock`, mode 0600) and tells it by `palatine.codec.keeper` what to start, signal, hold and
forget. It forks vassals, holds the emperor's ends of their pipes and their on-demand sockets, reaps them and reports.

It outlives emperors: the next one connects to the same path and is given everything. There is a path, and not only a
socket pair, because the next emperor is a stranger to the keeper: systemd, `palatine up` or a shell starts it. With the
keeper as parent of the emperor instead, `palatine --emperor` would lose its pid, and every signal and exit code would
take a detour. The path lies in a 0750 directory, is 0600, and a peer's uid must be the keeper's own or root.

While no emperor is connected, vassals go on, deaths are kept for the next one, and nothing is restarted. Keeper and
emperor both hold the pipes, so either may be killed without a vassal noticing. Only when both are gone does a vassal
read end-of-file on its pipe, and then it stops by uWSGI's own rule: nobody could manage it any more, and its successor
needs its address.

Signals: TERM leaves once the last vassal is gone (a supervisor sends it to a whole cgroup), the rest is ignored.
"""

import codecs
import contextlib
import importlib
import os
import resource
import select
import signal
import socket
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Final

from palatine.codec.keeper import (
    CONFIG,
    LOG,
    PIPE,
    SOCKET,
    Adopt,
    Died,
    Failed,
    Forget,
    Held,
    Hello,
    Hold,
    Note,
    Record,
    Release,
    Show,
    Signal,
    Spawn,
    Spawned,
    Welcome,
)
from palatine_app_server.keeping import vassal_jail
from palatine_app_server.keeping.keeper_child import Birth, Serve, enter, serve_app
from palatine_app_server.keeping.keeper_links import Links
from palatine_app_server.keeping.keeper_post import Post
from palatine_app_server.keeping.keeper_ward import Ward, pairs, start_time
from palatine_app_server.starting import kernel_jails
from palatine_app_server.system import linux

_IGNORED: Final = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGTSTP,
)


class Keeper:
    """The event loop over the emperor's connection and the children."""

    def __init__(self, listener: socket.socket, descriptors: int) -> None:
        self._descriptors = descriptors
        self._wards: dict[str, Ward] = {}
        self._leaving = False
        self._poll = select.epoll()
        self._post = Post(listener, self._poll)
        self._links = Links()
        self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(self._wakeup[0], select.EPOLLIN)

    def run(self) -> Birth | None:
        """Serve until told to leave; returns a `Birth` in each forked child, None in the keeper itself."""
        signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self.leave())
        for signum in _IGNORED:
            signal.signal(signum, signal.SIG_IGN)
        self._links.start()
        while not (self._leaving and not any(ward.running for ward in self._wards.values())):
            for descriptor, events in self._poll.poll():
                birth = self._ready(descriptor, events)
                if birth is not None:
                    return birth
        return None

    def leave(self) -> None:
        """Return from `run` once no vassal runs."""
        self._leaving = True

    def close(self) -> None:
        """Close every descriptor; in a forked child this leaves the vassal alone with its own."""
        signal.set_wakeup_fd(-1)
        self._post.close()
        self._poll.close()
        self._links.close()
        for descriptor in self._wakeup:
            os.close(descriptor)
        for ward in self._wards.values():
            ward.close()

    def _ready(self, descriptor: int, events: int) -> Birth | None:
        if descriptor == self._wakeup[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(descriptor, 4096)
            self._reap()
        elif descriptor == self._post.door:
            self._post.accept()
        elif descriptor == self._post.line:
            if events & select.EPOLLOUT:
                self._post.flush()
            if events & ~select.EPOLLOUT:
                return self._listen()
        else:
            self._reap_adopted(descriptor)
        return None

    # Orders

    def _listen(self) -> Birth | None:
        received = self._post.receive()
        if received is None:
            return None
        order, descriptors = received
        try:
            return self._obey(order, descriptors)
        finally:
            for descriptor in descriptors:  # an order takes out of the list what it keeps
                os.close(descriptor)

    def _obey(self, order: Record, descriptors: list[int]) -> Birth | None:
        match order:
            case Hello(parts=parts):
                if parts == (LOG, LOG) and len(descriptors) == len(parts):
                    os.dup2(descriptors[0], 1)
                    os.dup2(descriptors[1], 2)
                self._post.say(Welcome(os.getpid(), len(self._wards)))
            case Show(number):
                self._show(number)
            case Spawn():
                return self._spawn(order)
            case Release():
                self.leave()
            case _:
                self._tend(order, descriptors)
        return None

    def _tend(self, order: Record, descriptors: list[int]) -> None:
        match order:
            case Hold(key) if descriptors:
                self._ward(key).take(SOCKET, descriptors.pop())
            case Adopt():
                self._adopt(order, descriptors)
            case Note(key, note):
                self._ward(key).note = note
            case Signal(key, signum, group):
                self._signal(key, signum, group=group)
            case Forget(key):
                self._forget(key)
            case _:
                reason = f"{type(order).__name__.lower()} makes no sense here"
                self._post.say(Failed(getattr(order, "key", ""), reason))

    def _ward(self, key: str) -> Ward:
        return self._wards.setdefault(key, Ward(key))

    def _show(self, number: int) -> None:
        wards = list(self._wards.values())
        if not 0 <= number < len(wards):
            self._post.say(Held(""))
            return
        ward = wards[number]
        parts = tuple(ward.parts)
        held = Held(ward.key, ward.pid, ward.born, ward.dead, ward.status, ward.note, parts)
        self._post.say(held, [ward.parts[part] for part in parts])

    def _spawn(self, order: Spawn) -> Birth | None:
        ward = self._ward(order.key)
        if ward.running:
            self._post.say(Failed(order.key, f"runs already, pid {ward.pid}"))
            return None
        if order.on_demand and SOCKET not in ward.parts:
            self._post.say(Failed(order.key, "no on-demand socket is held for it"))
            return None
        ward.drop(PIPE, CONFIG)
        theirs: list[int] = []
        try:
            ours, theirs = pairs(2 if order.config else 1)
            for part, descriptor in zip((PIPE, CONFIG), ours, strict=False):
                ward.take(part, descriptor)
            pid = vassal_jail.fork(order.namespaces)
        except OSError as error:
            for descriptor in theirs:
                os.close(descriptor)
            self._post.say(Failed(order.key, f"cannot start a process: {error.strerror}"))
            return None
        if pid == 0:
            stdin = os.dup(ward.parts[SOCKET]) if order.on_demand else -1
            config = theirs[1] if order.config else -1
            return Birth(order, theirs[0], config, stdin, self._descriptors, self._links.take_in_child())
        for descriptor in theirs:
            os.close(descriptor)
        ward.begin(pid, order.note)
        parts = tuple(part for part in (PIPE, CONFIG) if part in ward.parts)
        self._post.say(Spawned(order.key, pid, ward.born, parts), [ward.parts[part] for part in parts])
        return None

    def _adopt(self, order: Adopt, descriptors: list[int]) -> None:
        ward = self._ward(order.key)
        for part in reversed(order.parts[: len(descriptors)]):
            ward.take(part, descriptors.pop())
        ward.note = order.note
        if not order.pid:
            return
        ward.pid, ward.born, ward.dead = order.pid, order.born, False
        try:
            ward.pidfd = os.pidfd_open(order.pid)
        except OSError:
            ward.pidfd = -1
        if ward.pidfd < 0 or start_time(order.pid) != order.born:
            self._lose(ward, None)
            return
        self._poll.register(ward.pidfd, select.EPOLLIN)

    def _signal(self, key: str, signum: int, *, group: bool) -> None:
        ward = self._wards.get(key)
        if ward is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if ward.running and (not group or os.getpgid(ward.pid) != ward.pid):  # forked just now, it leads no group
                os.kill(ward.pid, signum)
        for pgid in ward.groups() if group else ():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pgid, signum)

    def _forget(self, key: str) -> None:
        ward = self._wards.get(key)
        if ward is None or ward.running:
            return
        del self._wards[key]
        ward.close()

    # Deaths

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._links.reaped(pid)
            for ward in self._wards.values():  # others are orphans of vassals: nobody waits for them
                if ward.running and ward.pid == pid:
                    self._lose(ward, status)

    def _reap_adopted(self, descriptor: int) -> None:
        for ward in self._wards.values():
            if ward.pidfd == descriptor:
                self._poll.unregister(descriptor)
                self._lose(ward, None)

    def _lose(self, ward: Ward, status: int | None) -> None:
        ward.end(status)
        self._post.say(Died(ward.key, ward.pid, status))


def main(argv: Sequence[str] | None = None, serve: Serve = serve_app) -> int:
    """Be a keeper; in each forked child, be that vassal. Returns the exit code of whichever this process became."""
    parser = ArgumentParser(prog="palatine-app-server --keeper", description="Fork server of an emperor's vassals.")
    parser.add_argument("--keeper", action="store_true", help="said by whoever dispatched here")
    parser.add_argument("--fd", type=int, required=True, help="listening SOCK_SEQPACKET socket the emperor bound")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    parser.add_argument("--descriptors", type=int, default=soft, help="soft limit of descriptors for vassals")
    parser.add_argument("--ksm", action="store_true", help="let the kernel merge equal pages of all vassals")
    args = parser.parse_args(argv)
    os.closerange(3, args.fd)  # what a shell or make left open for the emperor must not stay open as long as we live
    os.closerange(args.fd + 1, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # two or three descriptors a vassal
    linux.become_subreaper()
    if args.ksm:
        _be_mergeable()
    os.chdir("/")
    keeper = Keeper(socket.socket(fileno=args.fd), args.descriptors)
    _warm(serve)
    birth = keeper.run()
    keeper.close()
    if birth is None:
        return 0
    del keeper
    return enter(birth, serve)


def _be_mergeable() -> None:
    """Vassals, which inherit it, do the same in the same places: most pages they write are equal."""
    try:
        kernel_jails.merge_memory()
    except OSError as error:  # a kernel before 6.4, or one without KSM
        sys.stderr.write(f"[uwsgi-KSM] {error.filename}: {error.strerror}\n")


def _warm(serve: Serve) -> None:
    """Load what every vassal needs before the first fork, and keep the collector's hands off the shared pages."""
    for codec in ("ascii", "idna", "latin-1"):  # loaded on first use, when another uid may not be able to read them
        codecs.lookup(codec)
    if serve is serve_app:
        importlib.import_module("palatine_app_server.serve").rehearse()
    linux.be_ready_to_fork()
