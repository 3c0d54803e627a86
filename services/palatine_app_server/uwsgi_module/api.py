"""The `uwsgi` module apps import: what it offers exists only inside the server, as uWSGI's own does.

It holds nothing but references to the worker's segment, the channel to the master and the app's registered handlers.
"""

import atexit
import os
import socket
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from palatine.counters import Segment
from palatine_app_server.config.front_settings import FrontSettings
from palatine_app_server.config.http_settings import WebsocketSettings
from palatine_app_server.serving.core import Core
from palatine_app_server.serving.worker import Doors
from palatine_app_server.sharing.commons import Commons
from palatine_app_server.system.last_words import print_exc
from palatine_app_server.system.own_lines import dating, stamp
from palatine_app_server.uwsgi_module import arguments, refused
from palatine_app_server.uwsgi_module.current import Current
from palatine_app_server.uwsgi_module.facts import Facts
from palatine_app_server.uwsgi_module.locking import Locking
from palatine_app_server.uwsgi_module.metering import Metering
from palatine_app_server.uwsgi_module.mules import Mules
from palatine_app_server.uwsgi_module.seat import Seat
from palatine_app_server.uwsgi_module.signals import Signals
from palatine_app_server.uwsgi_module.snmp_values import SnmpValues
from palatine_app_server.uwsgi_module.spooling import Spooling

if TYPE_CHECKING:  # loaded only where the config asks for it
    from palatine_app_server.sharing.stores import Stores

VERSION: Final = "2.0.31"
#: No alarm has so long a name; a longer message than the channel takes would be none.
_LONGEST_ALARM: Final = 1024


class Group(Protocol):
    """Functions of one subject."""

    def functions(self) -> dict[str, Any]:
        """By the names apps call them."""


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
    harakiri_seconds: int = 0
    pidfile: str = ""
    websockets: WebsocketSettings = WebsocketSettings()
    front: FrontSettings = FrontSettings()
    mode: str = ""
    log_date: str | None = None  # strftime(3)'s; "": ctime(3)'s; None: lines have no date
    runs_atexit: bool = True
    tears_down: bool = True  # Python's own functions at exit, too


