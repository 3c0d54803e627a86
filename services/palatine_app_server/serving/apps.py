"""Load every app a config names: the default one, mounts, a module's `applications`. Never in the master."""

import os
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from palatine_app_server.config.front_settings import FrontSettings
from palatine_app_server.serving import loader
from palatine_app_server.serving.loader import App, AppError, AppSource, HopelessError
from palatine_app_server.system import own_lines

if TYPE_CHECKING:
    from palatine_app_server.serving.core import Handler


def made(settings: FrontSettings, source: AppSource, loaded: Sequence[App]) -> "Callable[..., Any] | Handler | None":
    """What a worker calls: the app itself where there is nothing else to do, None where there is no app."""
    plain = len(loaded) <= 1 and all(app.mountpoint == "" for app in loaded) and not source.no_default
    if plain and not settings.wanted:
        return loaded[0].call if loaded else None
    # where nobody asks for it, none of it is in memory
    if settings.routes is not None or settings.forward:
        from palatine_app_server.routing.routed_front import RoutedFront

        return RoutedFront(settings, source, loaded)
    from palatine_app_server.serving.front import Front

    return Front(settings, source, loaded)


def load_all(source: AppSource, broken: Callable[[AppError], None]) -> list[App]:
    """The apps in uWSGI's order, each with its line in the log.

    `broken` hears of one that cannot be loaded and may raise; without a mounted one there is no start: HopelessError.
    """
    loaded: list[App] = []
    default = False
    for mountpoint, load in _wanted(source):
        started = time.monotonic()
        try:
            found = load()
        except HopelessError:
            raise
        except AppError as error:
            broken(error)
            continue
        for app in _several(mountpoint, found):
            if any(app.mountpoint == other.mountpoint for other in loaded):
                own_lines.say(f"mountpoint {app.mountpoint} already configured. skip.")
                continue
            is_default = not (default or source.no_default) and (app.mountpoint in {"", "/"} or not loaded)
            default = default or (is_default and app.mountpoint in {"", "/"})
            own_lines.say(
                f"WSGI app {len(loaded)} (mountpoint='{app.mountpoint}') ready in {int(time.monotonic() - started)} "
                f"seconds on interpreter {hex(id(sys.modules))} pid: {os.getpid()}"
                f"{' (default app)' if is_default else ''}"
            )
            loaded.append(app)
    return loaded


def _wanted(source: AppSource) -> Iterator[tuple[str, Callable[[], Any]]]:
    if source.module or source.wsgi_file:
        yield "", lambda: loader.load_object(source)
    if source.eval:
        yield "", lambda: _evaluate(source.eval, source.callable)
    if source.paste:
        yield "", lambda: _paste(source.paste, logged=source.paste_logger)
    if source.pecan:
        yield "", lambda: _pecan(source.pecan)
    for mountpoint, what in source.mounts:
        own_lines.say(f"mounting {what} on {mountpoint}")
        yield mountpoint, partial(_mounted, source, what)


def _several(mountpoint: str, found: Any) -> Iterator[App]:
    """One app, or those of a dictionary that maps mount points to callables."""
    if isinstance(found, dict):
        for key, call in found.items():
            if isinstance(key, str) and callable(call):
                yield App(key, call)
            else:
                own_lines.say(f"skipping broken app {key}")
        return
    yield App(mountpoint, found)


def _mounted(source: AppSource, what: str) -> Any:
    try:
        return _named_by_mount(source, what)
    except AppError as error:
        raise HopelessError(str(error)) from error.__cause__


def _named_by_mount(source: AppSource, what: str) -> Any:
    if what.endswith(".ini"):
        return _paste(f"config:{os.path.abspath(what)}")
    if what.endswith((".py", ".wsgi")) and ":" not in what:
        return loader.load_object(source._replace(wsgi_file=what, module=""))
    return loader.load_object(source._replace(module=what, wsgi_file=""))


def _evaluate(code: str, name: str) -> Any:
    module = types.ModuleType("uwsgi_eval_config")
    sys.modules[module.__name__] = module
    try:
        exec(compile(code, "uwsgi_eval_config", "exec"), module.__dict__)  # noqa: S102 - what the option is for
    except BaseException as error:  # the config's code may raise anything
        raise AppError(f"eval: {type(error).__name__}: {error}") from error
    return loader.resolve(module, name or "application")


def _pecan(path: str) -> Any:
    try:
        from pecan.deploy import deploy  # type: ignore[import-untyped,import-not-found,unused-ignore]  # the app's
    except ImportError as error:
        raise AppError("pecan: Pecan is not installed where the app is") from error
    try:
        return deploy(path)
    except BaseException as error:
        raise AppError(f"pecan {path}: {type(error).__name__}: {error}") from error


def _set_up_logging(path: str) -> None:
    """Apply the `[loggers]` of a PasteDeploy file, with the names its values may hold."""
    from logging.config import fileConfig

    where = os.path.abspath(path)
    try:
        fileConfig(where, {"__file__": where, "here": os.path.dirname(where)})
    except BaseException as error:  # whatever handlers' constructors raise
        raise AppError(f"paste-logger {path}: {type(error).__name__}: {error}") from error


def _paste(uri: str, *, logged: bool = False) -> Any:
    if logged:
        _set_up_logging(uri.removeprefix("config:").partition("#")[0])
    try:
        from paste.deploy import loadapp  # type: ignore[import-untyped,import-not-found,unused-ignore]  # the app's
    except ImportError as error:
        raise AppError("paste: PasteDeploy is not installed where the app is") from error
    try:
        return loadapp(uri)
    except BaseException as error:
        raise AppError(f"paste {uri}: {type(error).__name__}: {error}") from error
