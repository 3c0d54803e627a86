"""The app of one generation, loaded by its zygote or, with lazy-apps, by each worker; never by the master."""

import os
import sys

from palatine_app_server.config.settings import AppSettings
from palatine_app_server.serving import apps, loader
from palatine_app_server.serving.request import Handler, WsgiApp
from palatine_app_server.starting import hooks
from palatine_app_server.starting.errors import HookError


def prepare(settings: AppSettings) -> None:
    """The environment, the words and the path the app is to find."""
    for name in settings.unenv:
        os.environ.pop(name, None)
    for name, value in settings.env:
        os.environ[name] = value
    sys.argv[:] = ["uwsgi", *settings.app.argv]
    loader.prepare_path(settings.app)


def load(settings: AppSettings) -> WsgiApp | Handler | None:
    """Everything the config names, hooks around it; AppError, HookError."""
    hooks.run(settings.process.hooks_at("pre-app"), "pre-app")
    loader.prepare_modules(settings.app)
    loaded = apps.load_all(settings.app)
    if settings.need_app and not loaded:
        raise loader.AppError("*** no app loaded. GAME OVER ***")
    hooks.run(settings.process.hooks_at("post-app"), "post-app")
    if settings.app.chdir2:
        os.chdir(settings.app.chdir2)
    return apps.made(settings.front, settings.app, loaded)


def report(error: loader.AppError | HookError) -> None:
    """Say why, with the traceback of the app's own error."""
    if error.__cause__ is not None:
        sys.__excepthook__(type(error.__cause__), error.__cause__, error.__cause__.__traceback__)
    sys.stderr.write(f"unable to load app 0 (mountpoint='') ({error})\n")
