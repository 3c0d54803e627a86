"""The zygote: imports the app once per generation and forks workers on request. It starts no thread and knows no bus.

The master forks it (the master itself never imports an app), and talks to it over one SOCK_SEQPACKET pair:

    zygote → master   {"op": "loaded", "seconds": s} or {"op": "failed", "error": text, "hopeless": bool}
    master → zygote   {"op": "fork", "worker": n} or {"op": "aide", "role": "mule" or "spooler", "number": n}
                      {"op": "become", "worker": n}: be that worker yourself, nobody else will be needed
    worker → master   {"op": "spawned", "worker": n, "pid": p}   over the same pair, first thing it does
    between → master  {"op": "forked", "worker": n, "pid": p}    before it: who dies without a word is known, too
    aide → master     {"op": "aide", "role": r, "number": n, "pid": p}   likewise

A worker or aide is forked twice, so that it becomes a child of the master (a subreaper), who reaps and respawns it,
also when the zygote is gone.
"""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from palatine import exits
from palatine.errors import PalatineError
from palatine_app_server.serving import app_loading, loader, worker_life
from palatine_app_server.serving.worker import ORPHAN_SIGNAL, leave
from palatine_app_server.starting import hooks, privileges
from palatine_app_server.starting.errors import HookError
from palatine_app_server.supervision import streams
from palatine_app_server.supervision.inheritance import Inheritance
from palatine_app_server.system import channel, crashes, linux, titles
from palatine_app_server.system.last_words import print_exc
from palatine_app_server.uwsgi_module.api import Api


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
    crashes.report_to(2)  # inherited by everybody it forks: a crash says where
    streams.take_over(inheritance.log_ends(0).output, keeps_stdin=inheritance.settings.process.start.keeps_stdin)
    api = Api(
        inheritance.api, inheritance.segment, inheritance.master, inheritance.commons, generation=inheritance.generation
    )
    api.install()
    titles.put_on(inheritance.settings.process.titles, "zygote")
    app, code = _loaded(inheritance, orders)
    if code is not None:
        return code
    linux.be_ready_to_fork()
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
        live = partial(worker_life.work, worker, inheritance, api, app)
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
        app_loading.prepare(settings)
        if not settings.lazy_apps:
            app = app_loading.load(settings, all_of_it=inheritance.must_load)
    except (loader.AppError, HookError) as error:
        app_loading.report(error, needed=settings.need_app)
        problem = str(error)
        hopeless = inheritance.must_load or isinstance(error, loader.HopelessError | HookError)
        channel.send(orders, {"op": "failed", "error": problem, "hopeless": hopeless})
        if hopeless:
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
    from palatine_app_server.starting import jail

    try:
        jail.give_up_rights(settings, inheritance.master_pid)
    except PalatineError as error:
        sys.stderr.write(f"{error}\n")
        channel.send(orders, {"op": "failed", "error": str(error), "hopeless": True})
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
        if "worker" in birth:
            with contextlib.suppress(OSError):  # nobody listens any more, which the child finds out itself
                channel.send(orders, {**birth, "op": "forked", "pid": child})
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
        try:
            channel.send(orders, {**birth, "pid": os.getpid()})
        except BrokenPipeError:  # the master has changed its mind: it stops
            leave(exits.OK, api.run_atexit)
        orders.close()
        code = live()
    except HookError as error:
        sys.stderr.write(f"{error}\n")
        channel.send(inheritance.master, {"op": "stop"})
        code = exits.FAILURE
    except BaseException:  # noqa: BLE001 - nothing may climb into the zygote's frames
        print_exc()
        code = exits.FAILURE
    leave(code, api.run_atexit)


def _assist(order: dict[str, Any], inheritance: Inheritance, api: Api) -> int:
    from palatine_app_server.crews import aides

    if order["role"] == aides.MULE:
        hooks.run(inheritance.settings.process.hooks_at("as-mule"), "as-mule")
    features, segment = inheritance.settings.features, inheritance.segment
    titles.put_on(inheritance.settings.process.titles, aides.title(str(order["role"]), int(order["number"])))
    return aides.assist(str(order["role"]), int(order["number"]), features, segment, inheritance.commons, api)


def _own_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTSTP, signal.SIGWINCH):
        signal.signal(number, signal.SIG_IGN)  # the terminal sends them to everybody; the master decides
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
