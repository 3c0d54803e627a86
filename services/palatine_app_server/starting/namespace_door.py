"""`setns-socket`: gives the namespaces of this instance's app to who connects, as uWSGI's `setns` takes them.

The socket is this user's only. What is given are descriptors of /proc/PID/ns, namespaces(7), of the zygote, which is
where the app is; without a jail those are the master's own.
"""

import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

from palatine_app_server.system import descriptor_gifts, unix_sockets
from palatine_app_server.system.descriptor_gifts import Door
from palatine_app_server.system.loop import Loop

#: What uWSGI sends before the number of descriptors.
GREETING: Final = b"uwsgi-setns"
#: uWSGI leaves this one out; the other is a namespace to come, not one to join.
_NEVER: Final = frozenset({"user", "pid_for_children", "time_for_children"})


def namespace_door(
    path: str, skipped: Sequence[str], zygote: Callable[[], int], loop: Loop, say: Callable[[str], None]
) -> Door:
    """A door at `path` that gives all but the `skipped`; `zygote` is the process whose namespaces are meant."""
    left_out = _NEVER | frozenset(skipped)

    def answer(client: socket.socket) -> None:
        opened: list[int] = []
        try:
            directory = f"/proc/{zygote() or 'self'}/ns"
            names = sorted(set(os.listdir(directory)) - left_out)
            opened += (os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in names)
            descriptor_gifts.give(client, GREETING, opened)
        finally:
            for fd in opened:
                os.close(fd)

    listener = unix_sockets.listening("setns-socket", path, 0o600)
    return Door("setns-socket", path, listener, loop, say, answer)
