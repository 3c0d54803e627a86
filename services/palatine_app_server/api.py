"""The `uwsgi` module apps import: what it offers exists only inside the server, as uWSGI's own does.

It holds nothing but references to the worker's segment, the channel to the master and the app's registered handlers.
"""

import contextlib
import operator
import os
import socket
import sys
import time
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from palatine.counters import Segment, SharedLock
from palatine.errors import DeadlineError
from palatine_app_server.commons import Commons
from palatine_app_server.uwsgi_module.arguments import byte
from palatine_app_server.uwsgi_module.mules import Mules
from palatine_app_server.uwsgi_module.seat import Seat
from palatine_app_server.uwsgi_module.signals import Signals
from palatine_app_server.uwsgi_module.spooling import Spooling

if TYPE_CHECKING:  # loaded only where the config asks for it
    from palatine_app_server.stores import Stores

VERSION: Final = "2.0.31"
#: uWSGI keeps 100 custom values; the first is number 1.
SNMP_VALUES: Final = 100
COUNTER32, GAUGE32, COUNTER64 = 0x41, 0x42, 0x46
LOCK_SECONDS: Final = 5.0


class ApiSettings(NamedTuple):
    """What the config decides about the module."""

    options: Mapping[str, Any]  # uwsgi.opt: str → bytes, or True for a bare flag
    processes: int
    threads: int
    buffer_size: int
    master_pid: int
    snmp: bool
    locks: int  # user locks: `locks` option + 1
    lock_path: str
    alarm_message_bytes: int
    quiet_caches: tuple[str, ...] = ()  # that do not say when they are full


