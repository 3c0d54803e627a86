"""The keeper's warm sibling, which forks the links of vassals (`link_server.py`); plain; without it links are executed.

The keeper holds both ends of the socket masters ask on, so that what they ask while the sibling is dead is heard by the
next one. It starts another as often as one dies that lived a while: a sibling that cannot start is given up, the ends
are closed, and each master notices and executes a link of its own.
"""

import os
import signal
import socket
import sys
import time
from typing import Final

#: Seconds a sibling must have lived to be worth another.
STEADY: Final = 5.0
_CANNOT_EXECUTE: Final = 127


class Links:
    """The sibling's process and the socket pair between it and the masters."""

    def __init__(self) -> None:
        self._ends: tuple[socket.socket, ...] = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # before anybody asks: unix(7), credentials come only with what is sent after this
        self._ends[1].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._pid = 0
        self._born = 0.0

    def start(self) -> None:
        """Start the sibling."""
        self._born = time.monotonic()
        try:
            self._pid = os.fork()
        except OSError:
            self.close()
            return
        if self._pid == 0:
            self._become()

    def reaped(self, pid: int) -> None:
        """A child of the keeper ended: if it was the sibling, another takes its place."""
        if pid != self._pid:
            return
        self._pid = 0
        if time.monotonic() - self._born >= STEADY:
            self.start()
        else:
            self.close()

    def take_in_child(self) -> int:
        """In a forked child: the end a vassal's master asks on, its own from here on; -1 without a sibling."""
        return os.dup(self._ends[0].fileno()) if self._ends else -1

    def close(self) -> None:
        """Close both ends; a sibling ends when nobody is left who could ask."""
        for end in self._ends:
            end.close()
        self._ends = ()

    def _become(self) -> None:
        try:
            os.setsid()
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                if signal.getsignal(number) == signal.SIG_IGN:
                    signal.signal(number, signal.SIG_DFL)
            ear = self._ends[1].fileno()
            os.set_inheritable(ear, True)
            command = [sys.executable, "-P", "-m", "palatine_app_server.linking.link_server", "--fd", str(ear)]
            os.execv(sys.executable, command)  # noqa: S606 - without a shell is the point
        except BaseException as error:  # noqa: BLE001 - nothing may run on in a copy of the keeper
            os.write(2, f"link server: {error}\n".encode(errors="replace"))
        finally:
            os._exit(_CANNOT_EXECUTE)
