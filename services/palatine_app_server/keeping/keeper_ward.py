"""What the keeper holds for one vassal, and the kernel calls around it; plain; must never outlive its descriptors."""

import os
import socket
from typing import Final

#: Fields of /proc/PID/stat after the command's closing parenthesis: the state is the first, the start time the 20th.
_STATE: Final = 0
_START: Final = 19


class Ward:
    """One vassal in the keeper's care: its process, and the descriptors held for it by part name."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.pid = 0
        self.born = 0
        self.dead = False
        self.status: int | None = None
        self.note = ""
        #: Of a process that is not the keeper's child; -1 otherwise.
        self.pidfd = -1
        self.parts: dict[str, int] = {}
        self._earlier: list[int] = []

    @property
    def running(self) -> bool:
        """Whether its master still lives."""
        return self.pid > 0 and not self.dead

    def begin(self, pid: int, note: str) -> None:
        """A master of this vassal was started as a child."""
        self._earlier = [group for group in (*self._earlier, self.pid) if _has_members(group)]
        self.pid, self.born, self.dead, self.status, self.note = pid, start_time(pid), False, None, note

    def end(self, status: int | None) -> None:
        """The master is gone, with this wait status."""
        self.dead, self.status = True, status
        self._close_pidfd()

    def groups(self) -> list[int]:
        """Process groups of this vassal that still have members: the master's, and what earlier masters left behind."""
        mine = [self.pid] if self.running or _has_members(self.pid) else []
        return [group for group in self._earlier if _has_members(group)] + mine

    def take(self, part: str, descriptor: int) -> None:
        """Own `descriptor`, in the place of an earlier one of that name."""
        self.drop(part)
        self.parts[part] = descriptor

    def drop(self, *parts: str) -> None:
        """Close the named parts."""
        for part in parts:
            if part in self.parts:
                os.close(self.parts.pop(part))

    def close(self) -> None:
        """Close everything held."""
        self.drop(*list(self.parts))
        self._close_pidfd()

    def _close_pidfd(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def pairs(count: int) -> tuple[list[int], list[int]]:
    """The ends of `count` UNIX stream socket pairs: (ours, never blocking; the vassal's, blocking)."""
    ours: list[int] = []
    theirs: list[int] = []
    try:
        for _ in range(count):
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            one.setblocking(False)
            ours.append(one.detach())
            theirs.append(other.detach())
    except OSError:
        for descriptor in (*ours, *theirs):
            os.close(descriptor)
        raise
    return ours, theirs


def _has_members(group: int) -> bool:
    """Whether processes are left in the group of a dead leader: its number stays taken while they live."""
    if not group or start_time(group):
        return False
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot: with the pid, one process for good. 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[_STATE] == b"Z" else int(fields[_START])
