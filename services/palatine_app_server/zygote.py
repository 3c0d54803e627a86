"""The zygote: imports the app once per generation and forks workers on request. It starts no thread and knows no bus.

The master forks it (the master itself never imports an app), and talks to it over one SOCK_SEQPACKET pair:

    zygote → master   {"op": "loaded", "seconds": s} or {"op": "failed", "error": text}
    master → zygote   {"op": "fork", "worker": n} or {"op": "aide", "role": "mule" or "spooler", "number": n}
                      {"op": "become", "worker": n}: be that worker yourself, nobody else will be needed
    worker → master   {"op": "spawned", "worker": n, "pid": p}   over the same pair, first thing it does
    aide → master     {"op": "aide", "role": r, "number": n, "pid": p}   likewise

A worker or aide is forked twice, so that it becomes a child of the master (a subreaper), who reaps and respawns it,
also when the zygote is gone.
"""

import faulthandler
import gc
import io
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, NoReturn, TextIO

from palatine import exits
from palatine.counters import Segment
from palatine.errors import PalatineError
from palatine_app_server import apps, channel, hooks, limits, linux, loader, privileges, titles
from palatine_app_server.api import Api, ApiSettings
from palatine_app_server.commons import Commons
from palatine_app_server.last_words import print_exc
from palatine_app_server.ledger import Ledger
from palatine_app_server.logs import Ends
from palatine_app_server.request import Handler, WorkerSettings, WsgiApp
from palatine_app_server.settings import AppSettings
from palatine_app_server.worker import ORPHAN_SIGNAL, Doors, Worker, leave


class Inheritance(NamedTuple):
    """What the master leaves to a zygote and its workers."""

    settings: AppSettings
    api: ApiSettings
    segment: Segment
    doors: Callable[[int], Doors]  # of one worker
    master: socket.socket  # workers → master
    generation: int
    master_pid: int
    log_ends: Callable[[int], Ends]  # what a worker writes to; 0 is the zygote
    commons: Commons
    must_load: bool = False  # without its app this generation is of no use: another one serves, or need-app is set


def run(inheritance: Inheritance, orders: socket.socket) -> NoReturn:
    """The zygote's life, in the freshly forked child; ends when the master closes `orders` or dies."""
    try:
        code = _live(inheritance, orders)
    except BaseException:  # noqa: BLE001 - nothing may climb into the master's frames
        print_exc()
        code = exits.FAILURE
    os._exit(code)


def _live(inheritance: Inheritance, orders: socket.socket) -> int:
    linux.die_with_parent(inheritance.master_pid)
    _own_signals()
    faulthandler.enable(file=2, all_threads=True)  # inherited by every worker: a crash says where
    _own_streams(inheritance.log_ends(0).output, keeps_stdin=inheritance.settings.process.start.keeps_stdin)
    api = Api(
        inheritance.api, inheritance.segment, inheritance.master, inheritance.commons, generation=inheritance.generation
    )
    api.install()
    titles.put_on(inheritance.settings.process.titles, "zygote")
    app, code = _loaded(inheritance, orders)
    if code is not None:
        return code
    gc.collect()
    gc.freeze()  # a collection in a worker would otherwise touch, and so copy, every page it shares with us
    return _serve(inheritance, orders, api, app)


def _serve(inheritance: Inheritance, orders: socket.socket, api: Api, app: Any) -> int:
    """Fork what the master orders until it hangs up."""
    while True:
        order = channel.receive(orders)
        if order is None:
            return exits.OK
        if order["op"] == "aide":
            _fork_twice(order, signal.SIGKILL, partial(_assist, order, inheritance, api), inheritance, orders, api)
            continue
        worker = int(order["worker"])
        birth = {"op": "spawned", "worker": worker}
        live = partial(_work, worker, inheritance, api, app)
        bear = _begin if order["op"] == "become" else _fork_twice
        bear(birth, ORPHAN_SIGNAL, live, inheritance, orders, api)


def _loaded(inheritance: Inheritance, orders: socket.socket) -> tuple[Any, int | None]:
    """The app, or an exit code where this zygote is of no use; with the app's rights from now on."""
    settings = inheritance.settings
    late = settings.process.start.drop_after_apps
    started = time.monotonic()
    if late:
        privileges.step_up()
    elif not _gives_up_rights(inheritance, orders):
        return None, exits.FAILURE
    app, problem = None, ""
    try:
        _prepare(settings)
        if not settings.lazy_apps:
            app = _load(settings)
    except (loader.AppError, hooks.HookError) as error:
        _report(error)
        problem = str(error)
        channel.send(orders, {"op": "failed", "error": problem})
        if inheritance.must_load:
            return None, exits.NO_APP
    if late and not _gives_up_rights(inheritance, orders):
        return None, exits.FAILURE
    if not problem:
        channel.send(orders, {"op": "loaded", "seconds": int(time.monotonic() - started)})
    return app, None


