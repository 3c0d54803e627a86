"""A link born of the warm sibling beside the keeper, as its master sees it. Plain; it must never wait for the sibling.

A link that is executed anew costs 26 MB and 0.3 s of CPU, most of it imports. Where a keeper forked the master, a
process that has the imports behind it (`link_server.py`) forks the link instead. Order and descriptors go to it in one
datagram; the link's life is told by a socket pair whose other end only the link holds:

    master → sibling   {"argv": [...], "environ": {...}}, with the descriptors: channel, lifeline, stderr
    link → master      on the lifeline: its pid, then its exit code, each as decimal digits, then the end of the file
"""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Final

from palatine import companions_policy as policy
from palatine_app_server.system.loop import Loop

#: Names the descriptor of the socket to the sibling in the environment of a vassal's master.
VARIABLE: Final = "PALATINE_LINK_FD"
#: Largest order: an environment may be long, and a datagram must fit the socket's buffer.
ORDER_BYTES: Final = 160 * 1024

_KILLED: Final = -signal.SIGKILL


def inherited(environ: MutableMapping[str, str]) -> int:
    """Take the descriptor of the socket to the sibling out of `environ`; -1 without one."""
    number = environ.pop(VARIABLE, "")
    return int(number) if number.isascii() and number.isdigit() else -1


class SiblingGoneError(OSError):
    """There is no sibling any more, nor a keeper who would start another."""


class SiblingLink:
    """Keeps one link running by the sibling's hand, with the manners of `palatine.companions.Companions`."""

    def __init__(self, sibling: int, loop: Loop, say: Callable[[str], None]) -> None:
        self._sibling = socket.socket(fileno=sibling)
        self._sibling.setblocking(False)
        self._sibling.set_inheritable(False)
        self._loop = loop
        self._say = say
        self._state = policy.State()
        self._lifeline: socket.socket | None = None
        self._pidfd = -1
        self._code = _KILLED
        self._order = b""
        self._channel = -1
        self.pid = 0

    def start(self, argv: Sequence[str], environ: Mapping[str, str], channel: int) -> None:
        """Have a link of these words, environment and end of the channel run from the next `due` on."""
        self._order = json.dumps({"argv": list(argv), "environ": dict(environ)}).encode()
        self._channel = channel

    @property
    def running(self) -> bool:
        """Whether the link exists, or has been ordered."""
        return self._lifeline is not None

    def due(self, now: float) -> float | None:
        """Do what has become due; when to call again. SiblingGoneError."""
        if not self._order:
            return None
        self._event(policy.Clock(), now)
        return policy.due(self._state)

    def stop(self, now: float, mercy: float) -> None:
        """Ask the link to end; `due` kills it after `mercy` seconds."""
        self._event(policy.StopAsked(mercy), now)

    def close(self) -> None:
        """Let go of everything, also in a forked child: whoever holds a lifeline hears of the link's end."""
        if self._lifeline is not None:
            self._lifeline.close()
        self._sibling.close()
        self._drop_pidfd()

    def _hear(self) -> None:
        assert self._lifeline is not None
        try:
            said = self._lifeline.recv(32)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._ended(time.monotonic())
        elif not self.pid:
            self._born(int(said))
        else:
            self._code = int(said)

    def _event(self, event: policy.Event, now: float) -> None:
        self._state, actions = policy.decide(self._state, event, now)
        for action in actions:
            match action:
                case policy.Say(text):
                    self._say(f"link {text}")
                case policy.Send(signum):
                    if self._pidfd >= 0:
                        signal.pidfd_send_signal(self._pidfd, signum)
                case policy.Start():
                    self._ask(now)

    def _ask(self, now: float) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            socket.send_fds(self._sibling, [self._order], [self._channel, theirs.fileno(), 2])
        except OSError as error:
            ours.close()
            if isinstance(error, BlockingIOError):  # it has many to start
                self._event(policy.SpawnFailed("the sibling is busy"), now)
                return
            raise SiblingGoneError(error.errno, error.strerror) from error
        finally:
            theirs.close()
        ours.setblocking(False)
        self._lifeline = ours
        self._code = _KILLED
        self._loop.watch(ours.fileno(), self._hear)
        self._event(policy.Spawned(), now)

    def _born(self, pid: int) -> None:
        self.pid = pid
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:  # it has ended: the lifeline says so next
            self._pidfd = -1
        if self._state.phase == policy.STOPPING and self._pidfd >= 0:
            signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)  # the one that was meant for it came too early

    def _ended(self, now: float) -> None:
        assert self._lifeline is not None
        self._loop.forget(self._lifeline.fileno())
        self._lifeline.close()
        self._lifeline = None
        self._drop_pidfd()
        self.pid = 0
        self._event(policy.Exited(self._code), now)

    def _drop_pidfd(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
