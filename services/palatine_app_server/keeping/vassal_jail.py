"""Namespaces and capabilities of a vassal, as its emperor orders them (`emperor-use-clone`, `emperor-cap`); plain.

uWSGI clones a vassal straight into its namespaces. Here the keeper forks it, and it makes them first of all, with the
keeper's rights; only the one of pids must be made before, by the keeper itself, for the child it is about to fork. That
child is process 1 in there. It sees a /proc of its own, since that of the others would tell it of processes that are
not its: so a namespace of pids brings one of mounts. What is mounted in there is seen nowhere else.
"""

import os
from collections.abc import Sequence
from typing import Final

_PID: Final = "pid"
_SYS: Final = "/proc/self/ns/pid"
#: It may go on limiting itself: capabilities(7), CAP_SETPCAP, which uWSGI leaves, too.
_SETPCAP: Final = 8


def hides_pids(namespaces: Sequence[str]) -> bool:
    """Whether processes have other numbers in there: what outsiders call them means nothing."""
    return _PID in namespaces


def fork(namespaces: Sequence[str]) -> int:
    """os.fork(), the child in a namespace of pids of its own where `namespaces` say so; OSError."""
    if not hides_pids(namespaces):
        return os.fork()
    from palatine.kernel_words import PID_NAMESPACE
    from palatine_app_server.starting import kernel_jails

    ours = os.open(_SYS, os.O_RDONLY | os.O_CLOEXEC)
    pid = -1
    try:
        kernel_jails.make_namespaces(PID_NAMESPACE)  # of the children from now on
        pid = os.fork()
        return pid
    finally:
        if pid:
            kernel_jails.join_namespace(ours)
        os.close(ours)


def enter(namespaces: Sequence[str], capabilities: Sequence[int]) -> None:
    """In the child, with the keeper's rights: be in fresh namespaces, and bound to capabilities; OSError."""
    from palatine.kernel_words import NAMESPACES
    from palatine_app_server.starting import kernel_jails

    flags = NAMESPACES["mnt"] if hides_pids(namespaces) else 0
    for word in namespaces:
        flags |= NAMESPACES.get(word, 0)
    if flags:
        kernel_jails.make_namespaces(flags)
    if flags & NAMESPACES["mnt"]:
        kernel_jails.attach("", "", "/", kernel_jails.RECURSIVE | kernel_jails.SLAVE)
    if hides_pids(namespaces):
        safe = kernel_jails.MOUNT_FLAGS["nosuid"] | kernel_jails.MOUNT_FLAGS["nodev"]
        kernel_jails.attach("proc", "proc", "/proc", safe | kernel_jails.MOUNT_FLAGS["noexec"])
    if capabilities:
        kernel_jails.bound_capabilities(frozenset({*capabilities, _SETPCAP}))


def keep_only(capabilities: Sequence[int]) -> None:
    """As its user: root has these capabilities and no other from now on, as after an exec of uWSGI; OSError."""
    if os.geteuid() == 0:
        from palatine_app_server.starting import kernel_jails

        kernel_jails.set_capabilities(frozenset({*capabilities, _SETPCAP}))