def _gives_up_rights(inheritance: Inheritance, orders: socket.socket) -> bool:
    """Into the jail and to the app's user; False where that cannot be, and nothing may run with the rights we have."""
    settings = inheritance.settings
    if not settings.process.start.steps_down and not settings.process.rights.master_as_root:
        return True
    from palatine_app_server import jail

    try:
        jail.give_up_rights(settings, inheritance.master_pid)
    except PalatineError as error:
        sys.stderr.write(f"{error}\n")
        channel.send(orders, {"op": "failed", "error": str(error)})
        return False
    return True


def _fork_twice(
    birth: dict[str, Any],
    orphan_signal: int,
    live: Callable[[], int],
    inheritance: Inheritance,
    orders: socket.socket,
    api: Api,
) -> None:
    """Fork a process whose parent is the master: it tells its `birth`, and ends with what `live` returns."""
    middle = os.fork()
    if middle:
        _, status = os.waitpid(middle, 0)
        if status:
            raise ChildProcessError(f"a process could not be forked: {birth}")
        return
    middle = os.getpid()
    try:
        child = os.fork()
    except OSError:
        os._exit(exits.FAILURE)
    if child:
        os._exit(exits.OK)
    try:
        linux.wait_for_orphaning(middle)
    except BaseException:  # noqa: BLE001 - nothing may climb into the zygote's frames
        print_exc()
        os._exit(exits.FAILURE)
    _begin(birth, orphan_signal, live, inheritance, orders, api)


def _begin(
    birth: dict[str, Any],
    orphan_signal: int,
    live: Callable[[], int],
    inheritance: Inheritance,
    orders: socket.socket,
    api: Api,
) -> None:
    """Tell the master, whose child this process is, of the `birth`; live, and end: it never returns."""
    try:
        for number in (signal.SIGHUP, signal.SIGINT):  # until it serves, a worker told to go may just go
            signal.signal(number, signal.SIG_DFL)
        linux.die_with_parent(inheritance.master_pid, orphan_signal)
        channel.send(orders, {**birth, "pid": os.getpid()})
        orders.close()
        code = live()
    except hooks.HookError as error:
        sys.stderr.write(f"{error}\n")
        channel.send(inheritance.master, {"op": "stop"})
        code = exits.FAILURE
    except BaseException:  # noqa: BLE001 - nothing may climb into the zygote's frames
        print_exc()
        code = exits.FAILURE
    leave(code, api.run_atexit)


def _assist(order: dict[str, Any], inheritance: Inheritance, api: Api) -> int:
    from palatine_app_server import aides

    if order["role"] == aides.MULE:
        hooks.run(inheritance.settings.process.hooks_at("as-mule"), "as-mule")
    features, segment = inheritance.settings.features, inheritance.segment
    return aides.assist(str(order["role"]), int(order["number"]), features, segment, inheritance.commons, api)


def _work(worker: int, inheritance: Inheritance, api: Api, app: Any) -> int:
    settings, segment = inheritance.settings, inheritance.segment
    bank = inheritance.generation & 1
    log_ends = inheritance.log_ends(worker)
    _write_to(log_ends.output)
    row = _Row(segment, worker, bank)
    titles.put_on(settings.process.titles, f"worker {worker}")
    limits.choose_cpus(settings.process.start.limits, worker)
    limits.stay_in_memory(settings.process.start.limits)
    hooks.run(settings.process.hooks_at("post-fork"), "post-fork")
    if settings.lazy_apps:
        try:
            app = _load(settings)
        except loader.AppError as error:
            _report(error)
            if inheritance.must_load:
                return exits.NO_APP
    ledgers = [Ledger(segment, (worker - 1) * settings.threads + core, bank) for core in range(settings.threads)]
    for ledger in ledgers:
        ledger.reset_state()
    doors = inheritance.doors(worker)
    server = Worker(
        WorkerSettings(
            worker=worker,
            threads=settings.threads,
            limits=settings.limits,
            harakiri_seconds=settings.harakiri_seconds,
            mercy_seconds=settings.mercy_seconds,
            request_log=settings.log.requests,
            request_log_fd=log_ends.requests,
            multiprocess=settings.processes > 1,
            catch_exceptions=settings.catch_exceptions,
            after_request=_after_request(settings, api),
        ),
        doors,
        ledgers,
        app,
        on_signal=_counting_signals(api, segment, worker, bank),
        total_requests=api.total_requests,
        on_exit=api.run_atexit,
        pause_wanted=row.paused,
        on_pause=row.show_pause,
        recycle=settings.life.recycle,
        on_leaving=lambda reason: channel.send(
            inheritance.master,
            {"op": "leaving", "worker": worker, "generation": inheritance.generation, "reason": reason},
        ),
    )
    api.enter_worker(worker, doors, server.cores)
    server.install_signals()
    row.show_pause(row.paused())
    channel.send(
        inheritance.master,
        {"op": "accepting", "worker": worker, "generation": inheritance.generation, "paused": row.paused()},
    )
    for moment in _accepting_moments(worker, segment):
        hooks.run(settings.process.hooks_at(moment), moment)
    if worker == 1 and settings.process.auto_reload:
        from palatine_app_server import autoreload

        ignored = settings.process.auto_reload_ignored
        ask = partial(channel.send, inheritance.master, {"op": "reload"})
        autoreload.watch(settings.process.auto_reload, ignored, ask)
    if settings.process.tracebacker:
        from palatine_app_server import tracebacker

        tracebacker.serve(settings.process.tracebacker, worker)
    if settings.process.worker_override:
        return _run_instead(settings.process.worker_override)
    return server.run()


