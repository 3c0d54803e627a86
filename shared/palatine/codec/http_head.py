"""HTTP/1.x request heads as CGI variables (RFC 9112, RFC 3875). What two servers could read differently is refused.

Plain: workers load this, and it runs once per request. Clients send the same header lines again and again: a line that
was judged good is remembered as a whole, which costs a fifth of judging it. So are all header lines of a request, where
each of them was known already; the request line is judged every time.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from palatine.codec.uwsgi_packet import vars_size
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
_REQUEST_LINE = re.compile(rf"({_TOKEN}) ([\x21-\x7e\x80-\xff]+) (HTTP/1\.[01])")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_FIELD = re.compile(rf"({_TOKEN}):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_ABSOLUTE = re.compile(r"https?://([^/?#@]+)(?![^/?#])", re.IGNORECASE)
#: RFC 3986 3.2.2 and 3.2.3, without the user; empty where the target has no authority.
_HOST = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-fv:._~-]+\])(?::[0-9]*)?")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_DIGITS = re.compile(r"[0-9]{1,18}")

#: The variables each request has its own values of, however well its header lines are known.
_OF_REQUEST_LINE: Final = ("REQUEST_METHOD", "REQUEST_URI", "PATH_INFO", "QUERY_STRING")
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
    `expects_continue` is set while the client waits for "100 Continue" before it sends the body. `variables` is the
    number of textual CGI variables, and the bytes they take in a packet of the uwsgi protocol without the values of the
    request line's; (0, 0) where nobody has counted.
    """

    length: int
    keep_alive: bool
    expects_continue: bool
    http11: bool
    variables: tuple[int, int] = (0, 0)


#: What most heads say: no body, HTTP/1.1, kept alive.
_PLAIN: Final = Head(0, keep_alive=True, expects_continue=False, http11=True)
#: Lines remembered, and how long one may be: what a client can make a worker keep is 512 KiB. A full memory is emptied,
#: so that lines that come but once (cookies, request ids) do not stay for ever.
MEMORY_LINES: Final = 1024
MEMORY_LINE_CHARACTERS: Final = 512
#: The same for the header lines of whole requests: half a megabyte with the variables they stand for.
MEMORY_BLOCKS: Final = 128
MEMORY_BLOCK_BYTES: Final = 1536


