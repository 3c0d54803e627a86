"""The few kernel calls Python has no name for: prctl(2), inotify(7), TCP_INFO. Plain; nothing here decides anything."""

import ctypes
import gc
import os
import select
import signal
import socket
import struct
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_DUMPABLE: Final = 4
#: sock_diag(7), linux/unix_diag.h: the queue of one UNIX socket, asked for by its inode and any cookie.
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_UDIAG_SHOW_RQLEN: Final = 0x10
_UNIX_DIAG_RQLEN: Final = 4
_UNIX_DIAG_MSG_END: Final = 32
_ANY: Final = 0xFFFFFFFF
#: Offset of tcpi_unacked in struct tcp_info (linux/tcp.h); of a listener it is the accept queue, tcpi_sacked its limit.
_TCPI_UNACKED: Final = 24
#: inotify(7): everything uWSGI's file monitors ask for; what arrives in a directory; the end of a watch.
IN_CHANGES: Final = 0x2 | 0x4 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
IN_ARRIVALS: Final = 0x8 | 0x80 | 0x100
IN_MOVE_SELF: Final = 0x800
IN_IGNORED: Final = 0x8000
_INOTIFY_EVENT: Final = struct.Struct("iIII")
_INOTIFY_BYTES: Final = 16384
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
#: Made once: each CDLL makes a class of its own.
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Orphaned descendants become children of this process: prctl(2), PR_SET_CHILD_SUBREAPER."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Get signal `number` when `parent` ends; exits at once if it has ended already. Call it right after fork."""
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def is_child(pid: int) -> bool:
    """Whether `pid` is a child of this process, one that is dead but not reaped included: waitid(2)."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:  # ECHILD; EINVAL for what is no pid at all
        return False
    return True


def wait_for_orphaning(parent: int) -> None:
    """Wait until `parent`, which is about to end, is our parent no more; die_with_parent would mean it otherwise."""
    try:
        fd = os.pidfd_open(parent)
    except ProcessLookupError:
        return
    try:
        if os.getppid() == parent:
            poll = select.poll()
            poll.register(fd, select.POLLIN)  # pidfd_open(2): readable at its end, when its children have moved on
            poll.poll()
    finally:
        os.close(fd)


def accept_queue(listener: socket.socket) -> tuple[int, int]:
    """(connections waiting, capacity) of a listening TCP socket."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    unacked, sacked = struct.unpack_from("II", info, _TCPI_UNACKED)
    return unacked, sacked


def unix_accept_queue(listener: socket.socket) -> tuple[int, int]:
    """(connections waiting, capacity) of a listening UNIX socket, by sock_diag(7); (0, 0) where the kernel has none."""
    inode = os.fstat(listener.fileno()).st_ino
    wanted = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, inode, _UDIAG_SHOW_RQLEN, _ANY, _ANY)
    head = struct.pack("=IHHII", 16 + len(wanted), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as netlink:
            netlink.settimeout(1.0)  # answered within the call; the limit is for kernels we have not met
            netlink.send(head + wanted)
            reply = netlink.recv(4096)
    except OSError:
        return 0, 0
    if len(reply) < _UNIX_DIAG_MSG_END or struct.unpack_from("=H", reply, 4)[0] != _SOCK_DIAG_BY_FAMILY:
        return 0, 0
    at = _UNIX_DIAG_MSG_END
    while at + 4 <= len(reply):
        length, kind = struct.unpack_from("=HH", reply, at)
        if kind == _UNIX_DIAG_RQLEN:
            waiting, capacity = struct.unpack_from("=II", reply, at + 4)
            return waiting, capacity
        at += max(4, (length + 3) & ~3)
    return 0, 0


def stay_dumpable() -> None:
    """Let processes of our user read what /proc says of us; setuid(2) without execve(2) takes that away."""
    _prctl(_PR_SET_DUMPABLE, 1)


def be_ready_to_fork() -> None:
    """Let go of what is not needed, and have what stays be shared with children for as long as they only read it.

    What imports have freed inside the heap goes back to the kernel (malloc_trim(3); musl has none): 0.6 MB of a fresh
    master's 11. The collector forgets what there is: it would touch, and so copy, every page shared with a child.
    """
    gc.collect()
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)
    gc.freeze()


def memory_of(pid: int) -> tuple[int, int]:
    """(address space, resident) of a process in bytes: the first fields of /proc/PID/statm, see proc(5)."""
    with open(f"/proc/{pid}/statm", "rb") as file:
        fields = file.read().split()
    return int(fields[0]) * _PAGE_BYTES, int(fields[1]) * _PAGE_BYTES


def shares_of(pid: int) -> tuple[int, int]:
    """(proportional, unique) memory of a process in bytes, by /proc/PID/smaps_rollup, proc(5): some milliseconds."""
    found = {"Pss": 0, "Private_Clean": 0, "Private_Dirty": 0}
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in found:
                found[name] = int(rest.split()[0]) * 1024
    return found["Pss"], found["Private_Clean"] + found["Private_Dirty"]


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def inotify() -> int:
    """A descriptor that becomes readable when something watched changes; OSError beyond the user's limit of them."""
    fd: int = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"inotify_init1: {os.strerror(code)}")
    return fd


def watch(fd: int, path: str, mask: int) -> int:
    """Watch `path` for the events of `mask`; the watch's number, -1 where there is no such path."""
    number: int = _LIBC.inotify_add_watch(fd, os.fsencode(path), mask)
    return number


def unwatch(fd: int, number: int) -> None:
    """Watch no longer."""
    _LIBC.inotify_rm_watch(fd, number)


def drain(fd: int) -> list[tuple[int, int, bytes]]:
    """The events that wait: watch's number, mask, and the name in a watched directory, of each."""
    try:
        data = os.read(fd, _INOTIFY_BYTES)
    except BlockingIOError:
        return []
    events, at = [], 0
    while at < len(data):
        number, mask, _cookie, length = _INOTIFY_EVENT.unpack_from(data, at)
        at += _INOTIFY_EVENT.size + length
        events.append((number, mask, data[at - length : at].rstrip(b"\0")))
    return events
