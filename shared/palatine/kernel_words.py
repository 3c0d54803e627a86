"""UWSGI's words for Linux's namespaces and capabilities, for who reads a config and who obeys it. Plain."""

from collections.abc import Mapping
from typing import Final

from palatine.errors import ConfigError

#: unshare(2), CLONE_NEWPID.
PID_NAMESPACE: Final = 0x20000000
#: unshare(2): uWSGI's words of the namespaces a process can leave for one of its own; `pid` is only its children's.
NAMESPACES: Final[Mapping[str, int]] = {
    "files": 0x00000400, "sysvsem": 0x00040000, "ns": 0x00020000, "fs": 0x00020000, "mount": 0x00020000,
    "mnt": 0x00020000, "uts": 0x04000000, "ipc": 0x08000000, "net": 0x40000000, "cgroup": 0x02000000,
}  # fmt: skip
#: capabilities(7), in the kernel's order.
_CAPABILITIES: Final = (
    "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable "
    "net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot "
    "sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease "
    "audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read "
    "perfmon bpf checkpoint_restore "
)


def capability(word: str) -> int:
    """The number of a capability by its name, -1 for none."""
    name = word.lower().removeprefix("cap_")
    names = _CAPABILITIES.split()
    return names.index(name) if name in names else -1


def capabilities(text: str) -> frozenset[int]:
    """The numbers of capabilities, by names or numbers with commas between; ConfigError names one that is none."""
    found = set()
    for word in filter(None, text.split(",")):
        number = int(word) if word.isdigit() else capability(word)
        if not 0 <= number < 64:
            raise ConfigError(f"[security] unknown capability: {word}")
        found.add(number)
    return frozenset(found)
