"""The options about requests before the app has them, as one frozen value; ConfigError names the line that is wrong."""

import re
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from palatine.config import Config
from palatine.errors import ConfigError
from palatine_app_server.config import response_settings
from palatine_app_server.config.response_settings import ResponseSettings
from palatine_app_server.config.static_settings import Expiry, StaticSettings
from palatine_app_server.config.values import pair, pattern
from palatine_app_server.serving.header_edits import HeaderEdits, parse_header

if TYPE_CHECKING:
    from palatine_app_server.routing.route_grammar import Routes

_SERVE_MODES: Final = {
    "nginx": "x-accel-redirect", "x-accel-redirect": "x-accel-redirect", "apache": "x-sendfile",
    "x-sendfile": "x-sendfile",
}  # fmt: skip
#: Option → what it looks at; each has a twin that ends in -mtime. In the order uWSGI tries them.
_EXPIRES: Final = (
    ("static-expires", "file"),
    ("static-expires-path-info", "path"),
    ("static-expires-uri", "uri"),
    ("static-expires-type", "type"),
)

_ERROR_PAGES: Final = {403: "error-page-403", 404: "error-page-404", 500: "error-page-500"}


class FrontSettings(NamedTuple):
    """What is done for every request besides calling the app."""

    static: StaticSettings = StaticSettings()
    headers: HeaderEdits = HeaderEdits()
    routes: "Routes | None" = None
    error_pages: tuple[tuple[int, tuple[str, ...]], ...] = ()  # by status: files, the first that can be read is sent
    auto_gzip: bool = False
    server_name_is_host: bool = False
    upstream_seconds: float = 4.0  # for each step of asking another server
    responses: ResponseSettings = ResponseSettings()
    check_cache: str | None = None  # the cache that may hold whole responses by URI; "": the first
    forward: tuple[str, ...] = ()  # servers that answer in place of the app, in turn
    fallback: tuple[str, ...] = ()  # those that do where none of them can be reached

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do."""
        plain = FrontSettings(upstream_seconds=self.upstream_seconds, fallback=self.fallback)
        return self.static.wanted or self._replace(static=plain.static) != plain


def read(config: Config) -> FrontSettings:
    """The options of `config`."""
    return FrontSettings(
        static=_static(config),
        headers=HeaderEdits(
            add=config.settings.each("add-header", parse_header),
            remove=frozenset(config.settings.each("rem-header", str.lower)),
        ),
        routes=_routes(config),
        error_pages=tuple(
            (status, pages) for status, name in _ERROR_PAGES.items() if (pages := config.settings.each(name, str))
        ),
        auto_gzip=config.settings.flag("http-auto-gzip"),
        responses=response_settings.read(config),
        check_cache=config.settings.text("check-cache"),
        upstream_seconds=_upstream_seconds(config),
        forward=_forward(config),
        fallback=config.settings.each("http-fallback", str),
        server_name_is_host=config.settings.flag("http-server-name-as-http-host"),
    )


def _upstream_seconds(config: Config) -> float:
    """A route waits for `socket-timeout`, a router for `http-timeout`, as uWSGI's do."""
    settings = config.settings
    if settings.given("http-to") is not None:
        return float(settings.integer("http-timeout", 60, minimum=1))
    return float(settings.integer("socket-timeout", 4, minimum=1))


def _forward(config: Config) -> tuple[str, ...]:
    if config.settings.given("http-to") is None:
        return ()
    from palatine_app_server.config import forward_settings  # few are routers only

    return forward_settings.read(config)


def _routes(config: Config) -> "Routes | None":
    if not any("route" in option.name for option in config.options):
        return None
    from palatine_app_server.routing import route_grammar  # a master without routes does without

    lines = [
        route_grammar.Line(option.name, option.value or "", option.origin.error)
        for option in config.options
        if option.name in route_grammar.OPTIONS
    ]
    return route_grammar.parse(lines) or None


def mounts(config: Config) -> tuple[tuple[str, str], ...]:
    """`mount = /path=app`: where and what."""
    return config.settings.each("mount", lambda text: pair(text, "a mount point, = and an app"))


def _static(config: Config) -> StaticSettings:
    settings = config.settings

    def maps(name: str, *, keep: bool) -> tuple[tuple[str, str, bool], ...]:
        pairs = settings.each(name, lambda text: pair(text, "a mount point, = and a directory"))
        return tuple((prefix, root, keep) for prefix, root in pairs)

    return StaticSettings(
        check=settings.texts("check-static"),
        maps=maps("static-map", keep=False) + maps("static-map2", keep=True),
        docroot=settings.flag("check-static-docroot"),
        indexes=settings.texts("static-index"),
        skip_endings=settings.texts("static-skip-ext"),
        safe=settings.texts("static-safe"),
        mime_files=settings.texts("mimefile"),
        expiries=_expiries(config),
        packed_all=settings.flag("static-gzip-all"),
        packed_prefixes=settings.texts("static-gzip-dir"),
        packed_suffixes=settings.texts("static-gzip-ext"),
        packed_patterns=settings.each("static-gzip", pattern),
        serve_mode=_SERVE_MODES.get(settings.text("file-serve-mode", ""), ""),
    )


def _expiries(config: Config) -> tuple[Expiry, ...]:
    found: list[Expiry] = []
    for name, subject in _EXPIRES:
        for from_mtime in (False, True):
            option = f"{name}-mtime" if from_mtime else name
            found += config.settings.each(option, partial(_expiry, subject=subject, from_mtime=from_mtime))
    return tuple(found)


def _expiry(text: str, *, subject: str, from_mtime: bool) -> Expiry:
    """`regexp seconds`, or `type=seconds`."""
    separator = "=" if subject == "type" and "=" in text else " "
    what, _, seconds = text.rpartition(separator)
    if not what or not seconds.strip().isdigit():
        raise ConfigError(f"{text!r}: it takes what it is for, a {separator!r} and a number of seconds")
    found = pattern(re.escape(what.strip()) if subject == "type" else what)
    return Expiry(subject, found, int(seconds), from_mtime)
