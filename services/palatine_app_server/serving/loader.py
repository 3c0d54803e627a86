"""Find and import the WSGI callable a config names: in the zygote or a lazy worker, never in the master."""

import glob
import importlib
import importlib.machinery
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from palatine.errors import PalatineError

_CALL = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\(\)")


class AppError(PalatineError):
    """The app could not be loaded; the cause is chained."""


class HopelessError(AppError):
    """Nothing is served without it, as in uWSGI: an app that is to be mounted, the virtualenv."""


class AppSource(NamedTuple):
    """What the config says of the app; empty strings where it says nothing."""

    module: str = ""  # module, wsgi: pkg.mod, pkg.mod:callable, pkg.mod:factory()
    wsgi_file: str = ""
    callable: str = ""
    python_path: tuple[str, ...] = ()
    virtualenv: str = ""
    chdir: str = ""
    chdir2: str = ""  # entered once the apps are loaded
    eval: str = ""  # Python code that defines the callable
    paste: str = ""  # a PasteDeploy URI
    mounts: tuple[tuple[str, str], ...] = ()  # mount point, file or module:callable
    manage_script_name: bool = False
    ignore_script_name: bool = False
    no_default: bool = False
    aliases: tuple[tuple[str, str], ...] = ()  # pymodule-alias: name, module or file
    late_aliases: tuple[tuple[str, str], ...] = ()  # post-pymodule-alias: the same, behind the imports
    paste_logger: bool = False  # the PasteDeploy file's logging counts
    pecan: str = ""  # a Pecan configuration
    imports: tuple[str, ...] = ()  # modules or files imported before the app
    argv: tuple[str, ...] = ()

    @property
    def named(self) -> bool:
        """Whether the config names an app at all."""
        return bool(self.module or self.wsgi_file or self.eval or self.paste or self.pecan or self.mounts)

    @property
    def points(self) -> tuple[str, ...]:
        """Where the apps with counters of their own are mounted; the rest of `applications` counts with the first."""
        first = ("",) if self._replace(mounts=()).named else ()
        return (*first, *(point for point, _what in self.mounts)) or ("",)


class App(NamedTuple):
    """A loaded app and where it is mounted; "" is the default."""

    mountpoint: str
    call: Callable[..., Any]


def prepare_path(source: AppSource) -> None:
    """Make `sys.path` what the app expects: virtualenv, `pythonpath` (globs allowed), the current directory."""
    entries: list[str] = [path for pattern in source.python_path for path in _expanded(pattern)]
    for entry in ("", *entries):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    if source.virtualenv:
        _enter_virtualenv(source.virtualenv)


def prepare_modules(source: AppSource, broken: Callable[[AppError], None]) -> None:
    """Install the module aliases, AppError where that fails; of a failing import `broken` hears, which may raise."""
    try:
        for name, what in source.aliases:
            sys.modules[name] = _module(what)
        for what in source.imports:
            _import(what, broken)
        for name, what in source.late_aliases:
            sys.modules[name] = _module(what)
    except AppError:
        raise
    except BaseException as error:  # an import may raise anything, SystemExit included
        raise AppError(f"{type(error).__name__}: {error}") from error


def load_object(source: AppSource) -> Any:
    """The app's callable, or the dictionary `applications` of its module; AppError when there is neither."""
    try:
        if source.wsgi_file:
            module = import_file(source.wsgi_file)
            return resolve(module, source.callable or "application")
        name, _, attribute = source.module.partition(":")
        if name.endswith(".py") and os.path.exists(name):
            return resolve(import_file(name), attribute or source.callable or "application")
        return resolve(importlib.import_module(name), attribute or source.callable or "application")
    except AppError:
        raise
    except BaseException as error:  # an app may raise anything while it is imported, SystemExit included
        raise AppError(f"{type(error).__name__}: {error}") from error


def resolve(module: Any, expression: str) -> Any:
    """What `expression`, a name or a call of one, is in `module`; its `applications` come first, as in uWSGI."""
    for holder in (sys.modules.get("uwsgi"), module):
        applications = getattr(holder, "applications", None)
        if isinstance(applications, dict) and applications:
            return {
                key: getattr(module, app, None) if isinstance(app, str) else app for key, app in applications.items()
            }
    factory = _CALL.fullmatch(expression)
    attribute = getattr(module, factory[1] if factory else expression, None)
    if attribute is None:
        raise AppError(f'unable to find "{expression}" callable in {module.__name__}')
    if factory:
        attribute = attribute()
    if not callable(attribute):
        raise AppError(f'"{expression}" in {module.__name__} is not callable')
    return attribute


def import_file(path: str) -> Any:
    """The module in the file at `path`; AppError where there is none."""
    name = "uwsgi_file_" + re.sub(r"[^A-Za-z0-9]", "_", path.removesuffix(".py"))
    if not os.path.exists(path):
        raise AppError(f"unable to load app file {path}: No such file or directory")
    # whatever it is called: app.wsgi is as good a name
    spec = importlib.util.spec_from_file_location(name, path, loader=importlib.machinery.SourceFileLoader(name, path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _import(what: str, broken: Callable[[AppError], None]) -> None:
    try:
        _module(what)
    except BaseException as error:  # noqa: BLE001 - an import may raise anything, SystemExit included
        failed = AppError(f"{type(error).__name__}: {error}")
        failed.__cause__ = error
        broken(failed)


def _module(what: str) -> Any:
    return import_file(what) if what.endswith(".py") and os.path.exists(what) else importlib.import_module(what)


def _expanded(pattern: str) -> Sequence[str]:
    return sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]


def _enter_virtualenv(home: str) -> None:
    import site  # loaded by Python itself unless started with -S

    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = os.path.join(home, "lib", version, "site-packages")
    if not os.path.isdir(packages):
        raise HopelessError(f"virtualenv {home} has no {version}: {packages} does not exist")
    before = list(sys.path)
    site.addsitedir(packages)
    added = [entry for entry in sys.path if entry not in before]
    sys.path[:] = added + before  # the app's packages go before ours
    sys.prefix = home
