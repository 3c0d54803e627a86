"""Magic variables: what `%d`, `%n`, `%h`, … stand for in the text of one file. Must never look at a file's content.

Facts of the host are asked for when a file uses them, not before: most use none.
"""

import os
from collections.abc import Mapping
from typing import Final

#: What the master says it is, because apps and configurations compare it.
UWSGI_VERSION: Final = "2.0.31"
_ESCAPE: Final = "\033"


class Host:
    """The machine and process a configuration is read on; a test replaces any answer by passing `facts`."""

    def __init__(self, cwd: str, facts: Mapping[str, str] | None = None) -> None:
        self.cwd = cwd
        self._facts = {"v": cwd, "V": UWSGI_VERSION, "[": _ESCAPE, **(facts or {})}

    def fact(self, letter: str) -> str:
        """The value of a magic variable that is the same for every file, "" where there is none."""
        if letter not in self._facts:
            self._facts[letter] = _ask(letter)
        return self._facts[letter]


class Magic:
    """The magic variables as they stand while one configuration is read; each file changes some of them."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._file: dict[str, str] = {}
        self._main: dict[str, str] = {}

    def variable(self, letter: str) -> str:
        """The value of `%letter`, "" where it has none."""
        value = self._file.get(letter)
        if value is None:
            value = self._main.get(letter)
        return self._host.fact(letter) if value is None else value

    def enter(self, name: str, section: str, *, template: bool) -> None:
        """Start reading `name` (as given, without section); a path sets all variables, a URL or "-" only `%o`.

        An empty `name` means another section of the file read before. The upper-case variables are those of the
        first file that is no template (`include`, `inherit`, bare arguments).
        """
        self._file["o"] = name
        if name == "-" or "://" in name:
            return
        if name:
            self._file.update(_path_variables(name, self._host.cwd))
        self._file["x"] = section
        if not template and not self._main:
            self._main = {letter.upper(): self._file.get(letter, "") for letter in "odspcenxij"}


def _path_variables(name: str, cwd: str) -> dict[str, str]:
    path = os.path.join(cwd, name)
    if not os.path.islink(path):
        path = os.path.realpath(path)
    directory, _, file_name = path.rpartition("/")
    stem, dot, extension = file_name.rpartition(".")
    parts = [part for part in directory.split("/") if part]
    try:
        inode = {"i": str(os.lstat(path).st_ino)}
    except OSError:
        inode = {}  # reading the file will say what is wrong with it
    return {
        **{str(number): parts[number] if number < len(parts) else "" for number in range(10)},
        "p": path,
        "s": file_name,
        "d": directory + "/",
        "c": directory.rpartition("/")[2],
        "e": extension if dot else "",
        "n": stem if dot else file_name,
        "j": path_hash(path),
        **inode,
    }


def path_hash(path: str) -> str:
    """What `%j` is: the 32-bit djb33x hash of the path's bytes, little end first, in upper-case hexadecimal."""
    number = 5381
    for byte in os.fsencode(path):
        # C's char is signed here, so a byte above 127 sets all high bits
        number = ((number * 33) ^ (byte if byte < 128 else byte - 256)) & 0xFFFFFFFF
    return number.to_bytes(4, "little").hex().upper()


def _ask(letter: str) -> str:  # one line per variable is the plainest table there is
    if letter == "h":
        return os.uname().nodename
    if letter == "k":
        return str(os.cpu_count() or 1)
    if letter in {"t", "T"}:
        import time

        return str(int(time.time() * (1 if letter == "t" else 1_000_000)))
    if letter in {"u", "g"}:
        return str(os.getuid() if letter == "u" else os.getgid())
    if letter in {"U", "G"}:
        return _user_name() if letter == "U" else _group_name()
    return ""


def _user_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _group_name() -> str:
    import grp

    try:
        return grp.getgrgid(os.getgid()).gr_name
    except KeyError:
        return str(os.getgid())
