"""Secrets in what is shown of requests and addresses, replaced by `***`; plain, and never raises on any text.

What counts is the name: a header, variable or query key that says cookie, authorization, token, secret, passw or key,
however it is spelled or percent-encoded. A value is masked whole, because its length tells something too.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

MASK: Final = "***"

_SECRET: Final = re.compile(r"(?i)cookie|authorization|token|secret|passw|key")
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_PIECES: Final = re.compile(r"([?&;#])")
#: Everything up to the last @ without a blank: a password may hold a slash or an @ that nobody has encoded.
_USERINFO: Final = re.compile(r"(?<=://)([^/@:\s]*):(?!//)(\S+)@")
_QUOTED: Final = r"""'[^']*'|"[^"]*"|[^\s;&,]+"""
_WORD: Final = re.compile(rf"(?i)(\b\w*(?:passw|secret|token)\w*)(\s*=\s*)(?:{_QUOTED})")


def is_secret(name: str) -> bool:
    """Whether what goes by this name (a header, a CGI variable, a query key) must not be shown."""
    if "%" in name:
        name = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), name)
    return _SECRET.search(name) is not None


def masked_url(url: str) -> str:
    """A URL, or a path with its query, without the secrets of its query and the password before its host."""
    url = _USERINFO.sub(rf"\1:{MASK}@", url) if "://" in url else url
    if "?" not in url and "#" not in url:
        return url
    path, *rest = _PIECES.split(url)
    return path + "".join(map(_masked_pair, rest))


def masked_query(query: str) -> str:
    """A query string without its secrets."""
    return "".join(map(_masked_pair, _PIECES.split(query)))


def masked_address(address: str) -> str:
    """A URL or DSN without its password, be it before the host or as `password=...`, quoted or not."""
    return _WORD.sub(rf"\1\2{MASK}", _USERINFO.sub(rf"\1:{MASK}@", address))


def masked_variables(environ: Mapping[str, Any], most: int) -> bytes:
    """A request's CGI variables as `NAME=value` with a NUL between, secrets masked; whole ones only, `most` bytes.

    What is no text (`wsgi.input`) is left out, as uWSGI does; latin-1, as WSGI has it.
    """
    found: list[bytes] = []
    size = -1
    for name, value in environ.items():
        if not isinstance(value, str):
            continue
        piece = f"{name}={_masked_value(name, value)}".replace("\0", "").encode("latin-1", "backslashreplace")
        size += 1 + len(piece)
        if size > most:
            break
        found.append(piece)
    return b"\0".join(found)


def _masked_value(name: str, value: str) -> str:
    if is_secret(name):
        return MASK
    if name == "QUERY_STRING":
        return masked_query(value)
    return masked_url(value) if "?" in value or "://" in value else value


def _masked_pair(piece: str) -> str:
    """`key=value` of a query, or whatever stands there."""
    key, equals, value = piece.partition("=")
    return f"{key}={MASK}" if equals and value and is_secret(key) else piece