class HeadParser:
    """Parses the heads that come by one listener, whose `variables` (SERVER_NAME, wsgi.version ...) every request has.

    Threads may share it: its memory only ever holds what is true.
    """

    __slots__ = ("_blocks", "_judged", "_length", "_template", "known")

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self.known: dict[str, tuple[str, str]] = {}
        self._blocks: dict[bytes, tuple[dict[str, Any], Head]] = {}
        self._judged = 0  # how many lines were not known
        self._template = {
            **variables,
            "REQUEST_METHOD": "",
            "REQUEST_URI": "",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "PATH_INFO": "",
            "QUERY_STRING": "",
        }
        self._length = len(self._template)
        room = range(self._length // 2)
        self._template.update((str(number), "") for number in room)
        for number in room:
            del self._template[str(number)]  # a copy keeps the room, and need not grow with its first headers

    def parse(self, data: bytes) -> tuple[dict[str, Any], Head]:
        """The CGI variables of the head `data` (without its final empty line) and what a worker must know of it.

        Raises HeadError.
        """
        line, end, block = data.partition(b"\r\n")
        remembered = self._blocks.get(block)
        if remembered is not None:
            environ = remembered[0].copy()
            if not self._request_line(line.decode("latin-1"), environ) and environ["SERVER_PROTOCOL"] == "HTTP/1.1":
                return environ, remembered[1]
        environ = self._template.copy()
        authority = self._request_line(line.decode("latin-1"), environ)
        known, judged = self.known.get, self._judged
        lines = block.decode("latin-1").split("\r\n") if end else []
        fields = [known(line) or self._judge(line) for line in lines]
        environ.update(fields)
        if len(environ) != self._length + len(fields) or "" in environ:
            environ = self._merged(fields, environ)
        http11 = environ["SERVER_PROTOCOL"] == "HTTP/1.1"
        if (
            "HTTP_CONNECTION" in environ
            or "CONTENT_LENGTH" in environ
            or "HTTP_TRANSFER_ENCODING" in environ
            or "HTTP_EXPECT" in environ
            or "HTTP_HOST" not in environ
            or not http11
        ):
            head = _framing(environ, http11=http11)
        else:
            head = _PLAIN
        if authority:  # RFC 9112 3.2.2: the target's host counts, whatever Host says
            environ["HTTP_HOST"] = authority
        elif self._judged == judged and http11 and len(block) <= MEMORY_BLOCK_BYTES:
            self._remember(block, environ, head)
        return environ, head

    def _remember(self, block: bytes, environ: dict[str, Any], head: Head) -> None:
        """What the header lines of a request of HTTP/1.1 stand for; its request line is another one the next time."""
        if len(self._blocks) >= MEMORY_BLOCKS:
            self._blocks.clear()
        texts = {key: value for key, value in environ.items() if isinstance(value, str) and "." not in key}
        size = vars_size(texts) - sum([len(texts[key]) for key in _OF_REQUEST_LINE])
        self._blocks[block] = environ.copy(), head._replace(variables=(len(texts), size))

    @staticmethod
    def _request_line(line: str, environ: dict[str, Any]) -> str:
        """Set the variables of the request line; the authority of an absolute target, else ""."""
        method, _, rest = line.partition(" ")
        target, _, version = rest.partition(" ")
        if version != "HTTP/1.1" or method not in _METHODS or not (target.isascii() and target.isprintable()):
            found = _REQUEST_LINE.fullmatch(line)
            if found is None:
                raise HeadError(_line_status(line), "malformed request line")
            method, target, environ["SERVER_PROTOCOL"] = found.groups()
        environ["REQUEST_METHOD"] = method
        environ["REQUEST_URI"] = target
        if not target.startswith("/"):
            return _split_target(method, target, environ)
        path, _, environ["QUERY_STRING"] = target.partition("?")
        environ["PATH_INFO"] = unquote(path) if "%" in path else path
        return ""

    def _judge(self, line: str) -> tuple[str, str]:
        """The CGI variable of a line never seen before, and its value; "" for those that must not reach the app."""
        self._judged += 1
        found = _FIELD.fullmatch(line)
        if found is None:
            raise HeadError(400, "malformed header field")
        name, value = found.groups()
        key = KNOWN.get(name)
        pair = (variable_of(name) if key is None else key), value.rstrip(" \t")
        if pair[0] == "HTTP_HOST" and _HOST.fullmatch(pair[1]) is None:
            raise HeadError(400, "malformed Host")  # RFC 9112 3.2: it would be another's name to another reader
        if len(line) <= MEMORY_LINE_CHARACTERS and pair[0]:
            if len(self.known) >= MEMORY_LINES:
                self.known.clear()
            self.known[line] = pair
        return pair

    def _merged(self, fields: list[tuple[str, str]], environ: dict[str, Any]) -> dict[str, Any]:
        """`environ` again, for a head with repeated fields or with some that are dropped."""
        merged = {key: environ[key] for key in self._template}
        for key, value in fields:
            if key:
                merged[key] = _joined(key, merged[key], value) if key in merged else value
        return merged


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
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), path)


def _split_target(method: str, target: str, environ: dict[str, Any]) -> str:
    """Set PATH_INFO and QUERY_STRING of a target that is no path; the authority of an absolute one, else ""."""
    path, authority = target, ""
    absolute = _ABSOLUTE.match(target)
    if absolute is not None:
        authority = absolute[1]
        if _HOST.fullmatch(authority) is None:
            raise HeadError(400, "malformed request target")
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


def _framing(environ: dict[str, Any], *, http11: bool) -> Head:
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


def _line_status(line: str) -> int:
    return 505 if re.fullmatch(rf"{_TOKEN} [\x21-\x7e\x80-\xff]+ HTTP/[0-9]\.[0-9]", line) else 400
