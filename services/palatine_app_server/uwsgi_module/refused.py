"""Functions of uWSGI's subsystems that are not served: each says by its exception what to use instead."""

from collections.abc import Callable
from typing import Any, Final, NoReturn

_INSTEAD: Final = {
    "HTTP or a message queue in place of uWSGI's RPC": "call register_rpc rpc rpc_list",
    "one instance by itself, or an external coordinator, in place of a legion": "i_am_the_lord lord_scroll scrolls",
    "zipimport, or files of the app, in place of symbols in the binary": (
        "SymbolsImporter SymbolsZipImporter ZipImporter embedded_data"
    ),
    "another process in place of Erlang": "erlang_register_process",
}


def functions() -> dict[str, Any]:
    """One for each name; NotImplementedError when called."""
    return {name: _refuse(name, instead) for instead, names in _INSTEAD.items() for name in names.split()}


def _refuse(name: str, instead: str) -> Callable[..., NoReturn]:
    def refused(*_arguments: Any, **_named: Any) -> NoReturn:
        raise NotImplementedError(f"uwsgi.{name} is not served by palatine: use {instead}")

    return refused
