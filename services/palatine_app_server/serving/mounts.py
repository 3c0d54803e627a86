"""Which app a request belongs to, by its SCRIPT_NAME and path. Pure: no app is called or loaded here."""

from collections.abc import Sequence
from typing import Final, NamedTuple

#: No app: the request gets a 500.
NOBODY: Final = -1


class Choice(NamedTuple):
    """The app's number (-1: none), and SCRIPT_NAME and PATH_INFO as it sees them."""

    app: int
    script_name: str
    path_info: str


class Mounts:
    """Mount points by the number of their app.

    `manage` is manage-script-name: the longest mount point a path begins with becomes its SCRIPT_NAME. The first app at
    "" or "/" is the default, or else the first of all: it gets what belongs to nobody, unless `no_default` forbids it.
    """

    def __init__(
        self, points: Sequence[str], *, manage: bool = False, ignore: bool = False, no_default: bool = False
    ) -> None:
        self._numbers: dict[str, int] = {}
        for number, point in enumerate(points):
            self._numbers.setdefault(point, number)
        self._ignore = ignore
        default = [number for number, point in enumerate(points) if point in {"", "/"}]
        self._default = NOBODY if no_default or not points else next(iter(default), 0)
        prefixes = {point.rstrip("/"): number for point, number in self._numbers.items() if point.rstrip("/")}
        self._prefixes = sorted(prefixes.items(), key=lambda item: -len(item[0])) if manage else []

    def choose(self, script_name: str, path_info: str) -> Choice:
        """The app of a request."""
        for prefix, number in self._prefixes:
            if path_info.startswith(prefix) and path_info[len(prefix) : len(prefix) + 1] in {"", "/"}:
                return Choice(number, prefix, path_info[len(prefix) :])
        found = self._numbers.get("" if self._ignore else script_name)
        return Choice(self._default if found is None else found, script_name, path_info)
