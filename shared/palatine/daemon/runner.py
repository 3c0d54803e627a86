"""From argv to exit code: the one way every daemon starts and ends; must never know what the daemon is for."""

import contextlib
import functools
import importlib
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

import trio

from palatine import __version__, exits, places
from palatine.counters import Segment
from palatine.daemon import privileges
from palatine.daemon.context import Context
from palatine.daemon.logs import LEVELS, Logs, standard_streams
from palatine.daemon.manual import build_parser
from palatine.daemon.settings import Document, nearest, operators, read_document, typed
from palatine.daemon.signals import ignore_early, receive_signals
from palatine.daemon.spec import Spec
from palatine.errors import AlreadyRunningError, PalatineError
from palatine.notify import Notifier
from palatine.schema import DAEMON

Serve = Callable[..., Awaitable[None]]

#: Keys any daemon's file may have.
COMMON_KEYS: Final = ("operators", "log-level")
#: What the reply to a ctl `stop` is given to leave before its endpoint closes.
_REPLY_SECONDS: Final = 0.05


def run(spec: Spec, argv: Sequence[str] | None = None) -> int:
    """Run the daemon until it has ended; returns its exit code and logs the reason. `argv` is without the command."""
    try:
        args = build_parser(spec).parse_args(argv)
    except SystemExit as done:  # argparse has printed the help, or what is wrong
        return done.code if isinstance(done.code, int) else exits.USAGE
    standard_streams()
    ignore_early()
    logs = Logs(spec.name, args.log_format, args.log_level or "info")
    ctx = Context(spec, args, logs, logs.install())
    try:
        if args.check:
            ctx.use_loader(lambda: _load(ctx))
            ctx.log.info("config.good", path=ctx.document.path or None)
            return exits.OK
        _prepare(ctx)
        trio.run(_live, ctx)
    except KeyboardInterrupt:
        return exits.OK
    except BaseException as error:  # noqa: BLE001 - the edge: whatever it is becomes a line in the log and an exit code
        return _explain(ctx, error)
    ctx.log.info("daemon.stopped")
    return exits.OK


def _prepare(ctx: Context) -> None:
    """Directories, rights and config: all that may be refused before anything is touched."""
    args, name = ctx.args, ctx.spec.name
    ctx.notifier = Notifier.from_environment(os.environ)
    identity = privileges.find_identity(args.user, args.group)
    ctx.runtime_dir = places.runtime_dir(args.runtime_dir)
    ctx.daemon_dir = places.daemon_dir(ctx.runtime_dir, name)
    ctx.state_dir = places.state_dir(name, args.state_dir)
    parent = os.environ.pop(privileges.PARENT_VARIABLE, "")
    if identity:
        importlib.import_module("palatine.daemon.control")  # the other user may not be able to read what we can
        privileges.become(identity, (ctx.daemon_dir, ctx.state_dir))
    if parent.isdigit() and not privileges.die_with_parent(int(parent)):
        raise PalatineError(f"the parent (pid {parent}) is gone")
    ctx.use_loader(lambda: _load(ctx))


def _load(ctx: Context) -> tuple[Document, Any]:
    path = places.config_file(ctx.spec.name, ctx.args.config)
    document = read_document(path) if path else Document({})
    settings = typed(document, ctx.spec.config, also=COMMON_KEYS) if ctx.spec.config else None
    level = document.values.get("log-level")
    if level not in {None, *LEVELS}:
        raise document.error(("log-level",), f"no log level {level!r}{nearest(str(level), LEVELS)}")
    operators(document)
    ctx.logs.level = ctx.args.log_level or level or "info"
    return document, settings


async def _live(ctx: Context) -> None:
    """The daemon's life: signals and ctl outlast the rest, so that even a stop is answered and can be hurried."""
    async with trio.open_nursery() as ctx.lifetime:
        async with trio.open_nursery() as ctx.nursery:
            await ctx.lifetime.start(receive_signals, ctx)
            await _serve(ctx)
            ctx.nursery.cancel_scope.cancel()
        if ctx.reply_pending:
            await trio.sleep(_REPLY_SECONDS)
        ctx.lifetime.cancel_scope.cancel()


async def _serve(ctx: Context) -> None:
    # here, after options and config are known to be good: zmq takes a third of the start-up
    from palatine.bus import serve_requests
    from palatine.daemon.control import common_handlers, counting_role_of

    ctx.log.info("daemon.starting", version=__version__, config=ctx.document.path or None, state_dir=str(ctx.state_dir))
    ctx.handlers.update(common_handlers(ctx))
    serve = functools.partial(serve_requests, ctx.daemon_dir / "ctl", ctx.handlers, role_of=counting_role_of(ctx))
    await ctx.lifetime.start(_own_ctl, ctx, serve)  # claims the lock: a second instance ends here, before any harm
    tables = tuple(dict.fromkeys((*DAEMON, *ctx.spec.tables)))
    labels = {"name": ctx.spec.name, "version": __version__, **ctx.spec.labels}
    segment = Segment.create(ctx.daemon_dir / "seg", tables, ctx.spec.rows, labels)
    ctx.use_segment(segment)
    try:
        segment.publish()
        ctx.nursery.start_soon(_watchdog, ctx)
        await ctx.spec.main(ctx)
    finally:
        for one in {segment, ctx.segment}:  # a daemon whose rows ran out has published another
            one.close(unlink=True)


async def _own_ctl(ctx: Context, serve: Serve, *, task_status: trio.TaskStatus[None]) -> None:
    """Serve ctl until the very end, and then take its socket away, unless a following instance has bound its own."""
    from palatine.bus import claim

    try:
        await serve(task_status=task_status)
    finally:
        with contextlib.suppress(AlreadyRunningError), claim(ctx.daemon_dir / "ctl") as held:
            held.remove()


async def _watchdog(ctx: Context) -> None:
    """Prove to systemd that this loop turns, twice in each period it allows."""
    while ctx.notifier.watchdog:
        ctx.notifier.send("WATCHDOG=1")
        await trio.sleep(ctx.notifier.watchdog / 2)


def _explain(ctx: Context, error: BaseException) -> int:
    """Log why the daemon ends; the exit code of the most telling of possibly many errors."""
    leaves = [leaf for leaf in _leaves(error) if not isinstance(leaf, trio.Cancelled)]
    meant = next((leaf for leaf in leaves if isinstance(leaf, PalatineError)), None)
    if meant and len(leaves) == 1:
        ctx.log.error("daemon.failed", reason=str(meant), exit_status=meant.exit_status)
        return meant.exit_status
    refused = next((leaf for leaf in leaves if isinstance(leaf, PermissionError)), None)
    if refused and len(leaves) == 1:
        ctx.log.error("daemon.failed", reason=str(refused), exit_status=exits.NO_PERMISSION)
        return exits.NO_PERMISSION
    if leaves and all(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        return exits.OK
    status = meant.exit_status if meant else exits.SOFTWARE
    ctx.log.error("daemon.crashed", exit_status=status, exc_info=error)
    return status


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
