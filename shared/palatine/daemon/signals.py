"""A daemon's signals: TERM drains, INT and QUIT stop, HUP rereads, USR1 dumps, USR2 reopens; others never kill it."""

import os
import signal
from typing import Final

import trio

from palatine.daemon.context import Context
from palatine.errors import ConfigError
from palatine.exits import FAILURE

#: Fatal or stopping by default, and without a meaning for every daemon.
IGNORED: Final = tuple(
    getattr(signal, name)
    for name in (
        "SIGALRM",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGWINCH",
        "SIGVTALRM",
        "SIGPROF",
        "SIGIO",
        "SIGPWR",
    )
)
_HANDLED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
#: A stop asked for this often, while one is under way, no longer waits for anything.
_PATIENCE: Final = 3


def ignore_early() -> None:
    """Until `receive_signals` runs: a reload or a dump asked of a daemon that is still starting must not end it."""
    for signum in (*IGNORED, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)


async def receive_signals(ctx: Context, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Act on signals until cancelled, which must come after everything else has ended."""
    stops = 0
    with trio.open_signal_receiver(*_HANDLED, *IGNORED) as received:
        task_status.started()
        async for signum in received:
            stops += signum in {signal.SIGINT, signal.SIGQUIT}
            if stops >= _PATIENCE:
                ctx.log.error("daemon.forced", reason="interrupted again and again")
                os._exit(FAILURE)
            _act(ctx, signum)


def _act(ctx: Context, signum: int) -> None:
    name = signal.Signals(signum).name
    if ctx.signalled(signum):
        return
    match signum:
        case signal.SIGTERM:
            ctx.drain(name)
        case signal.SIGINT | signal.SIGQUIT:
            ctx.stop(name)
        case signal.SIGHUP:
            ctx.nursery.start_soon(_reload, ctx)
        case signal.SIGUSR1:
            ctx.log.info("daemon.statistics", **ctx.statistics())
        case signal.SIGUSR2:
            _reopen(ctx)
        case _:
            ctx.log.debug("signal.ignored", signal=name)


async def _reload(ctx: Context) -> None:
    try:
        await ctx.reload()
    except ConfigError:
        return  # said in the log, and the old config stands


def _reopen(ctx: Context) -> None:
    try:
        done = ctx.logs.reopen()
    except OSError as error:
        ctx.log.warning("log.reopen_failed", reason=str(error))
    else:
        ctx.log.info("log.reopened" if done else "log.not_a_file")