class Api:
    """State behind the module: one per zygote, inherited by the workers it forks."""

    def __init__(
        self, settings: ApiSettings, segment: Segment, master: socket.socket, commons: Commons, *, generation: int
    ) -> None:
        self.seat = Seat(master, generation, settings.harakiri_seconds)
        self._settings = settings
        self._segment = segment
        self._started = int(time.time())
        self._request_cells: list[memoryview[int]] = []
        self._request_word = 0
        self._signals = Signals(self.seat)
        self._mules = Mules(self.seat, commons.queues)
        self._commons = commons
        self._stores = commons.stores
        self._spooling = Spooling(self.seat, commons.spools, segment)
        self._current = Current(self.seat, segment, settings.websockets, settings.front)
        self.module = self._build()

    # ---------------------------------------------------------------- the process's side

    def install(self) -> None:
        """Make `import uwsgi` work."""
        sys.modules["uwsgi"] = self.module
        sys.meta_path.insert(0, _Decorators())

    def enter_worker(self, worker: int, doors: Doors, cores: Sequence[Core]) -> None:
        """This process is worker `worker` now; it hears by these doors and serves with these cores."""
        self.seat.worker, self.seat.signals, self.seat.cores = worker, tuple(doors.signals), cores
        self.module.sockets = [listener.fd for listener in doors.listeners]
        self.run_post_fork_hook()

    def run_post_fork_hook(self) -> None:
        """Run what the app wants run in every process the zygote forks."""
        hook = getattr(self.module, "post_fork_hook", None)
        if callable(hook):
            try:
                hook()
            except Exception:  # noqa: BLE001 - the app's; uWSGI prints it and serves on
                print_exc()

    def after_request_hook(self) -> tuple[Callable[[], Any], ...]:
        """What the app has assigned to `uwsgi.after_req_hook`, or nothing."""
        hook = getattr(self.module, "after_req_hook", None)
        return (hook,) if callable(hook) else ()

    def run_signal(self, number: int) -> None:
        """Run the handler registered for a uWSGI signal."""
        self._signals.run(number)

    def take_message(self, message: bytes) -> bool:
        """A message for a mule: give it to the app's hook; False where there is none."""
        return self._mules.take(message, getattr(self.module, "mule_msg_hook", None))

    def run_atexit(self) -> None:
        """Call what the app assigned to `uwsgi.atexit`, then what it registered with Python."""
        if not self._settings.runs_atexit:
            return
        callback = getattr(self.module, "atexit", None)
        if callable(callback):
            try:
                callback()
            except Exception:  # noqa: BLE001 - the app's: the process ends all the same
                print_exc()
        if self._settings.tears_down:
            atexit._run_exitfuncs()  # noqa: SLF001 - os._exit would skip them, sys.exit would wait for the app's threads

    def total_requests(self) -> int:
        """Requests of all workers, both generations."""
        if not self._request_cells:  # asked for with every request line
            segment, rows = self._segment, self._settings.processes * self._settings.threads
            self._request_cells = [segment.cells("cores", row, bank) for row in range(rows) for bank in (0, 1)]
            self._request_word = segment.word("cores", "requests")
        word = self._request_word
        return sum([cells[word] for cells in self._request_cells])

    # ---------------------------------------------------------------- the module

    def _build(self) -> "_Module":
        settings = self._settings
        module = _Module("uwsgi", self._current)
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
            "is_a_reload": self.seat.generation > 1,
            "loop": None,
            "unbit": None,
            "pidfile": os.fsencode(settings.pidfile) or None,
            "sockets": [],
            "worker_id": lambda: self.seat.worker,
            "masterpid": lambda: settings.master_pid,
            "total_requests": self.total_requests,
            "log": self._log,
            "alarm": self._alarm,
            "reload": lambda: self.seat.ask({"op": "reload"}),
            "stop": lambda: self.seat.ask({"op": "stop"}),
        }
        groups: list[Group] = [
            self._signals,
            self._mules,
            self._spooling,
            self._current,
            Facts(self.seat, self._segment),
            Locking(Path(settings.lock_path), settings.locks, self._segment),
        ]
        if settings.snmp:
            groups.append(SnmpValues(self.seat, Path(settings.lock_path), self._segment))
        for group in groups:
            offered |= group.functions()
        offered |= refused.functions()
        offered |= Metering(self._commons.metrics, self._segment, self._commons.metrics_lock).functions()
        offered |= _without_caches()
        if self._stores is not None:
            offered |= _stored(self._stores, frozenset(settings.quiet_caches))
        if settings.log_date is not None:
            offered["_stamp"] = dating(settings.log_date)  # for lines of ours
        if settings.mode:
            offered["mode"] = os.fsencode(settings.mode)
        for name, value in offered.items():
            setattr(module, name, arguments.careless(value) if name in arguments.UNPARSED else value)
        return module

    @staticmethod
    def _log(message: str) -> bool:
        if not isinstance(message, str):
            raise TypeError(f"log() argument 1 must be str, not {type(message).__name__}")
        data = f"{stamp()}{message}".encode("utf-8", "surrogateescape")
        os.write(2, data if data.endswith(b"\n") else data + b"\n")
        return True

    def _alarm(self, name: str, message: str | bytes) -> None:
        if not isinstance(name, str):
            raise TypeError(f"alarm() argument 1 must be str, not {type(name).__name__}")
        data = arguments.data(message, "alarm", 2)
        if not data or len(data) > self._settings.alarm_message_bytes or len(name) > _LONGEST_ALARM:
            return
        self.seat.ask({"op": "alarm", "alarm": name, "message": data.decode("latin-1")})


class _Module(types.ModuleType):
    """The module; `env` and `start_response` are the running request's, which no plain attribute could be."""

    sockets: list[int]

    def __init__(self, name: str, current: Current) -> None:
        super().__init__(name, "The API of the server this app runs in.")
        self._current = current

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), "env", "start_response"]

    @property
    def env(self) -> dict[str, Any]:
        """The variables of the request this thread is in."""
        return self._current.environ()

    @property
    def start_response(self) -> Callable[..., Any] | None:
        """That of the request this thread is in."""
        return self._current.start_response()


class _Decorators:
    """Finds `uwsgidecorators` in this package, whatever else is installed: it belongs to the server."""

    def find_spec(self, fullname: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        """Where the module is, if it is that one."""
        if fullname != "uwsgidecorators":
            return None
        package = os.path.dirname(os.path.dirname(__file__))
        return spec_from_file_location(fullname, os.path.join(package, "uwsgidecorators.py"))


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
