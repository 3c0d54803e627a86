"""HTTP/1.x request heads as CGI variables (RFC 9112, RFC 3875). What two servers could read differently is refused.

Plain: workers load this, and it runs once per request. One regular expression validates the whole head, so that the
loop behind it only splits; nothing in here looks at a byte twice in Python code.
"""

import re
from typing import Final, NamedTuple

from palatine.errors import ProtocolError

#: `Name` of a header → its CGI variable; "" for those that must never reach an app (httpoxy: CVE-2016-5385).
KNOWN: Final = {
    spelling: variable
    for name, variable in [
        *(
            (name, "HTTP_" + name.upper().replace("-", "_"))
            for name in [
                "Accept",
                "Accept-Charset",
                "Accept-Encoding",
                "Accept-Language",
                "Authorization",
                "Cache-Control",
                "Connection",
                "Cookie",
                "DNT",
                "Expect",
                "Forwarded",
                "From",
                "Host",
                "If-Match",
                "If-Modified-Since",
                "If-None-Match",
                "If-Range",
                "If-Unmodified-Since",
                "Keep-Alive",
                "Max-Forwards",
                "Origin",
                "Pragma",
                "Priority",
                "Range",
                "Referer",
                "Sec-Ch-Ua",
                "Sec-Ch-Ua-Mobile",
                "Sec-Ch-Ua-Platform",
                "Sec-Fetch-Dest",
                "Sec-Fetch-Mode",
                "Sec-Fetch-Site",
                "Sec-Fetch-User",
                "Te",
                "Trailer",
                "Traceparent",
                "Transfer-Encoding",
                "Upgrade",
                "Upgrade-Insecure-Requests",
                "User-Agent",
                "Via",
                "X-Forwarded-For",
                "X-Forwarded-Host",
                "X-Forwarded-Port",
                "X-Forwarded-Proto",
                "X-Real-Ip",
                "X-Request-Id",
                "X-Requested-With",
            ]
        ),
        ("Content-Length", "CONTENT_LENGTH"),
        ("Content-Type", "CONTENT_TYPE"),
        ("Proxy", ""),
    ]
    for spelling in (name, name.lower())
}

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110 5.6.2 calls it so
_REQUEST_LINE = re.compile(rf"({_TOKEN}) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([01])")
_FIELDS = re.compile(rf"(?:\r\n{_TOKEN}:[\t\x20-\x7e\x80-\xff]*)*")
_ABSOLUTE = re.compile(r"https?://([^/?#@]+)(?![^/?#])", re.IGNORECASE)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_DIGITS = re.compile(r"[0-9]{1,18}")

#: Header fields that may stand once only: two of them are two opinions about the same message.
_SINGLE: Final = frozenset({"CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_HOST", "HTTP_TRANSFER_ENCODING"})


class HeadError(ProtocolError):
    """The head must be answered with `status` (400, 431, 501, 505 ...) and the connection closed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Head(NamedTuple):
    """What a worker must know beyond the CGI variables.

    `length` is the body's size in bytes, -1 for a chunked body. `keep_alive` is what the client asks for.
    `expects_continue` is set while the client waits for "100 Continue" before it sends the body.
    """

    length: int
    keep_alive: bool
    expects_continue: bool
    http11: bool


def parse_head(data: bytes, environ: dict[str, str]) -> Head:
    """Add the CGI variables of the head `data` (without its final empty line) to `environ`.

    The caller's variables (SERVER_NAME, REMOTE_ADDR ...) stay. Raises HeadError.
    """
    text = data.decode("latin-1")
    line = _REQUEST_LINE.match(text)
    if line is None:
        raise HeadError(_line_status(text), "malformed request line")
    if _FIELDS.fullmatch(text, line.end()) is None:
        raise HeadError(400, "malformed header field")
    method, target, minor = line.groups()
    http11 = minor == "1"
    environ["REQUEST_METHOD"] = method
    environ["REQUEST_URI"] = target
    environ["SERVER_PROTOCOL"] = "HTTP/1.1" if http11 else "HTTP/1.0"
    authority = _split_target(method, target, environ)
    known = KNOWN
    for field in text[line.end() + 2 :].split("\r\n") if line.end() < len(text) else ():
        name, _, value = field.partition(":")
        key = known.get(name)
        if key is None:
            key = variable_of(name)
        if not key:
            continue
        value = value.strip(" \t")
        if key in environ:
            value = _joined(key, environ[key], value)
        environ[key] = value
    head = _framing(environ, http11=http11)
    if authority:  # RFC 9112 3.2.2: the target's host counts, whatever Host says
        environ["HTTP_HOST"] = authority
    return head


def variable_of(name: str) -> str:
    """The CGI variable of a header name, "" for one that must not reach the app.

    A name with an underscore would collide with its hyphenated twin (`X_Real_Ip` passing for `X-Real-Ip`), so it is
    dropped, as nginx does.
    """
    folded = KNOWN.get(name.lower())
    if folded is not None:
        return folded
    return "" if "_" in name else "HTTP_" + name.upper().replace("-", "_")


def unquote(path: str) -> str:
    """`path` with its %XX escapes replaced, as the latin-1 text WSGI wants (PEP 3333)."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), path) if "%" in path else path


def _split_target(method: str, target: str, environ: dict[str, str]) -> str:
    """Set PATH_INFO and QUERY_STRING; the authority of an absolute target, else ""."""
    path, authority = target, ""
    if not target.startswith("/"):
        absolute = _ABSOLUTE.match(target)
        if absolute is not None:
            authority = absolute[1]
            path = target[absolute.end() :]
            if not path.startswith("/"):
                path = "/" + path
        elif target != "*" or method != "OPTIONS":
            raise HeadError(400, "malformed request target")
    path, _, query = path.partition("?")
    environ["PATH_INFO"] = unquote(path)
    environ["QUERY_STRING"] = query
    return authority


def _joined(key: str, first: str, second: str) -> str:
    if key in _SINGLE:
        raise HeadError(400, f"repeated {key}")
    return f"{first}; {second}" if key == "HTTP_COOKIE" else f"{first}, {second}"


def _framing(environ: dict[str, str], *, http11: bool) -> Head:
    get = environ.get
    if http11 and get("HTTP_HOST") is None:
        raise HeadError(400, "HTTP/1.1 without Host")
    length = 0
    declared = get("CONTENT_LENGTH")
    if declared is not None:
        if _DIGITS.fullmatch(declared) is None:
            raise HeadError(400, "malformed Content-Length")
        length = int(declared)
    coding = get("HTTP_TRANSFER_ENCODING")
    if coding is not None:
        if declared is not None or not http11:
            raise HeadError(400, "Transfer-Encoding beside Content-Length or in HTTP/1.0")
        if coding.lower() != "chunked":
            raise HeadError(501, "unknown transfer coding")
        length = -1
    connection = get("HTTP_CONNECTION")
    if connection is None:
        keep_alive = http11
    else:
        options = connection.lower().replace(" ", "").replace("\t", "").split(",")
        keep_alive = "close" not in options and (http11 or "keep-alive" in options)
    expect = get("HTTP_EXPECT")
    if expect is not None and expect.lower() != "100-continue":
        raise HeadError(417, "unknown expectation")
    return Head(length, keep_alive, expect is not None and http11 and length != 0, http11)


def _line_status(text: str) -> int:
    first = text.split("\r\n", 1)[0]
    return 505 if re.fullmatch(rf"{_TOKEN} [\x21-\x7e\x80-\xff]+ HTTP/[0-9]\.[0-9]", first) else 400
