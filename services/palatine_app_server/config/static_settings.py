"""What the config says about static files: values only, so that a worker without any loads nothing more."""

import re
from typing import NamedTuple


class Expiry(NamedTuple):
    """How long an answer may be kept: `pattern` is sought in the `subject`, `seconds` count from now or the mtime."""

    subject: str  # "file", "uri", "path", or "type", which is compared instead
    pattern: "re.Pattern[str]"
    seconds: int
    from_mtime: bool


class StaticSettings(NamedTuple):
    """The static options; `maps` are (prefix, directory or file, whether the prefix stays)."""

    check: tuple[str, ...] = ()
    maps: tuple[tuple[str, str, bool], ...] = ()
    docroot: bool = False
    indexes: tuple[str, ...] = ()
    skip_endings: tuple[str, ...] = ()
    safe: tuple[str, ...] = ()
    mime_files: tuple[str, ...] = ()
    expiries: tuple[Expiry, ...] = ()
    packed_all: bool = False
    packed_prefixes: tuple[str, ...] = ()
    packed_suffixes: tuple[str, ...] = ()
    packed_patterns: tuple["re.Pattern[str]", ...] = ()
    serve_mode: str = ""  # "x-accel-redirect" or "x-sendfile": the front end sends the file

    @property
    def wanted(self) -> bool:
        """Whether any file is served at all."""
        return bool(self.check or self.maps or self.docroot)
