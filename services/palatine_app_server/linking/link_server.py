"""The warm sibling of the keeper: with a link's imports behind it, it forks links; it must never speak on a bus itself.

Masters that the keeper forked share one end of a socket pair, this process reads the other (`link_sibling.py` has the
messages). A link gets the rights of whoever asked for it, as the kernel attests them with the datagram, and none of the
groups beside. A master may have two links at a time, its old and its new one; further orders are refused by dropping
the lifeline. Nothing is ever said on the shared socket: any vassal could read it.

It ends when nobody is left who could ask.
"""

import argparse
import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from palatine import exits
from palatine_app_server.linking import link
from palatine_app_server.linking.link_sibling import ORDER_BYTES

#: Channel, lifeline and stderr.
_DESCRIPTORS: Final = 3
_CREDENTIALS: Final = struct.Struct("iII")
LINKS_PER_MASTER: Final = 2


class Order(NamedTuple):
    """A link to be forked, and for whom: `pid`, `uid` and `gid` are the kernel's word."""

    argv: list[str]
    environ: dict[str, str]
    pid: int
    uid: int
    gid: int
    channel: int
    lifeline: int
    stderr: int


class LinkServer:
    """Reads orders and forks; `run` returns an `Order` in each forked child, None at the end of the process itself."""

    def __init__(self, ear: socket.socket) -> None:
        self._ear = ear
        self._masters: dict[int, int] = {}  # pid of a link: pid of its master
        self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> Order | None:
        """Serve until the other end of the socket is closed everywhere."""
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)  # a terminal's: the masters decide how long links live
        poll = select.poll()
        poll.register(self._ear, select.POLLIN)
        poll.register(self._wake[0], select.POLLIN)
        while True:
            ready = {fd for fd, _events in poll.poll()}
            if self._wake[0] in ready:
                os.read(self._wake[0], 4096)
                self._reap()
            if self._ear.fileno() in ready:
                data, order = self._receive()
                if not data:
                    return None
                if order is not None and self._fork(order):
                    return order

    def leave_in_child(self) -> None:
        """In a forked child: nothing of this is the link's business."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        self._ear.close()
        for fd in self._wake:
            os.close(fd)

    def _receive(self) -> tuple[bytes, Order | None]:
        """One datagram and the order in it, if it is one; descriptors of what is none are closed."""
        space = socket.CMSG_SPACE(_DESCRIPTORS * 4) + socket.CMSG_SPACE(_CREDENTIALS.size)
        data, ancillary, flags, _ = self._ear.recvmsg(ORDER_BYTES, space, socket.MSG_CMSG_CLOEXEC)
        fds: list[int] = []
        pid = uid = gid = -1
        for _level, kind, content in ancillary:
            if kind == socket.SCM_RIGHTS:
                fds += struct.unpack(f"{len(content) // 4}i", content[: len(content) // 4 * 4])
            elif kind == socket.SCM_CREDENTIALS:
                pid, uid, gid = _CREDENTIALS.unpack(content)
        try:
            if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC) or len(fds) != _DESCRIPTORS or pid <= 0:
                raise ValueError("not an order")
            said = json.loads(data)
            return data, Order(_strings(said["argv"]), _mapping(said["environ"]), pid, uid, gid, *fds)
        except (ValueError, KeyError, TypeError, RecursionError):
            for fd in fds:
                os.close(fd)
            return data, None

    def _fork(self, order: Order) -> bool:
        """Whether this process is the child."""
        try:
            if Counter(self._masters.values())[order.pid] < LINKS_PER_MASTER:
                pid = os.fork()
                if pid == 0:
                    return True
                self._masters[pid] = order.pid
        except OSError as error:  # no memory, too many processes: the lifeline closes and the master asks again
            sys.stderr.write(f"cannot start a link: {error.strerror}\n")
        for fd in (order.channel, order.lifeline, order.stderr):
            os.close(fd)
        return False

    def _reap(self) -> None:
        while self._masters:
            pid, _status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._masters.pop(pid, None)


def _strings(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError("not a list of words")
    return value


def _mapping(value: Any) -> dict[str, str]:
    _strings([*value.keys(), *value.values()] if isinstance(value, dict) else None)
    return dict(value)


def _live(order: Order) -> int:
    """Be the link: the rights of its master first, then its session, words and end. Returns the exit code."""
    if order.gid != os.getegid() or order.uid != os.geteuid():
        os.setgroups([order.gid])
        os.setresgid(order.gid, order.gid, order.gid)
        os.setresuid(order.uid, order.uid, order.uid)
    os.setsid()
    os.dup2(order.stderr, 2)
    os.close(order.stderr)
    os.environ.clear()
    os.environ.update(order.environ)
    lifeline = socket.socket(fileno=order.lifeline)
    lifeline.send(b"%d" % os.getpid())
    code = link.main([*order.argv, "--fd", str(order.channel)])
    lifeline.send(b"%d" % code)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """The process the keeper starts."""
    parser = argparse.ArgumentParser(prog="palatine-app-server link-server", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the inherited end of the socket masters ask on")
    server = LinkServer(socket.socket(fileno=parser.parse_args(argv).fd))
    gc.collect()
    gc.freeze()
    order = server.run()
    if order is None:
        return exits.OK
    server.leave_in_child()
    try:
        return _live(order)
    except OSError as error:  # the master is gone, or may not have the rights it says it has
        sys.stderr.write(f"palatine-app-server link: {error}\n")
        return exits.UNAVAILABLE
    except Exception:  # noqa: BLE001 - the edge of the process: say everything; the master asks for another
        traceback.print_exc()
        return exits.SOFTWARE


if __name__ == "__main__":
    sys.exit(main())
