"""Limits, priorities, CPUs and cgroups of an instance's processes, put on where they are inherited. Plain.

What the kernel refuses is said and passed over, as uWSGI does: a limit that cannot be had keeps nobody from serving.
"""

import os
import resource
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from palatine.errors import ConfigError
from palatine_app_server.system import own_lines


class LimitSettings(NamedTuple):
    """0 and empty leave what there is; `address_space` in bytes, `cpus` for each worker."""

    address_space: int = 0
    processes: int = 0
    descriptors: int = 0
    priority: int = 0
    cpus: int = 0
    never_swap: bool = False
    merge: bool = False
    cgroups: tuple[str, ...] = ()
    cgroup_options: tuple[tuple[str, str], ...] = ()
    cgroup_mode: int = 0o700


def put_on(settings: LimitSettings) -> None:
    """Limit this process and all it will fork, while it still has the rights it was started with."""
    for group in settings.cgroups:
        _enter(group, settings)
    limits = (
        (resource.RLIMIT_NPROC, settings.processes, "limiting number of processes to %d..."),
        (resource.RLIMIT_AS, settings.address_space, "limiting address space of processes..."),
        (resource.RLIMIT_NOFILE, settings.descriptors, "limiting number of descriptors to %d..."),
    )
    for number, most, text in limits:
        if most:
            _try("setrlimit()", partial(resource.setrlimit, number, (most, most)), text.replace("%d", str(most)))
    if settings.priority:
        said = f"scheduler priority set to {settings.priority}"
        _try("setpriority()", lambda: os.setpriority(os.PRIO_PROCESS, 0, settings.priority), said)
    if settings.merge:
        from palatine_app_server.starting import kernel_jails  # rarely needed

        _try("ksm", kernel_jails.merge_memory, "[uwsgi-KSM] enabled")
    if settings.never_swap:
        endless = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        _try("setrlimit()", partial(resource.setrlimit, resource.RLIMIT_MEMLOCK, endless), "")
    stay_in_memory(settings)


def stay_in_memory(settings: LimitSettings) -> None:
    """never-swap; every process says it for itself. Under a limit of locked memory the next mmap(2) would fail."""
    if not settings.never_swap:
        return
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY:
        own_lines.say("never-swap: memory is not locked, because there is a limit of locked memory (ulimit -l)")
        return
    from palatine_app_server.starting import kernel_jails  # rarely needed

    _try("mlockall()", kernel_jails.lock_memory, "")


def cpus_of(worker: int, wanted: int, count: int) -> list[int]:
    """The CPUs of a worker (1...): `wanted` of them, each next worker gets the following ones, around the clock."""
    return [((worker - 1) * wanted + number) % count for number in range(wanted)]


def choose_cpus(settings: LimitSettings, worker: int) -> None:
    """cpu-affinity, in the worker."""
    if settings.cpus:
        chosen = cpus_of(worker, settings.cpus, os.cpu_count() or 1)
        said = f"mapping worker {worker} to CPUs: {' '.join(map(str, chosen))}"
        _try("sched_setaffinity()", lambda: os.sched_setaffinity(0, chosen), said)


def _enter(group: str, settings: LimitSettings) -> None:
    """Make the cgroup if need be, and enter it: version 1 has a file tasks, version 2 cgroup.procs, cgroups(7)."""
    try:
        os.makedirs(group, mode=settings.cgroup_mode, exist_ok=True)
        os.chmod(group, settings.cgroup_mode)
        members = os.path.join(group, "tasks")
        if not os.path.exists(members):
            members = os.path.join(group, "cgroup.procs")
        _write(members, str(os.getpid()))
        own_lines.say(f"assigned process {os.getpid()} to cgroup {members}")
        for name, value in settings.cgroup_options:
            _write(os.path.join(group, name), value)
    except OSError as error:
        raise ConfigError(f"cgroup {group}: {error.strerror}: {error.filename}") from error


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(fd)


def _try(what: str, work: Callable[[], object], said: str) -> None:
    try:
        work()
    except (OSError, ValueError) as error:
        own_lines.say(f"{what}: {error}")
    else:
        if said:
            own_lines.say(said)
