"""Finds config files as uWSGI's dir and glob monitors do; one pass over the file system, must never keep anything."""

import glob
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import PurePath
from typing import Final

import attrs

from palatine_emperor.command_line import is_valid_name
from palatine_emperor.settings import Settings
from palatine_emperor.vassal import Wanted

#: A program that names an on-demand socket has so long. Seconds.
EXEC_SECONDS: Final = 10


@attrs.frozen
class Found:
    """The vassals found, and what is wrong with others: by name, a line for the log."""

    wanted: tuple[Wanted, ...]
    refused: tuple[tuple[str, str], ...] = ()


def scan_directory(path: str, settings: Settings) -> Found:
    """Every config file in `path`, named by its base name; OSError if the directory cannot be read."""
    return _examined(sorted(os.listdir(path)), path, settings)


def scan_glob(pattern: str, directory: str, settings: Settings) -> Found:
    """Every config file that matches `pattern` (relative to `directory`), named by the matched path."""
    return _examined(sorted(glob.glob(pattern, root_dir=directory)), directory, settings)


def watched_directories(pattern: str, directory: str, most: int) -> list[str]:
    """Directories in which a file or directory that matters to `pattern` may come or go; at most `most`."""
    parts = PurePath(pattern).parts
    magic = [number for number, part in enumerate(parts) if glob.has_magic(part)]
    first = magic[0] if magic else len(parts) - 1
    found = []
    for depth in range(first, len(parts)):
        prefix = os.path.join(*parts[:depth]) if depth else "."
        matches = glob.glob(prefix, root_dir=directory) if glob.has_magic(prefix) else [prefix]
        found += [os.path.join(directory, match) for match in matches]
    return [path for path in found if os.path.isdir(path)][:most]


def _examined(names: Iterable[str], directory: str, settings: Settings) -> Found:
    wanted, refused = [], []
    for name in names:
        if not is_valid_name(name, settings.emperor_extra_extension):
            continue
        try:
            found = _vassal(name, directory, settings)
        except OSError:  # it went between the listing and the look: as if it had not been listed
            continue
        if isinstance(found, Wanted):
            wanted.append(found)
        elif found:
            refused.append((name, found))
    return Found(tuple(wanted), tuple(refused))


def _vassal(name: str, directory: str, settings: Settings) -> Wanted | str:
    """The vassal of one file; or why there is none: a line for the log, empty for no reason worth telling."""
    path = os.path.join(directory, name)
    facts = os.lstat(path) if settings.emperor_nofollow else os.stat(path)
    if not (stat.S_ISREG(facts.st_mode) or (settings.emperor_nofollow and stat.S_ISLNK(facts.st_mode))):
        return ""
    uid = gid = None
    if settings.emperor_tyrant:
        owner = os.lstat(path) if settings.emperor_tyrant_nofollow else os.stat(path)
        uid, gid = owner.st_uid, owner.st_gid
        if min(uid, gid) < settings.min_uid:
            return f"[emperor-tyrant] invalid permissions for vassal {name} (its owner is {uid}:{gid})"
    return Wanted(
        name,
        facts.st_mtime_ns,
        directory,
        uid=uid,
        gid=gid,
        socket=_on_demand_socket(name, directory, settings),
        executable=settings.emperor_magic_exec and os.access(path, os.X_OK),
    )


def _on_demand_socket(name: str, directory: str, settings: Settings) -> str:
    """The on-demand socket of a config file: the first of the three options that is set says how."""
    if settings.emperor_on_demand_extension:
        path = os.path.join(directory, name + settings.emperor_on_demand_extension)
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return _first_line(file.read(4096))
        except OSError:
            return ""
    if settings.emperor_on_demand_directory:
        stem = os.path.splitext(os.path.basename(name))[0]
        return os.path.join(settings.emperor_on_demand_directory, f"{stem}.socket")
    if settings.emperor_on_demand_exec:
        return _first_line(_output(f'{settings.emperor_on_demand_exec} "{name}"', directory))
    return ""


def _first_line(text: str) -> str:
    """`text` up to its first control character, as uWSGI reads an address."""
    end = next((at for at, character in enumerate(text) if character < " "), len(text))
    return text[:end].strip()


def _output(command: str, cwd: str) -> str:
    with tempfile.TemporaryFile() as out:
        try:
            subprocess.run(  # noqa: S602 - uWSGI's grammar: a shell command of the operator's own config
                command, shell=True, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, timeout=EXEC_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return ""
        out.seek(0)
        return out.read(4096).decode(errors="replace")
