"""Makes the keeper's order to start a vassal: names, directories, rights, program; it prepares, and never starts."""

import contextlib
import grp
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from palatine import places
from palatine.codec.keeper import Spawn
from palatine_emperor import emperor_hooks, vassal_rights
from palatine_emperor.command_line import Place, arguments, environment
from palatine_emperor.settings import Settings
from palatine_emperor.vassal import Wanted
from palatine_emperor.vassal_note import split_key

_DIGEST: Final = 6
_SUN_PATH_BYTES: Final = 107
_LONGEST_SOCKET: Final = "handoff"
#: With less than this a name says nothing; the app-server then refuses it, and says why.
_SHORTEST_NAME: Final = 12
#: As the app-server's own: setgid, so that what it makes belongs to group palatine.
_INSTANCE_MODE: Final = 0o2750


class Composer:
    """Remembers which vassal has which instance name; `settings` may be replaced when they are read again."""

    def __init__(self, settings: Settings, runtime_dir: Path, state_dir: str, environ: Mapping[str, str]) -> None:
        self.settings = settings
        self._runtime_dir = runtime_dir
        self._state_dir = state_dir
        self._environ = dict(environ)
        self._room = _name_room(runtime_dir)
        self._names: dict[str, str] = {}
        self._made: dict[str, Path] = {}

    def instance_of(self, key: str) -> str:
        """The instance name of a vassal: its own if that is a fit and free name, else one made distinct by its key."""
        if key not in self._names:
            name = split_key(key)[1]
            plain = places.safe_name(name)
            taken = plain in self._names.values()
            fits = plain == name and len(name) <= self._room
            self._names[key] = plain if fits and not taken else _distinct(name, key, self._room)
        return self._names[key]

    def forget(self, key: str) -> None:
        """The vassal is gone for good; its name is free."""
        self._names.pop(key, None)
        directory = self._made.pop(key, None)
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)  # the vassal could empty it, but not remove it

    def compose(self, key: str, wanted: Wanted, foreign: bool) -> Spawn:  # noqa: FBT001 - one caller, by position
        """The order to start it, by the emperor-exec program if it is `foreign`.

        OSError if its instance directory cannot be made for another user.
        """
        settings = self.settings
        program = (shutil.which(settings.emperor_exec) or settings.emperor_exec) if foreign else self._program()
        place = None
        if not program:
            tyrant = wanted.uid is not None
            place = Place(self.instance_of(key), str(self._runtime_dir), "" if tyrant else self._state_dir)
            if wanted.uid is not None and wanted.uid != os.geteuid():
                self._made[key] = self._make_instance_directory(place.instance, wanted.uid)
        return Spawn(
            key=key,
            name=wanted.name,
            argv=arguments(wanted, settings, place, program),
            environ=environment(wanted, self._environ),
            cwd=wanted.directory,
            program=program,
            uid=wanted.uid,
            gid=wanted.gid,
            groups=(),
            config=wanted.config is not None,
            on_demand=bool(wanted.socket),
            start_hook=settings.vassals_start_hook,
            hooks=emperor_hooks.as_vassal(settings),
            namespaces=vassal_rights.namespaces(settings.emperor_use_clone),
            capabilities=vassal_rights.capabilities(settings.emperor_cap),
        )

    def _program(self) -> str:
        """The program vassals run instead of our app-server: the first wrapper that is there; empty for none."""
        settings = self.settings
        candidates = [
            *settings.emperor_wrapper_override,
            settings.emperor_wrapper or "",
            *settings.emperor_wrapper_fallback,
        ]
        for candidate in candidates:
            found = shutil.which(candidate) if candidate else None
            if found:
                return found
        return settings.emperor_wrapper

    def _make_instance_directory(self, instance: str, uid: int) -> Path:
        """The runtime directory is ours and not the vassal's: its own directory there must wait for it."""
        directory = places.instances_dir(self._runtime_dir) / instance
        directory.mkdir(mode=0o750, exist_ok=True)
        os.chown(directory, uid, _readers())
        directory.chmod(_INSTANCE_MODE)
        return directory


def _readers() -> int:
    """Group palatine, or no change where there is none."""
    with contextlib.suppress(KeyError):
        return grp.getgrnam(places.GROUP).gr_gid
    return -1


def _name_room(runtime_dir: Path) -> int:
    """Bytes an instance name may have: its sockets' paths must fit what the kernel holds (unix(7))."""
    taken = len(os.fsencode(runtime_dir.absolute() / "i" / "x" / _LONGEST_SOCKET)) - 1
    return max(_SHORTEST_NAME, min(places.INSTANCE_NAME_BYTES, _SUN_PATH_BYTES - taken))


def _distinct(name: str, key: str, room: int) -> str:
    """A long name's end tells more than its beginning: /etc/vassals/customers/... is the same for all."""
    digest = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:_DIGEST]
    whole = places.safe_name(name[-(room - _DIGEST - 1) :])
    return f"{whole}-{digest}"
