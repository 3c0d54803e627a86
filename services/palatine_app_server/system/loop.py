"""The master's event loop: one epoll set, callbacks by descriptor, signals as numbers. Plain, single-threaded."""

import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from typing import Final

#: Returned by a callback that leaves nobody else anything to do: the turn goes on waiting.
QUIET: Final = object()
#: Signals that end or stop a process by default and mean nothing to a master: a stray one must not.
MEANINGLESS: Final = (
    signal.SIGUSR2, signal.SIGALRM, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH, signal.SIGURG,
    signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGPWR,
)  # fmt: skip


class Loop:
    """Watches descriptors and signals; `turn` waits, and runs what became ready."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._signals: dict[int, Callable[[], object]] = {}
        self._wake_reader = -1

    def watch(self, fd: int, callback: Callable[[], object]) -> None:
        """Call `callback` whenever `fd` is readable or hung up."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, select.EPOLLIN)

    def forget(self, fd: int) -> None:
        """Stop watching `fd`; call it before closing."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def watch_signals(self, callbacks: dict[int, Callable[[], object]], ignored: Iterable[int]) -> None:
        """Deliver signals in `turn`, never in the middle of something."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._signals = callbacks
        self._wake_reader = reader
        self.watch(reader, self._run_signals)
        for number in callbacks:
            signal.signal(number, lambda _number, _frame: None)
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    def answer_signal(self, number: int, callback: Callable[[], object]) -> None:
        """From now on signal `number` means `callback`."""
        self._signals[number] = callback
        signal.signal(number, lambda _number, _frame: None)

    def turn(self, seconds: float) -> None:
        """Wait at most `seconds` and run the callbacks of what is ready; those that are QUIET do not end the wait."""
        until = time.monotonic() + seconds
        while True:
            ready = self._epoll.poll(max(0.0, seconds))
            quiet = bool(ready)
            for fd, _mask in ready:
                callback = self._callbacks.get(fd)
                if callback is not None and callback() is not QUIET:
                    quiet = False
            seconds = until - time.monotonic()
            if not quiet or seconds <= 0:
                return

    def abandon_in_child(self) -> None:
        """In a forked child: the epoll set is shared with the parent, so close it and touch nothing in it."""
        self._epoll.close()
        self._callbacks.clear()

    def _run_signals(self) -> None:
        try:
            numbers = os.read(self._wake_reader, 4096)
        except BlockingIOError:
            return
        for number in dict.fromkeys(numbers):  # two of a kind are one
            callback = self._signals.get(number)
            if callback is not None:
                callback()
