"""A worker's life: its threads, what it hears from its master, and how it ends. What clients send is the reactor's.

A draining worker closes its listeners at once and serves to the end whoever it has accepted. Connections between two
requests are closed, unless they were answered just now: their clients were not told, and may be asking already.

The loop is here and not in the reactor, which may be compiled: the interpreter runs signal handlers between two steps.
"""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Final, NamedTuple

from palatine import exits
from palatine_app_server.serving.clients import Listener
from palatine_app_server.serving.core import Core, Handler
from palatine_app_server.serving.ledger import Ledger
from palatine_app_server.serving.reactor import Reactor
from palatine_app_server.serving.recycling import Recycling
from palatine_app_server.serving.request import Requests, WorkerSettings, WsgiApp, log
from palatine_app_server.supervision.recycle_policy import RecycleSettings
from palatine_app_server.system.last_words import print_exc

#: The signal by which the master tells a worker that a request of its has passed its deadline.
HARAKIRI_SIGNAL: Final = signal.SIGUSR2
#: The signal by which the kernel tells a worker that its master is gone (PR_SET_PDEATHSIG): a worker in a long request
#: does not look at its lifeline.
ORPHAN_SIGNAL: Final = signal.SIGPWR
#: The last resort of a mercy of zero seconds.
LEAST_MERCY_SECONDS: Final = 0.1


class Doors(NamedTuple):
    """The descriptors a worker inherits: where requests come from and how it hears of its master."""

    listeners: Sequence[Listener]
    lifeline: int  # readable (end of file) when the master is gone
    signals: Sequence[int]  # sockets on which uWSGI signals arrive, one byte each


class Worker:
    """Serve until told to stop; `run` returns the exit code.

    `pause_wanted` says what the master wants, whenever it signals; `on_pause` hears what has come into force.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        doors: Doors,
        ledgers: Sequence[Ledger],
        app: WsgiApp | Handler | None,
        *,
        on_signal: Callable[[int], None],
        total_requests: Callable[[], int],
        on_exit: Callable[[], None] = lambda: None,
        pause_wanted: Callable[[], bool] = lambda: False,
        on_pause: Callable[[bool], None] = lambda _paused: None,
        recycle: RecycleSettings | None = None,
        on_leaving: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._settings = settings
        self._doors = doors
        self._on_signal = on_signal
        self._on_exit = on_exit
        self._read_pause = pause_wanted
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC | os.EFD_SEMAPHORE)
        self._orphan = False
        self._reactor = Reactor(
            doors.listeners,
            settings.limits,
            settings.threads,
            hear=self._hear,
            on_pause=on_pause,
            brief=settings.threads == 1 and not settings.after_request,
        )
        self._reactor.pause_wanted = pause_wanted()
        self._on_leaving = on_leaving
        recycling = None
        if recycle is not None and (recycle.watches_requests or recycle.watches_exceptions):
            before = sum(ledger.finished for ledger in ledgers)
            recycling = Recycling(recycle, lambda: sum(ledger.finished for ledger in ledgers) - before, self._go)
        self._requests = Requests(
            settings, ledgers, app, total_requests=total_requests, may_keep=self._reactor.may_keep, recycling=recycling
        )

    @property
    def cores(self) -> Sequence[Core]:
        """One for each thread."""
        return self._requests.cores

    def run(self) -> int:
        """Serve with all threads until drained; called in the main thread, after `install_signals`."""
        for fd in (self._wake, self._doors.lifeline, *self._doors.signals):
            self._reactor.watch(fd)
        self._reactor.open_doors(self._requests)
        cores = self._requests.cores
        threads = [
            threading.Thread(target=self._serve_in_thread, args=(core,), name=self._thread_name(core))
            for core in cores[1:]
        ]
        for thread in threads:
            thread.daemon = True
            thread.start()
        self._serve(cores[0])
        for thread in threads:
            thread.join()
        return exits.OK

    def drain(self) -> None:
        """Accept nothing more, finish what is being served, then return from `run`. Safe in a signal handler."""
        self._reactor.drain()
        os.eventfd_write(self._wake, self._settings.threads)

    def _go(self, reason: str) -> None:
        """This worker has served long enough: the master hears of it first, since it counts the mercy."""
        self._on_leaving(reason)
        log(f"...The work of process {os.getpid()} is done. Seeya!\n")
        self.drain()

    def look(self) -> None:
        """The master may want a pause, or no longer. Safe in a signal handler.

        What it wants is read and not signalled: of two signals Python runs the one with the lower number first.
        """
        self._reactor.pause_wanted = self._read_pause() and not self._reactor.draining
        os.eventfd_write(self._wake, 1)

    # ------------------------------------------------------------------ the loop

    def _serve_in_thread(self, core: Core) -> None:
        try:
            self._serve(core)
        except BaseException:  # noqa: BLE001 - a fault of ours: better another worker than one with a thread less
            print_exc()
            leave(exits.FAILURE, self._on_exit)

    def _serve(self, core: Core) -> None:
        core.thread = threading.get_ident()
        reactor = self._reactor
        while not reactor.draining:
            reactor.turn(core)
        reactor.retire(core)
        while reactor.parked:
            reactor.turn(core)

    def _hear(self, fd: int) -> None:
        """A word from our own signal handlers, the lifeline or a uWSGI signal."""
        if fd == self._wake:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(fd)
        elif fd == self._doors.lifeline:
            self._orphaned()
        elif fd in self._doors.signals:
            try:
                data = os.read(fd, 1)
            except BlockingIOError:
                return  # another worker took it
            if data:
                self._on_signal(data[0])

    def _thread_name(self, core: Core) -> str:
        return f"uWSGIWorker{self._settings.worker}Core{core.id}"

    # ------------------------------------------------------------------ signals

    def install_signals(self) -> None:
        """In the main thread, before the master hears that this worker accepts: from then on it may send them."""
        signal.signal(signal.SIGHUP, lambda _number, _frame: self.drain())
        signal.signal(ORPHAN_SIGNAL, lambda _number, _frame: self._orphaned())
        signal.signal(signal.SIGTSTP, lambda _number, _frame: self.look())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, self._leave_now)
        signal.signal(HARAKIRI_SIGNAL, self._harakiri)
        # the C-level half runs at once, also when no thread ever lets go of the GIL: it shows where the request hangs
        faulthandler.register(HARAKIRI_SIGNAL, file=2, all_threads=True, chain=True)
        for number in (signal.SIGUSR1, signal.SIGALRM, signal.SIGTTIN, signal.SIGTTOU):
            signal.signal(number, signal.SIG_IGN)

    def _orphaned(self) -> None:
        """The master is gone: finish within the mercy it would have had, also where the GIL is never let go."""
        if self._orphan:
            return
        self._orphan = True
        self._reactor.forget(self._doors.lifeline)  # readable for ever, it would keep us awake
        mercy = max(float(self._settings.mercy_seconds), LEAST_MERCY_SECONDS)
        faulthandler.dump_traceback_later(mercy, exit=True, file=2)
        self.drain()

    def _leave_now(self, _number: int, _frame: FrameType | None) -> None:
        leave(exits.OK, self._on_exit)

    def _harakiri(self, _number: int, _frame: FrameType | None) -> None:
        """Tell the clients of overdue requests before the master kills this worker; threads in time go on meanwhile."""
        self.drain()
        self._requests.refuse_overdue()


def leave(code: int, on_exit: Callable[[], None]) -> None:
    """End this process now: the app's exit handlers run, its threads are not waited for."""
    try:
        on_exit()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
