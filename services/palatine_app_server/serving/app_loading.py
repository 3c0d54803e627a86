"""The app of one generation, loaded by its zygote or, with lazy-apps, by each worker; never by the master."""

import importlib
import os
import sys
from typing import Final

from palatine.errors import PalatineError
from palatine_app_server.config.settings import AppSettings
from palatine_app_server.serving import apps, loader
from palatine_app_server.serving.core import Handler
from palatine_app_server.serving.request import WsgiApp
from palatine_app_server.starting import hooks
from palatine_app_server.starting.errors import HookError
from palatine_app_server.system import own_lines

#: What uWSGI says last under need-app.
_NONE: Final = "*** no app loaded. GAME OVER ***"


def prepare(settings: AppSettings) -> None:
    """The environment, the words and the path the app is to find."""
    for name in settings.unenv:
        os.environ.pop(name, None)
    for name, value in settings.env:
        os.environ[name] = value
    sys.argv[:] = ["uwsgi", *settings.app.argv]
    loader.prepare_path(settings.app)


def load(settings: AppSettings, *, all_of_it: bool) -> WsgiApp | Handler | None:
    """Everything the config names, hooks around it; HookError, and AppError where nothing may be missing.

    Without `all_of_it` what cannot be loaded is reported, and the rest is served, as in uWSGI.
    """
    broken = _refuse if all_of_it else report
    hooks.run(settings.process.hooks_at("pre-app"), "pre-app")
    loader.prepare_modules(settings.app, broken)
    loaded = apps.load_all(settings.app, broken)
    if settings.need_app and not loaded:
        raise loader.AppError(_NONE)
    if not loaded:
        own_lines.say("*** no app loaded. going in full dynamic mode ***")
    hooks.run(settings.process.hooks_at("post-app"), "post-app")
    if settings.app.chdir2:
        os.chdir(settings.app.chdir2)
    return apps.made(settings.front, settings.app, loaded)


def report(error: loader.AppError | HookError, *, needed: bool = False) -> None:
    """Say why, with the traceback of the app's own error from where the app begins; and what it means if `needed`."""
    cause = error.__cause__
    if cause is not None and not isinstance(cause, PalatineError):
        trace = cause.__traceback__
        while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
            trace = trace.tb_next
        sys.__excepthook__(type(cause), cause.with_traceback(trace), trace)
    if str(error) != _NONE:
        own_lines.say(f"unable to load app 0 (mountpoint='') ({error})")
    if needed:
        own_lines.say(_NONE)


def _refuse(error: loader.AppError) -> None:
    raise error


def _is_ours(path: str) -> bool:
    """Whether code was there before the app: the loader, and Python's own import."""
    return path.startswith(
        (os.path.dirname(os.path.dirname(__file__)), os.path.dirname(importlib.__file__), "<frozen importlib")
    )