def _after_request(settings: AppSettings, api: Api) -> tuple[Callable[[], Any], ...]:
    names = settings.process.start.after_request
    if not names:
        return api.after_request_hook()
    from palatine_app_server import python_calls

    return (*api.after_request_hook(), *map(python_calls.find, names))


def _run_instead(path: str) -> int:
    """`python-worker-override`: a script is the worker, with `uwsgi.sockets` to accept from and signals of its own."""
    import runpy

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    try:
        runpy.run_path(path, run_name="__main__")
    except OSError as error:
        sys.stderr.write(f"{path}: {error.strerror}\n")
        return exits.FAILURE
    return exits.OK


def _accepting_moments(worker: int, segment: Segment) -> list[str]:
    """The hooks of a worker that takes requests from now on: some are the first worker's, some the first time's."""
    first_time = segment.cells("slots", worker - 1)[segment.word("slots", "respawn_count")] <= 1
    moments = ["accepting", *(["accepting1"] if worker == 1 else [])]
    return [*moments, *(f"{moment}-once" for moment in moments)] if first_time else moments


class _Row:
    """A worker's own row of the segment."""

    def __init__(self, segment: Segment, worker: int, bank: int) -> None:
        self._cells = segment.cells("workers", worker - 1, bank)
        self._accepting, self._suspended = (segment.word("workers", name) for name in ("accepting", "suspended"))

    def paused(self) -> bool:
        """Whether the master, which writes this word, wants a pause."""
        return bool(self._cells[self._suspended])

    def show_pause(self, paused: bool) -> None:  # noqa: FBT001 - a callback's only word
        """A paused worker accepts nothing."""
        self._cells[self._accepting] = int(not paused)


def _counting_signals(api: Api, segment: Segment, worker: int, bank: int) -> Callable[[int], None]:
    cells = segment.cells("workers", worker - 1, bank)
    signals, running = segment.word("workers", "signals"), segment.word("workers", "running_signal")

    def handle(number: int) -> None:
        cells[running] = number + 1
        api.run_signal(number)
        cells[signals] += 1
        cells[running] = 0

    return handle


def _prepare(settings: AppSettings) -> None:
    for name in settings.unenv:
        os.environ.pop(name, None)
    for name, value in settings.env:
        os.environ[name] = value
    sys.argv[:] = ["uwsgi", *settings.app.argv]
    loader.prepare_path(settings.app)


def _load(settings: AppSettings) -> WsgiApp | Handler | None:
    hooks.run(settings.process.hooks_at("pre-app"), "pre-app")
    loader.prepare_modules(settings.app)
    loaded = apps.load_all(settings.app)
    if settings.need_app and not loaded:
        raise loader.AppError("*** no app loaded. GAME OVER ***")
    hooks.run(settings.process.hooks_at("post-app"), "post-app")
    if settings.app.chdir2:
        os.chdir(settings.app.chdir2)
    return apps.made(settings.front, settings.app, loaded)


def _report(error: loader.AppError | hooks.HookError) -> None:
    if error.__cause__ is not None:
        sys.__excepthook__(type(error.__cause__), error.__cause__, error.__cause__.__traceback__)
    sys.stderr.write(f"unable to load app 0 (mountpoint='') ({error})\n")


def _own_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTSTP, signal.SIGWINCH):
        signal.signal(number, signal.SIG_IGN)  # the terminal sends them to everybody; the master decides
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def _own_streams(log_fd: int, *, keeps_stdin: bool) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    if not keeps_stdin:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
    _write_to(log_fd)
    sys.stdout, sys.stderr = _line_by_line(sys.stdout), _line_by_line(sys.stderr)


def _line_by_line(stream: TextIO) -> TextIO:
    """One print is one write, hence one line for alarms, also under -u, up to what the pipe to the master holds."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    raw = _Pieces(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, line_buffering=True, write_through=False
    )


class _Pieces(io.FileIO):
    """Writes as much of a long text as the kernel takes at once; whoever buffers in front of it writes the rest."""

    def write(self, data: Any, /) -> int:
        return super().write(memoryview(data)[: channel.BUFFER_BYTES // 2])


def _write_to(log_fd: int) -> None:
    for number in (1, 2):
        os.dup2(log_fd, number)
