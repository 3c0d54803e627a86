"""What every daemon answers on its `ctl` endpoint; must never decide who may ask (the bus does)."""

import os
from collections.abc import Mapping
from typing import Any

from palatine import __version__
from palatine.bus import Handler, Peer, Request, Role, RoleOf, default_role_of
from palatine.daemon.context import Context
from palatine.daemon.logs import LEVELS
from palatine.daemon.settings import nearest, operators
from palatine.errors import ConfigError, PeerError


def common_handlers(ctx: Context) -> dict[str, tuple[Role, Handler]]:
    """ping, status, reload, stop {"drain": bool} and log-level {"level": word}."""

    async def ping(_: Request) -> dict[str, Any]:
        return {"daemon": ctx.spec.name, "version": __version__, "pid": os.getpid()}

    async def status(_: Request) -> dict[str, Any]:
        return ctx.statistics()

    async def reload(_: Request) -> dict[str, Any]:
        try:
            await ctx.reload()
        except ConfigError as error:
            raise PeerError(str(error), "config") from error
        return {"reloaded": True, "reloads": ctx.reloads}

    async def stop(request: Request) -> dict[str, Any]:
        drain = bool(_member(request.body, "drain", True))
        ctx.reply_pending = True
        (ctx.drain if drain else ctx.stop)(f"ctl stop by uid {request.peer.uid}")
        return {"stopping": True, "drain": drain}

    async def log_level(request: Request) -> dict[str, Any]:
        level = _member(request.body, "level", ctx.logs.level)
        if level not in LEVELS:
            raise PeerError(f"no log level {level!r}{nearest(str(level), LEVELS)}", "value")
        before, ctx.logs.level = ctx.logs.level, level
        ctx.log.info("log.level", level=level, before=before)
        return {"level": level, "before": before}

    return {
        "ping": (Role.VIEWER, ping),
        "status": (Role.VIEWER, status),
        "reload": (Role.OPERATOR, reload),
        "stop": (Role.OPERATOR, stop),
        "log-level": (Role.OPERATOR, log_level),
    }


def counting_role_of(ctx: Context) -> RoleOf:
    """The rights of peers by the config as it stands, each request counted in the daemon's segment."""
    role_of = default_role_of(operators(ctx.document))

    async def renew() -> None:
        nonlocal role_of
        role_of = default_role_of(operators(ctx.document))

    def counted(peer: Peer) -> Role | None:
        role = role_of(peer)
        ctx.count("requests" if role is not None else "requests_refused")
        return role

    ctx.on_reload(renew)
    return counted


def _member(body: Any, name: str, default: Any) -> Any:
    return body.get(name, default) if isinstance(body, Mapping) else default
