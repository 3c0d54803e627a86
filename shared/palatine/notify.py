"""Tell the service manager of readiness, reloads and liveness (sd_notify). Plain; it must never fail its caller."""

import os
import socket
from collections.abc import MutableMapping
from typing import Final

_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Datagrams to `$NOTIFY_SOCKET` (a path, or `@name` in the abstract namespace); silent without one."""

    def __init__(self, address: str | None, watchdog: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address
        #: Seconds within which the manager wants a WATCHDOG=1, None if it does not.
        self.watchdog = watchdog

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> "Notifier":
        """Take the manager's variables out of `environ`, so that children do not answer for this process."""
        address, usec, pid = (environ.pop(name, None) for name in _VARIABLES)
        wanted = address and usec and usec.isdigit() and int(usec) > 0 and pid in {None, str(os.getpid())}
        return cls(address, int(usec) / 1e6 if wanted and usec else None)

    def send(self, *lines: str) -> bool:
        """Send `NAME=value` lines in one datagram; False if nobody got it."""
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            return False
        return True
