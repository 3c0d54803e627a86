"""Python functions that options name, where uWSGI would call C's: `call` hooks, call-pre-app, after-request-hook."""

import importlib
from collections.abc import Callable
from typing import Any

from palatine_app_server.starting.errors import HookError


def find(name: str) -> Callable[..., Any]:
    """The function `MODULE:FUNCTION` or `MODULE.FUNCTION`; HookError where there is none. Runs the module."""
    module, colon, function = name.partition(":") if ":" in name else name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever a module may raise
        raise HookError(f"{name}: {type(error).__name__}: {error}") from error
    if not colon or not callable(found):
        raise HookError(f"{name} is no function")
    result: Callable[..., Any] = found
    return result


def call(verb: str, argument: str) -> None:
    """`FUNCTION[ ARGUMENT]`: callint and callintret pass a number; what callret and callintret get back must be 0."""
    name, space, rest = argument.partition(" ")
    function = find(name)
    given = (int(rest) if "int" in verb else rest,) if space else ()
    try:
        result = function(*given)
    except Exception as error:  # likewise
        raise HookError(f"{name}: {type(error).__name__}: {error}") from error
    if verb.endswith("ret") and result:
        raise HookError(f"{name} returned {result!r}")