class Api:
    """State behind the module: one per zygote, inherited by the workers it forks."""

    def __init__(
        self, settings: ApiSettings, segment: Segment, master: socket.socket, commons: Commons, *, generation: int
    ) -> None:
        self.seat = Seat(master, generation)
        self._settings = settings
        self._segment = segment
        self._started = int(time.time())
        self._signals = Signals(self.seat)
        self._mules = Mules(self.seat, commons.queues)
        self._stores = commons.stores
        self._spooling = Spooling(self.seat, commons.spools, segment)
        self._snmp_lock = SharedLock(_path(settings.lock_path), 0)
        self._user_locks = [SharedLock(_path(settings.lock_path), slot) for slot in range(1, settings.locks + 1)]
        self.module = self._build()

    # ---------------------------------------------------------------- the process's side

    def install(self) -> None:
        """Make `import uwsgi` work."""
        sys.modules["uwsgi"] = self.module

    def enter_worker(self, worker: int, signals: Sequence[int]) -> None:
        """This process is worker `worker` now, and hears of signals on these descriptors."""
        self.seat.worker, self.seat.signals = worker, tuple(signals)
        self.run_post_fork_hook()

    def run_post_fork_hook(self) -> None:
        """Run what the app wants run in every process the zygote forks."""
        hook = getattr(self.module, "post_fork_hook", None)
        if callable(hook):
            try:
                hook()
            except Exception:  # noqa: BLE001 - the app's; uWSGI prints it and serves on
                traceback.print_exc()

    def run_signal(self, number: int) -> None:
        """Run the handler registered for a uWSGI signal."""
        self._signals.run(number)

    def take_message(self, message: bytes) -> bool:
        """A message for a mule: give it to the app's hook; False where there is none."""
        return self._mules.take(message, getattr(self.module, "mule_msg_hook", None))

    def run_atexit(self) -> None:
        """Call what the app assigned to `uwsgi.atexit`."""
        callback = getattr(self.module, "atexit", None)
        if callable(callback):
            try:
                callback()
            except Exception:  # noqa: BLE001 - the app's: the process ends all the same
                traceback.print_exc()

    def total_requests(self) -> int:
        """Requests of all workers, both generations."""
        segment, word = self._segment, self._segment.word("cores", "requests")
        rows = self._settings.processes * self._settings.threads
        return sum(segment.cells("cores", row, bank)[word] for row in range(rows) for bank in (0, 1))

    # ---------------------------------------------------------------- the module

    def _build(self) -> types.ModuleType:
        settings = self._settings
        module = types.ModuleType("uwsgi", "The API of the server this app runs in.")
        offered: dict[str, Any] = {
            "version": VERSION.encode(),
            "version_info": (2, 0, 31, 0, b""),
            "palatine_version": _palatine_version(),
            "hostname": socket.gethostname().encode(),
            "opt": dict(settings.options),
            "numproc": settings.processes,
            "cores": settings.threads,
            "has_threads": 1,
            "buffer_size": settings.buffer_size,
            "started_on": self._started,
            "magic_table": {},
            "applications": None,
            "worker_id": lambda: self.seat.worker,
            "masterpid": lambda: settings.master_pid,
            "total_requests": self.total_requests,
            "log": self._log,
            "alarm": self._alarm,
            "reload": lambda: self.seat.ask({"op": "reload"}),
            "stop": lambda: self.seat.ask({"op": "stop"}),
            "lock": self._acquire,
            "unlock": self._release,
            "is_locked": lambda number=0: self._lock(number).locked(),
        }
        if settings.snmp:
            offered |= self._snmp_functions()
        for group in (self._signals, self._mules, self._spooling):
            offered |= group.functions()
        offered |= _without_caches()
        if self._stores is not None:
            offered |= _stored(self._stores, frozenset(settings.quiet_caches))
        for name, value in offered.items():
            setattr(module, name, value)
        return module

    @staticmethod
    def _log(message: str) -> bool:
        if not isinstance(message, str):
            raise TypeError(f"log() argument 1 must be str, not {type(message).__name__}")
        data = message.encode("utf-8", "surrogateescape")
        os.write(2, data if data.endswith(b"\n") else data + b"\n")
        return True

    def _alarm(self, name: str, message: str | bytes) -> None:
        if not isinstance(name, str):
            raise TypeError(f"alarm() argument 1 must be str, not {type(name).__name__}")
        data = message if isinstance(message, bytes) else message.encode("utf-8", "surrogateescape")
        if not data or len(data) > self._settings.alarm_message_bytes:
            return
        self.seat.ask({"op": "alarm", "alarm": name, "message": data.decode("latin-1")})

    # ---------------------------------------------------------------- locks

    def _acquire(self, number: int = 0) -> None:
        """Wait for ever: an app that was told it holds a lock must hold it. A killed holder's lock is free at once."""
        self._lock(number).acquire(None)
        self._show_owner(number, os.getpid())

    def _release(self, number: int = 0) -> None:
        lock = self._lock(number)
        self._show_owner(number, 0)
        with contextlib.suppress(RuntimeError):  # not held: nothing to do, says uWSGI
            lock.release()

    def _show_owner(self, number: int, pid: int) -> None:
        cells, word = self._segment.cells("locks", number), self._segment.word("locks", "owner_pid")
        if pid or cells[word] == os.getpid():
            cells[word] = pid

    def _lock(self, number: int) -> SharedLock:
        if not 0 <= operator.index(number) < len(self._user_locks):
            raise ValueError("Invalid lock number")
        return self._user_locks[number]

    # ---------------------------------------------------------------- SNMP

    def _snmp_functions(self) -> dict[str, Any]:
        functions: dict[str, Any] = {}
        for suffix, kind, bits in (("counter32", COUNTER32, 32), ("counter64", COUNTER64, 64), ("gauge", GAUGE32, 32)):
            functions[f"snmp_set_{suffix}"] = self._setter(kind, bits)
            functions[f"snmp_incr_{suffix}"] = self._adder(kind, +1)
            functions[f"snmp_decr_{suffix}"] = self._adder(kind, -1)
        functions["snmp_set_community"] = self._set_community
        return functions

    def _setter(self, kind: int, bits: int) -> Callable[[int, int], bool | None]:
        def set_value(number: int, value: int) -> bool | None:
            wanted = operator.index(value) % (1 << bits)
            return self._store(byte(number), kind, lambda _old: wanted)

        return set_value

    def _adder(self, kind: int, sign: int) -> Callable[..., bool | None]:
        def add_value(number: int, delta: int = 1) -> bool | None:
            try:
                which, step = byte(number), sign * (operator.index(delta) % (1 << 32))
            except OverflowError as error:
                raise TypeError(str(error)) from error  # uWSGI's incr and decr know no other
            return self._store(which, kind, lambda old: (old + step) % (1 << 64))

        return add_value

    def _store(self, number: int, kind: int, change: Callable[[int], int]) -> bool | None:
        if not 1 <= number <= SNMP_VALUES:
            return None
        cells = self._segment.cells("snmp_values", number - 1)
        type_word, value_word = self._segment.word("snmp_values", "type"), self._segment.word("snmp_values", "value")
        if not self._snmp_lock.acquire(LOCK_SECONDS):
            raise DeadlineError("the SNMP values stayed locked")
        try:
            cells[value_word] = change(cells[value_word])
            cells[type_word] = kind
        finally:
            self._snmp_lock.release()
        return True

    def _set_community(self, community: str) -> bool:
        if not isinstance(community, str):
            raise TypeError(f"snmp_set_community() argument 1 must be str, not {type(community).__name__}")
        return self.seat.ask({"op": "community", "community": community[:72]})


def _without_caches() -> dict[str, Any]:
    """The cache functions where no cache is configured: uWSGI has them all the same."""

    def find_nothing(*_arguments: Any) -> None:
        """There is no cache."""

    def refuse(_cache: str = "") -> None:
        raise ValueError("no local uWSGI cache available")

    verbs = ("get", "set", "update", "del", "exists", "clear", "inc", "dec", "mul", "div")
    return {f"cache_{verb}": find_nothing for verb in verbs} | {"cache_num": lambda *_: 0, "cache_keys": refuse}


def _stored(stores: "Stores", quiet: frozenset[str]) -> dict[str, Any]:
    """Functions of what is configured; uWSGI has none of the others either."""
    offered: dict[str, Any] = {}
    if stores.caches:
        from palatine_app_server.uwsgi_module.caching import Caching

        offered |= Caching(dict(stores.caches), quiet).functions()
    if stores.queue is not None:
        from palatine_app_server.uwsgi_module.queueing import Queueing

        offered |= Queueing(stores.queue).functions()
    if stores.areas:
        from palatine_app_server.uwsgi_module.areas import Areas

        offered |= Areas(stores.areas).functions()
    return offered


def _palatine_version() -> str:
    from palatine import __version__

    return __version__


def _path(text: str) -> Any:
    from pathlib import Path  # SharedLock's own type; loaded already by palatine.counters

    return Path(text)
