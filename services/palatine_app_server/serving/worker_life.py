"""A worker from its birth to its end: logs, hooks, counters and the loop that serves, put together in this order."""

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from palatine import exits
from palatine.counters import Segment
from palatine_app_server.config.process_settings import ProcessSettings
from palatine_app_server.config.settings import AppSettings
from palatine_app_server.log import shared_pipe
from palatine_app_server.serving import app_loading, loader
from palatine_app_server.serving.ledger import Ledger
from palatine_app_server.serving.request import WorkerSettings
from palatine_app_server.serving.worker import Worker
from palatine_app_server.starting import hooks, limits
from palatine_app_server.supervision import streams
from palatine_app_server.supervision.inheritance import Inheritance
from palatine_app_server.system import channel, crashes, own_lines, titles
from palatine_app_server.uwsgi_module.api import Api


def work(worker: int, inheritance: Inheritance, api: Api, app: Any) -> int:
    """Be worker `worker`; its exit code. HookError."""
    settings, segment = inheritance.settings, inheritance.segment
    bank = inheritance.generation & 1
    log_ends = inheritance.log_ends(worker)
    streams.write_to(log_ends.output)
    crashes.report_to(inheritance.crash_fd(worker))
    row = _Row(segment, worker, bank)
    titles.put_on(settings.process.titles, f"worker {worker}")
    limits.choose_cpus(settings.process.start.limits, worker)
    limits.stay_in_memory(settings.process.start.limits)
    hooks.run(settings.process.hooks_at("post-fork"), "post-fork")
    if settings.lazy_apps:
        try:
            app = app_loading.load(settings, all_of_it=inheritance.must_load)
        except loader.AppError as error:
            app_loading.report(error, needed=settings.need_app)
            if inheritance.must_load or isinstance(error, loader.HopelessError):
                return exits.NO_APP
    if settings.process.start.profiler:
        from palatine_app_server.serving import profiler

        profiler.install(settings.process.start.profiler)
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
            request_log_fd=shared_pipe.without_waiting(log_ends.requests),
            multiprocess=settings.processes > 1,
            catch_exceptions=settings.catch_exceptions,
            hooks_timed=settings.process.start.hooks_timed,
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
        from palatine_app_server.serving import autoreload

        ignored = settings.process.auto_reload_ignored
        ask = partial(channel.send, inheritance.master, {"op": "reload"})
        autoreload.watch(settings.process.auto_reload, ignored, ask)
    if settings.process.tracebacker:
        from palatine_app_server.serving import tracebacker

        tracebacker.serve(settings.process.tracebacker, worker)
    if settings.process.worker_override or settings.process.worker_program:
        return _be_another(settings.process, doors.listeners[0].fd)
    return server.run()


def _after_request(settings: AppSettings, api: Api) -> tuple[Callable[[], Any], ...]:
    start = settings.process.start
    names, reaping = start.after_request, (_bury_children,) if start.reaper else ()
    if not names:
        return (*api.after_request_hook(), *reaping)
    from palatine_app_server.starting import python_calls

    return (*api.after_request_hook(), *map(python_calls.find, names), *reaping)


def _be_another(process: ProcessSettings, listener: int) -> int:
    if process.worker_program:
        return _execute(process.worker_program, listener)
    return _run_instead(process.worker_override)


def _execute(program: str, listener: int) -> int:
    """`worker-exec`: a program is the worker, with our first socket as its descriptor 0, blocking, as in uWSGI."""
    _own_signals()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.set_blocking(listener, True)
    os.dup2(listener, 0)
    try:
        os.execvp(program, [program])  # noqa: S606 - no shell wanted
    except OSError as error:
        own_lines.say(f"execvp(): {error.strerror}: {program}")
        return exits.FAILURE


def _own_signals() -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _run_instead(path: str) -> int:
    """`python-worker-override`: a script is the worker, with `uwsgi.sockets` to accept from and signals of its own."""
    import runpy

    _own_signals()
    try:
        runpy.run_path(path, run_name="__main__")
    except OSError as error:
        own_lines.say(f"{path}: {error.strerror}")
        return exits.FAILURE
    return exits.OK


def _bury_children() -> None:
    """reaper: whoever the app has started and forgotten."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


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
