"""What a proxy asks the server behind it, and what that answers: a request out of CGI variables, a response's head.

Plain, sans-io. HTTP/1.0 is asked, as by uWSGI: the answer ends with its Content-Length or with the connection.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from palatine.errors import ProtocolError

#: Of a response's head.
HEAD_BYTES: Final = 65536

_STATUS: Final = re.compile(r"HTTP/1\.[01] ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_FIELD: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_DIGITS: Final = re.compile(r"[0-9]{1,18}")
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_URI: Final = re.compile(r"[\x21-\x7e\x80-\xff]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
#: About one connection only (RFC 9110 7.6.1), or about a body that is whole by now.
_HOPS: Final = frozenset({
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect",
    "proxy-authenticate", "proxy-authorization",
})  # fmt: skip
#: Said below, once; nginx sends HTTP_CONTENT_LENGTH beside CONTENT_LENGTH by the uwsgi protocol.
_OURS: Final = frozenset({"x-forwarded-for", "host", "content-length", "content-type"})


class UpstreamHead(NamedTuple):
    """`status` is what start_response takes; `length` of the body in bytes, -1: to the end of the connection."""

    status: str
    headers: list[tuple[str, str]]
    length: int


def request(environ: Mapping[str, object], length: int, host: str = "", uri: str = "") -> bytes:
    """The head of a request; `host` and `uri` replace the client's. ProtocolError for what could be two requests."""
    get = {key: value for key, value in environ.items() if isinstance(value, str)}.get
    method, target = get("REQUEST_METHOD", "GET"), uri or get("REQUEST_URI", "") or "/"
    if _METHOD.fullmatch(method) is None or _URI.fullmatch(target) is None:
        raise ProtocolError("a method or target no server would take")
    lines = [f"{method} {target} HTTP/1.0"]
    dropped = _HOPS | _OURS | {name.strip().lower() for name in get("HTTP_CONNECTION", "").split(",")}
    for key, value in environ.items():
        name = key[5:].replace("_", "-").title() if key.startswith("HTTP_") else ""
        if name and name.lower() not in dropped and isinstance(value, str):
            lines.append(f"{name}: {value}")
    named = host or get("HTTP_HOST", "")
    if named:
        lines.append(f"Host: {named}")
    if get("CONTENT_TYPE"):
        lines.append(f"Content-Type: {get('CONTENT_TYPE')}")
    if length or method in {"POST", "PUT", "PATCH"}:
        lines.append(f"Content-Length: {length}")
    before = get("HTTP_X_FORWARDED_FOR", "")
    lines += ["Connection: close", f"X-Forwarded-For: {before}{', ' if before else ''}{get('REMOTE_ADDR', '')}"]
    if not all(map(_VALUE.fullmatch, lines)):
        raise ProtocolError("a header with a line end in it")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def parse_head(data: bytes) -> UpstreamHead:
    """The head of a response, without its empty line. ProtocolError."""
    first, *lines = data.decode("latin-1").split("\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise ProtocolError("malformed status line")
    headers: list[tuple[str, str]] = []
    length = -1
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise ProtocolError("malformed header field")
        name, value = field[1], field[2].rstrip(" \t")
        if name.lower() == "transfer-encoding":
            raise ProtocolError("a transfer coding in an answer to HTTP/1.0")
        if name.lower() == "content-length":
            if _DIGITS.fullmatch(value) is None or length not in {-1, int(value)}:
                raise ProtocolError("malformed Content-Length")
            if length >= 0:
                continue
            length = int(value)
        if name.lower() not in _HOPS:
            headers.append((name, value))
    return UpstreamHead(f"{status[1]} {status[2] or ''}".rstrip() + ("" if status[2] else " "), headers, length)
