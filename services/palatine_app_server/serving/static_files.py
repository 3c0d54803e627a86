"""Static files: which file a path means, if any, and what is said about it. Must never leave its directories.

A path is resolved as the kernel would, links included, and the outcome has to lie under the directory it was looked for
in or under one `static-safe` names. Everything else is nobody's business: the app gets the request.
"""

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from palatine_app_server.config.static_settings import StaticSettings
from palatine_app_server.serving import http_ranges, mime_types

Headers = list[tuple[str, str]]


class Found(NamedTuple):
    """A regular file and what is known of it."""

    path: str
    status: os.stat_result
    encoding: str = ""


class Answer(NamedTuple):
    """What to send: `path` "" where there is no body; `start` and `length` in bytes."""

    status: str
    headers: Headers
    path: str = ""
    start: int = 0
    length: int = 0


_METHODS: Final = frozenset({"GET", "HEAD"})
_PACKED: Final = (("br", ".br"), ("gzip", ".gz"))


class StaticFiles:
    """Finds files for requests; `complain` is told, in a line, what was asked for outside of the directories."""

    def __init__(self, settings: StaticSettings, complain: Callable[[str], None]) -> None:
        self._complain = complain
        self._settings = settings
        self._types: Mapping[str, str] = mime_types.read(settings.mime_files)
        roots = [(prefix, os.path.realpath(root), keep) for prefix, root, keep in settings.maps]
        self._roots = [("", os.path.realpath(root), False) for root in settings.check] + roots
        self._single = frozenset(root for _, root, _ in self._roots if os.path.isfile(root))
        self._safe = [os.path.realpath(path) for path in settings.safe]

    def answer(self, environ: Mapping[str, str], now: float) -> Answer | None:
        """What this request gets without its app; None where it is the app's."""
        if environ["REQUEST_METHOD"] not in _METHODS:
            return None
        path = environ.get("PATH_INFO", "")
        if path.endswith(self._settings.skip_endings) or "\0" in path:
            return None
        for prefix, root, keep in self._roots_for(environ):
            if path.startswith(prefix):
                found = self.find(root, path if keep else path[len(prefix) :])
                if found is not None:
                    return self.describe(found, environ, now)
        return None

    def find(self, root: str, path: str) -> Found | None:
        """The file `path` means under the real path `root`, which may be the file itself."""
        at_root = not path or root in self._single
        found = _resolved(root if at_root else f"{root}/{os.fsdecode(path.encode('latin-1'))}")
        if found is None or not self._allowed(found.path, root):
            return None
        if stat.S_ISDIR(found.status.st_mode):
            found = self._index_of(found)
        if found is None or not stat.S_ISREG(found.status.st_mode) or found.path.endswith(self._settings.skip_endings):
            return None
        return found

    def describe(self, found: Found, environ: Mapping[str, str], now: float) -> Answer:
        """The answer that sends a file, or says that the client has it."""
        kind = self._types.get(mime_types.ending_of(found.path), "")
        if "HTTP_ACCEPT_ENCODING" in environ:
            found = self._packed(found, environ["HTTP_ACCEPT_ENCODING"])
        modified = int(found.status.st_mtime)
        dated = ("Last-Modified", http_ranges.format_date(modified))
        since = environ.get("HTTP_IF_MODIFIED_SINCE", "")
        if since and modified <= http_ranges.parse_date(since):
            return Answer("304 Not Modified", [])
        headers: Headers = []
        if self._settings.expiries:
            headers += self._expires(found, kind, environ, now)
        if found.encoding:
            headers += [("Content-Encoding", found.encoding), ("Vary", "Accept-Encoding")]
        if kind:
            headers.append(("Content-Type", kind))
        if self._settings.serve_mode:
            name = "X-Sendfile" if self._settings.serve_mode == "x-sendfile" else "X-Accel-Redirect"
            return Answer("200 OK", [*headers, (name, _shown(found.path)), dated])
        return _ranged(found, environ, headers, dated)

    def _roots_for(self, environ: Mapping[str, str]) -> Sequence[tuple[str, str, bool]]:
        docroot = environ.get("DOCUMENT_ROOT", "") if self._settings.docroot else ""
        return [*self._roots, ("", os.path.realpath(docroot), False)] if docroot else self._roots

    def _allowed(self, name: str, root: str) -> bool:
        if _under(name, root) or any(_under(name, directory) for directory in self._safe):
            return True
        self._complain(f"[uwsgi-fileserve] security error: {_shown(name)} is not under {root} or a safe path")
        return False

    def _index_of(self, directory: Found) -> Found | None:
        for index in self._settings.indexes:
            found = _resolved(f"{directory.path}/{index}")
            if found is not None and stat.S_ISREG(found.status.st_mode) and self._allowed(found.path, directory.path):
                return found
        return None

    def _packed(self, found: Found, accepted: str) -> Found:
        """The file's smaller twin, made beforehand, where the config and the client want it."""
        settings = self._settings
        offers = [(coding, ending) for coding, ending in _PACKED if accepts(accepted, coding)]
        if not offers or not (
            settings.packed_all
            or found.path.startswith(settings.packed_prefixes)
            or found.path.endswith(settings.packed_suffixes)
            or any(pattern.search(found.path) for pattern in settings.packed_patterns)
        ):
            return found
        for coding, ending in offers:
            status = _stat(found.path + ending)
            if status is not None and stat.S_ISREG(status.st_mode):
                return Found(found.path + ending, status, coding)
        return found

    def _expires(self, found: Found, kind: str, environ: Mapping[str, str], now: float) -> Headers:
        subjects = {
            "file": found.path, "path": environ.get("PATH_INFO", ""), "uri": environ.get("REQUEST_URI", ""),
            "type": kind,
        }  # fmt: skip
        for expiry in self._settings.expiries:
            subject = subjects[expiry.subject]
            if expiry.pattern.fullmatch(subject) if expiry.subject == "type" else expiry.pattern.search(subject):
                since = found.status.st_mtime if expiry.from_mtime else now
                return [("Expires", http_ranges.format_date(int(since) + expiry.seconds))]
        return []


