"""Turns the name of a configuration source into entries: reads it, applies magic variables, picks the grammar.

Keeps what uWSGI keeps between files: the last one of each format (for `ini = :section`) and injected texts. Must
never decide what an option means.
"""

import os
from collections.abc import Callable, Mapping
from typing import Final

from palatine.codec.config_ini import parse_ini
from palatine.codec.config_source import Entry, Piece, Source, expand_magic
from palatine.config.magic import Magic
from palatine.config.readers import Reader
from palatine.errors import ConfigError

#: Extensions a bare argument, `include` or `inherit` may end in, and the format they mean.
FORMATS: Final = {".ini": "ini", ".xml": "xml", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".js": "json"}

#: All the text one load may read, in bytes: small files that include each other often would take hours.
MAX_TOTAL: Final = 1 << 24

#: A grammar: (text, section or "") to entries, None where there is no such section.
Parser = Callable[[Source, str], list[Entry] | None]


def format_of(name: str) -> str:
    """The format of a file by its extension; raises ConfigError where it has none of the known ones."""
    for extension, kind in FORMATS.items():
        if name.endswith(extension):
            return kind
    raise ConfigError(f"unable to load configuration from {name}: {_advice(name)}")


def _advice(name: str) -> str:
    start, section = split_section(name)
    for extension, kind in FORMATS.items():
        if section and start.endswith(extension):
            return f"a section is chosen with --{kind} {name}"
    if name.endswith((".py", ".wsgi")):
        return f"an app's file is named with --wsgi-file {name}"
    if section and "/" not in name:
        return f"an app is named with --module {name}"
    return f"its name must end in {', '.join(FORMATS)}"


def split_section(name: str) -> tuple[str, str]:
    """`file.ini:section` as file and section; of a URL only a colon after the last slash counts."""
    start = name.rfind("/") if "://" in name else 0
    colon = name.rfind(":", start)
    return (name, "") if colon < 0 else (name[:colon], name[colon + 1 :])


class Files:
    """The configuration sources of one load. `yaml` parses YAML wherever the caller wants PyYAML to live."""

    def __init__(self, readers: Mapping[str, Reader], magic: Magic, cwd: str, yaml: Parser) -> None:
        self._readers = readers
        self._magic = magic
        self._cwd = cwd
        self._yaml = yaml
        self._total = 0
        self._last: dict[str, tuple[str, bytes]] = {}
        self._before: list[Piece] = []
        self._after: list[Piece] = []

    def path(self, name: str) -> str:
        """A path relative to the directory palatine was started in."""
        return os.path.join(self._cwd, name)

    def read(self, name: str) -> bytes:
        """The bytes of a path, "-" or `scheme://rest`."""
        scheme, separator, rest = name.partition("://")
        if name == "-":
            scheme, rest = "-", ""
        elif not separator or scheme not in self._readers:
            scheme, rest = "", name
        return self._spend(self._readers[scheme](rest))

    def read_text(self, name: str) -> str:
        """What `@(name)` stands for: the text without its last line end."""
        text = decode(self.read(name), name)
        return text[:-1] if text.endswith(("\n", "\r")) else text

    def inject(self, name: str, *, after: bool) -> None:
        """Put the text of `name` before or after that of every file read from now on."""
        (self._after if after else self._before).append(Piece(name, decode(self.read(name), name)))

    def entries(self, kind: str, name: str, *, template: bool) -> tuple[list[Entry], str]:
        """The entries `name` (with or without `:section`) has in format `kind`, and a warning or ""."""
        file_name, section = split_section(name)
        shown, data = self._data(kind, file_name)
        self._magic.enter(file_name, section, template=template)
        pieces = [*self._before, Piece(shown, decode(data, shown)), *self._after]
        source = expand_magic(pieces, self._magic.variable)
        found = self._parser(kind)(source, section)
        if found is None:
            return [], f'{shown}: there is no section "{section or "uwsgi"}" with options in this file'
        return found, ""

    def _data(self, kind: str, file_name: str) -> tuple[str, bytes]:
        if not file_name:
            if kind not in self._last:
                raise ConfigError(f"a section without a file: no {kind} file was read before")
            name, data = self._last[kind]
            return name, self._spend(data)
        data = self.read(file_name)
        self._last[kind] = (file_name, data)
        return file_name, data

    def _spend(self, data: bytes) -> bytes:
        """Count `data`, which is about to be parsed, against what one load may take."""
        self._total += len(data)
        if self._total > MAX_TOTAL:
            raise ConfigError(f"more than {MAX_TOTAL} bytes of configuration: do files include each other?")
        return data

    def _parser(self, kind: str) -> Parser:
        if kind == "ini":
            return parse_ini
        if kind == "yaml":
            return self._yaml
        if kind == "json":
            from palatine.codec.config_json import parse_json

            return parse_json
        from palatine.codec.config_xml import parse_xml

        return parse_xml


def decode(data: bytes, name: str) -> str:
    """Configuration bytes as text; bytes that are no UTF-8 survive as surrogates, as in file names."""
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    if "\0" in text:
        at = text.index("\0")
        raise ConfigError("a NUL byte has no place in a configuration", name, text.count("\n", 0, at) + 1)
    return text


def read_envdir(directory: str) -> dict[str, str]:
    """The variables of an envdir: each file's name, and its content without the last line end."""
    try:
        names = sorted(name for name in os.listdir(directory) if not name.startswith("."))
        result = {}
        for name in names:
            with open(os.path.join(directory, name), "rb") as file:
                result[name] = os.fsdecode(file.read(1 << 16)).rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read envdir {directory}: {error}") from error
    return result
