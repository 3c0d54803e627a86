"""Content types by a file name's ending: from the files `mimefile` names, /etc/mime.types, else Python's own table."""

import os
from collections.abc import Iterable, Mapping
from typing import Final

from palatine_app_server.serving.loader import AppError

DEFAULT_FILE: Final = "/etc/mime.types"


def read(paths: Iterable[str]) -> Mapping[str, str]:
    """Ending without the dot → content type; AppError for a named file that cannot be read."""
    wanted = list(paths) or ([DEFAULT_FILE] if os.path.exists(DEFAULT_FILE) else [])
    if not wanted:
        import mimetypes  # only where the machine has no table of its own

        return {ending[1:]: kind for ending, kind in mimetypes.types_map.items()}
    table: dict[str, str] = {}
    for path in wanted:
        for line in _lines(path):
            words = line.partition("#")[0].split()
            for ending in words[1:]:
                table.setdefault(ending, words[0])
    return table


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="latin-1") as file:
            return file.readlines()
    except OSError as error:
        raise AppError(f"mimefile {path}: {error.strerror}") from error


def ending_of(name: str) -> str:
    """What follows the last dot of a file name; "" where there is none."""
    _, dot, ending = os.path.basename(name).rpartition(".")
    return ending if dot and ending.isalnum() else ""