def _ranged(found: Found, environ: Mapping[str, str], headers: Headers, dated: tuple[str, str]) -> Answer:
    size = found.status.st_size
    part = http_ranges.parse_range(environ.get("HTTP_RANGE", ""), size)
    condition = environ.get("HTTP_IF_RANGE", "")
    if part is None or (condition and http_ranges.parse_date(condition) < int(found.status.st_mtime)):
        return Answer("200 OK", [*headers, ("Content-Length", str(size)), dated], found.path, 0, size)
    if part.length < 0:
        return Answer("416 Requested Range Not Satisfiable", [("Content-Range", f"bytes */{size}")])
    span = f"bytes {part.start}-{part.start + part.length - 1}/{size}"
    return Answer(
        "206 Partial Content",
        [*headers, ("Content-Length", str(part.length)), ("Content-Range", span), dated],
        found.path,
        part.start,
        part.length,
    )


def accepts(accepted: str, coding: str) -> bool:
    """Whether Accept-Encoding names a coding and does not refuse it."""
    for item in accepted.split(","):
        name, _, parameters = item.partition(";")
        if name.strip().lower() == coding:
            return parameters.replace(" ", "").lower() not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


def _under(name: str, directory: str) -> bool:
    return name == directory or name.startswith(directory.rstrip("/") + "/")


def _resolved(name: str) -> Found | None:
    """What the kernel finds at `name`, by its real path: one look, so nothing can change between two."""
    try:
        fd = os.open(name, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        return Found(os.readlink(f"/proc/self/fd/{fd}"), os.fstat(fd))
    finally:
        os.close(fd)


def _stat(name: str) -> os.stat_result | None:
    try:
        return os.stat(name)
    except OSError:
        return None


def _shown(name: str) -> str:
    """A file name as it can stand in a header or log line."""
    return name.encode("utf-8", "surrogateescape").decode("latin-1").replace("\n", "\\n").replace("\r", "\\r")
