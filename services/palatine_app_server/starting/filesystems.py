"""The verbs mount and umount of hooks, and the options mount-MOMENT: uWSGI's words for mount(2). Plain."""

from collections.abc import Mapping

from palatine.errors import ConfigError
from palatine_app_server.starting import kernel_jails
from palatine_app_server.starting.kernel_jails import MOUNT_FLAGS, RECURSIVE, UNMOUNT_FLAGS


def check(verb: str, argument: str) -> None:
    """ConfigError where `argument` is none of the verb's."""
    if verb == "mount":
        _mount_words(argument)
    else:
        _unmount_words(argument)


def mount(argument: str) -> None:
    """`FILESYSTEM SOURCE TARGET [FLAG,...[ DATA]]`; OSError where the kernel refuses."""
    kind, source, target, flags, data = _mount_words(argument)
    kernel_jails.attach(kind, source, target, flags, data)


def unmount(argument: str) -> None:
    """`TARGET [FLAG,...]`; with the flag rec everything that is mounted below goes first."""
    target, flags = _unmount_words(argument)
    if flags & RECURSIVE:
        flags &= ~RECURSIVE
        for below in reversed(_mounted_below(target)):  # what was mounted last goes first
            kernel_jails.detach(below, flags)
    kernel_jails.detach(target, flags)


def _mount_words(argument: str) -> tuple[str, str, str, int, str]:
    words = argument.split(" ", 4)
    if len(words) < 3:
        raise ConfigError(f"mount takes a filesystem, a source and a target, not {argument!r}")
    kind, source, target, flags, data = [*words, "", ""][:5]
    return kind, source, target, _flags(flags, MOUNT_FLAGS), data


def _unmount_words(argument: str) -> tuple[str, int]:
    target, _, flags = argument.partition(" ")
    if not target:
        raise ConfigError("umount takes a target")
    return target, _flags(flags, UNMOUNT_FLAGS)


def _flags(text: str, known: Mapping[str, int]) -> int:
    found = 0
    for word in filter(None, text.split(",")):
        if word not in known:
            raise ConfigError(f'unknown mount flag "{word}" (there are {", ".join(known)})')
        found |= known[word]
    return found


def _mounted_below(target: str) -> list[str]:
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        points = [line.split(" ")[1].encode("latin-1", "replace").decode("unicode_escape") for line in file]
    return [point for point in points if point.startswith(target.rstrip("/") + "/")]
