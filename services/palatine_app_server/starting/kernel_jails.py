"""The kernel calls of jails and limits Python 3.11 has no name for: mount(2), capset(2). Plain; decides nothing.

Each raises OSError, with what was asked for as its file name.
"""

import ctypes
import os
import struct
from collections.abc import Mapping
from typing import Final

#: mount(2) and umount2(2): uWSGI's words.
MOUNT_FLAGS: Final[Mapping[str, int]] = {
    "bind": 0x1000, "dirsync": 0x80, "mandlock": 0x40, "move": 0x2000, "noatime": 0x400, "nodev": 0x4, "noexec": 0x8,
    "rdonly": 0x1, "readonly": 0x1, "ro": 0x1, "remount": 0x20, "nosuid": 0x2, "sync": 0x10, "rec": 0x4000,
    "recursive": 0x4000, "private": 0x40000, "shared": 0x100000,
}  # fmt: skip
UNMOUNT_FLAGS: Final[Mapping[str, int]] = {"force": 0x1, "detach": 0x2, "rec": 0x4000, "recursive": 0x4000}
RECURSIVE: Final = 0x4000
PRIVATE: Final = 0x40000
SLAVE: Final = 0x80000

_SYS_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}
_PR_SET_KEEPCAPS: Final = 8
_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_SET_MEMORY_MERGE: Final = 67
_MCL_CURRENT_AND_FUTURE: Final = 1 | 2
#: capget(2): version 3, two words of each set.
_CAPABILITY_VERSION: Final = 0x20080522


def attach(kind: str, source: str, target: str, flags: int, data: str = "") -> None:
    """Put a filesystem somewhere, by mount(2)."""
    words = [os.fsencode(source), os.fsencode(target), os.fsencode(kind)]
    code = _libc().mount(*words, ctypes.c_ulong(flags), os.fsencode(data) if data else None)
    _check(code, "mount", target)


def detach(target: str, flags: int) -> None:
    """Take one away, by umount2(2)."""
    _check(_libc().umount2(os.fsencode(target), flags), "umount2", target)


def make_namespaces(flags: int) -> None:
    """Fresh namespaces for this process and what it forks: unshare(2)."""
    _check(_libc().unshare(flags), "unshare", hex(flags))


def join_namespace(namespace: int) -> None:
    """setns(2): enter the namespace behind a descriptor."""
    _check(_libc().setns(namespace, 0), "setns", str(namespace))


def change_root(old: str) -> None:
    """Make the working directory the root; the old one appears at `old` below it: pivot_root(2)."""
    number = _SYS_PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(38, f"pivot_root: its number is not known for {os.uname().machine}")
    _check(_libc().syscall(number, b".", os.fsencode(old)), "pivot_root", old)


def lock_memory() -> None:
    """mlockall(2), of what is there and what comes; not inherited by children."""
    _check(_libc().mlockall(_MCL_CURRENT_AND_FUTURE), "mlockall", "")


def merge_memory() -> None:
    """Let the kernel merge equal pages of this process and its children: prctl(2), PR_SET_MEMORY_MERGE, Linux 6.4."""
    _check(_libc().prctl(_PR_SET_MEMORY_MERGE, 1, 0, 0, 0), "prctl(PR_SET_MEMORY_MERGE)", "")


def keep_capabilities() -> None:
    """Let the next setuid(2) leave the permitted capabilities: prctl(2), PR_SET_KEEPCAPS."""
    _check(_libc().prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "prctl(PR_SET_KEEPCAPS)", "")


def bound_capabilities(numbers: frozenset[int]) -> None:
    """Let nothing this process or its children execute have others: prctl(2), PR_CAPBSET_DROP."""
    number = 0
    while (has := _libc().prctl(_PR_CAPBSET_READ, number, 0, 0, 0)) >= 0:  # EINVAL behind the kernel's last one
        if has and number not in numbers:
            _check(_libc().prctl(_PR_CAPBSET_DROP, number, 0, 0, 0), "prctl(PR_CAPBSET_DROP)", str(number))
        number += 1


def set_capabilities(numbers: frozenset[int]) -> None:
    """Have these capabilities and no other, effective, permitted and inheritable: capset(2)."""
    bits = sum(1 << number for number in numbers)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    head = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    _check(_libc().capset(head, struct.pack("=6I", low, low, low, high, high, high)), "capset", "")


def _check(code: int, call: str, what: str) -> None:
    if code < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}", what or None)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
