"""Find and import the WSGI callable a config names: in the zygote or a lazy worker, never in the master."""

import glob
import importlib
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


class AppSource(NamedTuple):
    """What the config says of the app; empty strings where it says nothing."""

    module: str = ""  # module, wsgi: pkg.mod, pkg.mod:callable, pkg.mod:factory()
    wsgi_file: str = ""
    callable: str = ""
    python_path: tuple[str, ...] = ()
    virtualenv: str = ""
    chdir: str = ""

    @property
    def named(self) -> bool:
        """Whether the config names an app at all."""
        return bool(self.module or self.wsgi_file)


def prepare_path(source: AppSource) -> None:
    """Make `sys.path` what the app expects: virtualenv, `pythonpath` (globs allowed), the current directory."""
    entries: list[str] = [path for pattern in source.python_path for path in _expanded(pattern)]
    for entry in ("", *entries):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    if source.virtualenv:
        _enter_virtualenv(source.virtualenv)


def load(source: AppSource) -> Callable[..., Any]:
    """The app's callable; AppError with the reason when there is none."""
    try:
        if source.wsgi_file:
            module = _import_file(source.wsgi_file)
            return _resolve(module, source.callable or "application")
        name, _, attribute = source.module.partition(":")
        if name.endswith(".py") and os.path.exists(name):
            return _resolve(_import_file(name), attribute or source.callable or "application")
        return _resolve(importlib.import_module(name), attribute or source.callable or "application")
    except AppError:
        raise
    except BaseException as error:  # an app may raise anything while it is imported, SystemExit included
        raise AppError(f"{type(error).__name__}: {error}") from error


def _resolve(module: Any, expression: str) -> Callable[..., Any]:
    factory = _CALL.fullmatch(expression)
    attribute = getattr(module, factory[1] if factory else expression, None)
    if attribute is None:
        raise AppError(f'unable to find "{expression}" callable in {module.__name__}')
    if factory:
        attribute = attribute()
    if not callable(attribute):
        raise AppError(f'"{expression}" in {module.__name__} is not callable')
    found: Callable[..., Any] = attribute
    return found


def _import_file(path: str) -> Any:
    name = "uwsgi_file_" + re.sub(r"[^A-Za-z0-9]", "_", path.removesuffix(".py"))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not os.path.exists(path):
        reason = "not a Python file" if os.path.exists(path) else "No such file or directory"
        raise AppError(f"unable to load app file {path}: {reason}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _expanded(pattern: str) -> Sequence[str]:
    return sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]


def _enter_virtualenv(home: str) -> None:
    import site  # loaded by Python itself unless started with -S

    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = os.path.join(home, "lib", version, "site-packages")
    if not os.path.isdir(packages):
        raise AppError(f"virtualenv {home} has no {version}: {packages} does not exist")
    before = list(sys.path)
    site.addsitedir(packages)
    added = [entry for entry in sys.path if entry not in before]
    sys.path[:] = added + before  # the app's packages go before ours
    sys.prefix = home
