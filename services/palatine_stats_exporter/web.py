"""The exporter's HTTP side: `/metrics`, the JSON API, the dashboard and its live events; read-only, GET and HEAD only.

It is an ASGI application without a framework, served by hypercorn's trio worker on one listener of its own. Pages load
nothing from elsewhere and their policy forbids it.
"""

import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve

from palatine.errors import ConfigError
from palatine_stats_exporter.access import Http
from palatine_stats_exporter.live import Live
from palatine_stats_exporter.pages import Page, Pages, Request, problem
from palatine_stats_exporter.routes import EVENTS

_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_CHALLENGE: Final = b'Basic realm="palatine", charset="UTF-8"'
#: Seconds given to answers under way when the daemon drains.
_GRACE_SECONDS: Final = 2.0

_log = structlog.get_logger()

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Application:
    """The ASGI application; `pages` is told the bytes of every answer."""

    def __init__(self, pages: Pages, live: Live, closing: trio.Event, http: Http) -> None:
        self._pages = pages
        self._live = live
        self._closing = closing
        self._http = http

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection's request, or the server's own lifespan."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, request = scope["method"], asked(scope)
        if not self._http.lets_in(request.headers):
            challenge = ((b"www-authenticate", _CHALLENGE),) if self._http.user else ()
            await self._send(send, problem(401, "who are you?"), method, *challenge)
        elif method not in {"GET", "HEAD"}:
            await self._send(send, problem(405, "only GET and HEAD"), method, (b"allow", b"GET, HEAD"))
        elif request.path == "/api/v1/events":
            await self._stream(receive, send, method)
        else:
            await self._send(send, await self._pages.answer(request), method)

    async def _send(self, send: Send, page: Page, method: str, *more: tuple[bytes, bytes]) -> None:
        headers = [(b"content-type", page.content_type.encode()), (b"content-length", b"%d" % len(page.body))]
        await send({"type": "http.response.start", "status": page.status, "headers": [*headers, *_HEADERS, *more]})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else page.body})
        self._pages.count(len(page.body))

    async def _stream(self, receive: Receive, send: Send, method: str) -> None:
        headers = [(b"content-type", EVENTS.encode()), *_HEADERS]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if method == "GET":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when_gone, receive, nursery.cancel_scope)
                nursery.start_soon(_cancel_when_set, self._closing, nursery.cancel_scope)
                async with aclosing(self._live.watch()) as events:
                    async for event in events:
                        await send({"type": "http.response.body", "body": event, "more_body": True})
                        self._pages.count(len(event))
        await send({"type": "http.response.body", "body": b""})


def asked(scope: Scope) -> Request:
    """An ASGI request as the pages know it; of repeated parameters and headers the last counts."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, errors="backslashreplace")
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    return Request(scope["path"], dict(query), headers)


def listen(address: str) -> socket.socket:
    """A listening socket at `HOST:PORT`, `:PORT`, `[IPV6]:PORT`; ConfigError if that cannot be had."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 0xFFFF:
        raise ConfigError(f"http address {address!r} is not HOST:PORT")
    host = host.removeprefix("[").removesuffix("]") or "0.0.0.0"
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen()
    except OSError as error:
        raise ConfigError(f"http address {address!r}: {error.strerror or error}") from error
    return sock


async def serve(listener: socket.socket, application: Application, closing: trio.Event) -> None:
    """Serve until `closing` is set and a moment has passed for answers under way. Takes the listener over."""
    host, port, *_ = listener.getsockname()
    _log.info("http.serving", url=f"http://{f'[{host}]' if ':' in host else host}:{port}/")
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.accesslog = None
    config.errorlog = logging.getLogger("palatine.http")
    config.include_server_header = False
    config.graceful_timeout = _GRACE_SECONDS
    await hypercorn_serve(application, config, shutdown_trigger=closing.wait, mode="asgi")


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _cancel_when_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _cancel_when_set(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
