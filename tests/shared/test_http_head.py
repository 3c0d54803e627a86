import string
from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palatine.codec.http_head import (
    KNOWN,
    MEMORY_BLOCKS,
    MEMORY_LINE_CHARACTERS,
    MEMORY_LINES,
    Head,
    HeadError,
    HeadParser,
    unquote,
    variable_of,
)
from palatine.codec.uwsgi_packet import vars_size

HOST = b"\r\nHost: h"
#: It has seen all heads of all tests, whatever their order: nobody's head may change the next one's meaning.
SEASONED = HeadParser({"SERVER_NAME": "mine"})


def parsed(parser: HeadParser, data: bytes) -> tuple[dict[str, Any], Head]:
    """The variables and the head, whose count, where there is one, is true; it is taken off for comparisons."""
    environ, head = parser.parse(data)
    own = sum([len(environ[key]) for key in ("REQUEST_METHOD", "REQUEST_URI", "PATH_INFO", "QUERY_STRING")])
    assert head.variables in {(0, 0), (len(environ), vars_size(environ) - own)}
    return environ, head._replace(variables=(0, 0))


def parse_head(data: bytes, environ: dict[str, Any]) -> Head:
    """The head by a parser of its own, twice, and by one that has seen many: they agree."""
    verdicts: list[Any] = []
    new = HeadParser(environ)
    for parser in (new, new, SEASONED):
        try:
            verdicts.append(parsed(parser, data))
        except HeadError as error:
            verdicts.append(error)
    if isinstance(verdicts[0], HeadError):
        assert [(verdict.status, str(verdict)) for verdict in verdicts] == [(verdicts[0].status, str(verdicts[0]))] * 3
        raise verdicts[0]
    (first, head), again, (seasoned, same) = verdicts
    assert again == (first, head)
    assert seasoned | environ == {"SERVER_NAME": "mine"} | first
    assert same == head
    environ.update(first)
    return head


#: (head without its final empty line, variables it must set, what the worker must know)
ACCEPTED: list[tuple[bytes, dict[str, str], Head]] = [
    (
        b"GET /a/b?c=d&e HTTP/1.1\r\nHost: example.org:80\r\nAccept: */*\r\nX-Own: 1",
        {
            "REQUEST_METHOD": "GET",
            "REQUEST_URI": "/a/b?c=d&e",
            "PATH_INFO": "/a/b",
            "QUERY_STRING": "c=d&e",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "example.org:80",
            "HTTP_ACCEPT": "*/*",
            "HTTP_X_OWN": "1",
        },
        Head(0, keep_alive=True, expects_continue=False, http11=True),
    ),
    (
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nContent-Length: 5",
        {"CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": "5", "QUERY_STRING": ""},
        Head(5, keep_alive=True, expects_continue=False, http11=True),
    ),
    (
        b"POST / HTTP/1.1\r\nhost:h\r\ntransfer-encoding:  Chunked \t",
        {"HTTP_TRANSFER_ENCODING": "Chunked", "HTTP_HOST": "h"},
        Head(-1, keep_alive=True, expects_continue=False, http11=True),
    ),
    (
        b"GET / HTTP/1.0",
        {"SERVER_PROTOCOL": "HTTP/1.0", "PATH_INFO": "/"},
        Head(0, keep_alive=False, expects_continue=False, http11=False),
    ),
    (
        b"GET / HTTP/1.0\r\nConnection: Keep-Alive",
        {"HTTP_CONNECTION": "Keep-Alive"},
        Head(0, keep_alive=True, expects_continue=False, http11=False),
    ),
    (
        b"GET / HTTP/1.0\r\nConnection: keep-alive, close",
        {},
        Head(0, keep_alive=False, expects_continue=False, http11=False),
    ),
    (
        b"GET / HTTP/1.1" + HOST + b"\r\nConnection: te,\tCLOSE",
        {},
        Head(0, keep_alive=False, expects_continue=False, http11=True),
    ),
    (
        b"PUT /x HTTP/1.1" + HOST + b"\r\nExpect: 100-Continue\r\nContent-Length: 3",
        {"HTTP_EXPECT": "100-Continue"},
        Head(3, keep_alive=True, expects_continue=True, http11=True),
    ),
    (  # nobody waits for it: there is no body, or no 1xx in HTTP/1.0
        b"PUT /x HTTP/1.1" + HOST + b"\r\nExpect: 100-continue",
        {},
        Head(0, keep_alive=True, expects_continue=False, http11=True),
    ),
    (
        b"PUT /x HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3",
        {},
        Head(3, keep_alive=False, expects_continue=False, http11=False),
    ),
    (
        b"OPTIONS * HTTP/1.1" + HOST,
        {"REQUEST_URI": "*", "PATH_INFO": "*"},
        Head(0, keep_alive=True, expects_continue=False, http11=True),
    ),
    (  # the target's host counts
        b"GET http://there:81/p?q HTTP/1.1\r\nHost: elsewhere",
        {"HTTP_HOST": "there:81", "PATH_INFO": "/p", "QUERY_STRING": "q", "REQUEST_URI": "http://there:81/p?q"},
        Head(0, keep_alive=True, expects_continue=False, http11=True),
    ),
    (
        b"GET HTTPS://there HTTP/1.1\r\nHost: there",
        {"HTTP_HOST": "there", "PATH_INFO": "/", "QUERY_STRING": ""},
        Head(0, keep_alive=True, expects_continue=False, http11=True),
    ),
    (
        b"GET http://there?x=1 HTTP/1.1\r\nHost: there",
        {"PATH_INFO": "/", "QUERY_STRING": "x=1"},
        Head(0, keep_alive=True, expects_continue=False, http11=True),
    ),
    (
        b"GET /%C3%A4%20b%zz%2 HTTP/1.1" + HOST,
        {"PATH_INFO": "/\xc3\xa4 b%zz%2", "REQUEST_URI": "/%C3%A4%20b%zz%2"},
        Head(0, keep_alive=True, expects_continue=False, http11=True),
    ),
    (
        b"GET /\xe4 HTTP/1.1" + HOST,
        {"PATH_INFO": "/\xe4"},
        Head(0, keep_alive=True, expects_continue=False, http11=True),
    ),
    (
        b"GET //two//slashes HTTP/1.1" + HOST,
        {"PATH_INFO": "//two//slashes"},
        Head(0, keep_alive=True, expects_continue=False, http11=True),
    ),
    (  # RFC 9112 3.2: an empty Host is a Host
        b"GET / HTTP/1.1\r\nHost:",
        {"HTTP_HOST": ""},
        Head(0, keep_alive=True, expects_continue=False, http11=True),
    ),
    (
        b"GET / HTTP/1.1" + HOST + b"\r\nX: 1\r\nX: 2\r\nCookie: a=1\r\nCookie: b=2\r\nEmpty:\r\nUtf: \xc3\xa4",
        {"HTTP_X": "1, 2", "HTTP_COOKIE": "a=1; b=2", "HTTP_EMPTY": "", "HTTP_UTF": "\xc3\xa4"},
        Head(0, keep_alive=True, expects_continue=False, http11=True),
    ),
    (
        b"POST / HTTP/1.1" + HOST + b"\r\nContent-Length: 000000000000000007",
        {},
        Head(7, keep_alive=True, expects_continue=False, http11=True),
    ),
    (
        b"M-SEARCH!#$%&'*+.^_`|~ / HTTP/1.1" + HOST,
        {"REQUEST_METHOD": "M-SEARCH!#$%&'*+.^_`|~"},
        Head(0, keep_alive=True, expects_continue=False, http11=True),
    ),
]

TWO_LENGTHS = b"POST / HTTP/1.1" + HOST + b"\r\nContent-Length: 5\r\nContent-Length: "

#: What two servers could read differently, and what is no HTTP/1: (head, status, what is wrong)
REFUSED: list[tuple[bytes, int]] = [
    # lengths
    (TWO_LENGTHS + b"6", 400),
    (TWO_LENGTHS + b"5", 400),
    (b"POST / HTTP/1.1" + HOST + b"\r\nContent-Length: 5\r\ncontent-length: 0", 400),
    *[
        (b"POST / HTTP/1.1" + HOST + b"\r\nContent-Length:" + value, 400)
        for value in (
            b"",
            b" ",
            b" +5",
            b" -1",
            b" 5 5",
            b" 5,5",
            b" 5, 6",
            b" 0x5",
            b" 5.0",
            b" 5e1",
            b" 1_0",
            b" \xb2",
            b" \xd9\xa5",
            b" 5;a",
            b" 9" + b"9" * 18,
            b" five",
        )
    ],
    # transfer codings
    (b"POST / HTTP/1.1" + HOST + b"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", 400),
    (b"POST / HTTP/1.1" + HOST + b"\r\nTransfer-Encoding: chunked\r\nContent-Length: 0", 400),
    (b"POST / HTTP/1.1" + HOST + b"\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
    (b"POST / HTTP/1.1" + HOST + b"\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked", 400),
    (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked", 400),
    (b"POST / HTTP/1.1" + HOST + b"\r\nTransfer-Encoding : chunked", 400),
    (b"POST / HTTP/1.1" + HOST + b"\r\n Transfer-Encoding: chunked", 400),
    (b"POST / HTTP/1.1" + HOST + b"\r\nTransfer-Encoding:\x0bchunked", 400),
    (b"POST / HTTP/1.1" + HOST + b"\r\nTransfer-Encoding:\r\n chunked", 400),
    *[
        (b"POST / HTTP/1.1" + HOST + b"\r\nTransfer-Encoding: " + coding, 501)
        for coding in (
            b"",
            b"gzip",
            b"identity",
            b"xchunked",
            b"chunked, chunked",
            b"gzip, chunked",
            b"chunked;q=1",
            b'"chunked"',
            b"chunk",
            b"\xe2\x80\x8bchunked",
        )
    ],
    # line ends, folds, spaces, NUL
    (b"GET / HTTP/1.1\nHost: h", 400),
    (b"GET / HTTP/1.1" + HOST + b"\nX: 1", 400),
    (b"GET / HTTP/1.1" + HOST + b"\rX: 1", 400),
    (b"GET / HTTP/1.1\rHost: h", 400),
    (b"GET / HTTP/1.1" + HOST + b"\r\nX: a\rb", 400),
    (b"GET / HTTP/1.1" + HOST + b"\r\nX: a\nContent-Length: 5", 400),
    (b"GET / HTTP/1.1" + HOST + b"\r\nX: a\r\n folded", 400),
    (b"GET / HTTP/1.1" + HOST + b"\r\nX: a\r\n\tfolded", 400),
    (b"GET / HTTP/1.1" + HOST + b"\r\nX : a", 400),
    (b"GET / HTTP/1.1" + HOST + b"\r\nX\t: a", 400),
    (b"GET / HTTP/1.1" + HOST + b"\r\n: a", 400),
    (b"GET / HTTP/1.1" + HOST + b"\r\nno colon", 400),
    (b"GET / HTTP/1.1" + HOST + b"\r\nX: a\0b", 400),
    (b"GET / HTTP/1.1" + HOST + b"\r\nX\0: a", 400),
    (b"GET / HTTP/1.1" + HOST + b"\r\nX: a\x7fb", 400),
    (b"GET / HTTP/1.1" + HOST + b"\r\nX: \x1b[31m", 400),
    (b"GET / HTTP/1.1" + HOST + b"\r\n\xe4: a", 400),
    (b"GET / HTTP/1.1" + HOST + b"\r\nX(y): a", 400),
    (b"GET / HTTP/1.1" + HOST + b"\r\n", 400),
    # the request line
    (b"", 400),
    (b"GET", 400),
    (b"GET /", 400),
    (b"GET  / HTTP/1.1" + HOST, 400),
    (b"GET /  HTTP/1.1" + HOST, 400),
    (b"GET / HTTP/1.1 " + HOST, 400),
    (b" GET / HTTP/1.1" + HOST, 400),
    (b"GET\t/\tHTTP/1.1" + HOST, 400),
    (b"GET /a b HTTP/1.1" + HOST, 400),
    (b"GET /a\0b HTTP/1.1" + HOST, 400),
    (b"G(T / HTTP/1.1" + HOST, 400),
    (b"GET / http/1.1" + HOST, 400),
    (b"GET / HTTP/1.10" + HOST, 400),
    (b"GET / HTTP/01.1" + HOST, 400),
    (b"GET / HTTP/1", 400),
    (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 400),
    (b"GET / HTTP/2.0" + HOST, 505),
    (b"PRI * HTTP/2.0", 505),
    (b"GET / HTTP/0.9", 505),
    (b"GET / HTTP/1.2" + HOST, 505),
    # targets
    (b"GET a HTTP/1.1" + HOST, 400),
    (b"GET * HTTP/1.1" + HOST, 400),
    (b"CONNECT h:443 HTTP/1.1" + HOST, 400),
    (b"GET ftp://h/ HTTP/1.1" + HOST, 400),
    (b"GET http:///x HTTP/1.1" + HOST, 400),
    (b"GET http://user@h/ HTTP/1.1" + HOST, 400),
    (b"GET http://h@evil HTTP/1.1" + HOST, 400),
    # what may stand once only
    (b"GET / HTTP/1.1", 400),
    *(
        (b"GET / HTTP/1.1\r\nHost: " + host, 400)
        for host in (
            b"a b",
            b"a/b",
            b"a@b",
            b"a\\b",
            b"a,b/",
            b"a:1:2",
            b"a:b",
            b"[::1",
            b"[::1]x",
            b"\xe9",
            b'"a"',
            b"<a>",
            b"a?b",
        )
    ),
    (b"GET http://a<b/ HTTP/1.1\r\nHost: a", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nhost: b", 400),
    (b"GET http://a/ HTTP/1.1", 400),
    (b"POST / HTTP/1.1" + HOST + b"\r\nContent-Type: a\r\nContent-Type: b", 400),
    (b"POST / HTTP/1.1" + HOST + b"\r\nExpect: 200-maybe", 417),
]


@pytest.mark.parametrize(("data", "variables", "head"), ACCEPTED, ids=lambda value: repr(value)[:50])
def test_a_head_becomes_variables(data: bytes, variables: dict[str, str], head: Head) -> None:
    environ: dict[str, str] = {"SERVER_NAME": "mine"}
    assert parse_head(data, environ) == head
    assert environ | variables | {"SERVER_NAME": "mine"} == environ


@pytest.mark.parametrize(("data", "status"), REFUSED, ids=lambda value: repr(value)[:70])
def test_a_doubtful_head_is_refused(data: bytes, status: int) -> None:
    with pytest.raises(HeadError) as caught:
        parse_head(data, {})
    assert caught.value.status == status


@pytest.mark.parametrize(
    "name", ["X_Real_Ip", "Content_Length", "content_length", "Transfer_Encoding", "Proxy", "proxy", "PROXY"]
)
def test_a_name_that_would_pass_for_another_never_reaches_the_app(name: str) -> None:
    environ: dict[str, str] = {}
    head = parse_head(f"GET / HTTP/1.1\r\nHost: h\r\n{name}: 10.0.0.1".encode(), environ)
    assert head.length == 0
    assert "10.0.0.1" not in environ.values()
    assert variable_of(name) == ""


def test_no_header_can_set_a_variable_of_the_server() -> None:
    ours = {"SERVER_NAME": "s", "SERVER_PORT": "80", "SCRIPT_NAME": "", "REMOTE_ADDR": "10.0.0.1"}
    for name in (*ours, "PATH_INFO", "REMOTE_USER", "REQUEST_METHOD", "HTTPS", "wsgi.url_scheme"):
        for spelling in (name, name.replace("_", "-"), name.lower().replace("_", "-")):
            environ = dict(ours)
            parse_head(f"GET / HTTP/1.1\r\nHost: h\r\n{spelling}: evil".encode(), environ)
            assert {key: environ[key] for key in ours} == ours
            assert environ["PATH_INFO"] == "/"
            assert environ["REQUEST_METHOD"] == "GET"
            assert not {"REMOTE_USER", "HTTPS", "wsgi.url_scheme"} & environ.keys()


def test_known_names_are_what_unknown_ones_would_become() -> None:
    special = {"Content-Length", "Content-Type", "Proxy"}
    for name, variable in KNOWN.items():
        if name.title() not in special:
            assert variable == "HTTP_" + name.upper().replace("-", "_")


TOKEN = st.text(string.ascii_letters + string.digits + "!#$%&'*+.^`|~-", min_size=1, max_size=12)
TARGET = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30).map("/".__add__)
VALUE = st.text(st.sampled_from([*map(chr, range(0x20, 0x7F)), "\t", "\xa0", "\xff"]), max_size=20)


@settings(deadline=None)
@given(method=TOKEN, target=TARGET, fields=st.dictionaries(TOKEN.map(str.lower), VALUE, max_size=6))
def test_every_well_formed_head_is_understood(method: str, target: str, fields: dict[str, str]) -> None:
    taken = {"host", "content-length", "transfer-encoding", "expect", "connection", "proxy"}
    fields = {f"x-{name}": value for name, value in fields.items() if name not in taken}
    lines = [f"{method} {target} HTTP/1.1", "Host: h", *(f"{name}:{value}" for name, value in fields.items())]
    environ: dict[str, str] = {}
    head = parse_head("\r\n".join(lines).encode("latin-1"), environ)
    assert head == Head(0, keep_alive=True, expects_continue=False, http11=True)
    assert environ.pop("REQUEST_METHOD") == method
    assert environ.pop("REQUEST_URI") == target
    for name, value in fields.items():
        assert environ["HTTP_" + name.upper().replace("-", "_")] == value.strip(" \t")


PIECES = st.sampled_from([
    b"GET", b"POST", b" ", b"/", b"*", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b"\r", b"\0", b":", b"Host: h", b"\t",
    b"Content-Length: 3", b"Content-Length", b"Transfer-Encoding: chunked", b"Transfer-Encoding", b"chunked", b"5",
])  # fmt: skip
NEARLY = st.one_of(
    st.binary(max_size=80),
    st.lists(PIECES, max_size=14).map(b"".join),
    st.lists(PIECES, max_size=8).map(lambda pieces: b"GET / HTTP/1.1\r\nHost: h\r\n" + b"".join(pieces)),
)


@settings(deadline=None)
@given(NEARLY)
def test_what_we_accept_another_parser_reads_alike(data: bytes) -> None:
    """h11 is the other opinion: whatever is served must be one message to it, framed in the same way."""
    environ: dict[str, Any] = {}
    try:
        head = parse_head(data, environ)
    except HeadError:
        return
    if max(environ["REQUEST_URI"]) > "\x7e":
        return  # h11 takes ASCII targets only; RFC 9112 is silent about what a server does with others
    other = h11.Connection(h11.SERVER)
    other.receive_data(data + b"\r\n\r\n")
    request = other.next_event()
    assert isinstance(request, h11.Request)
    assert request.method.decode() == environ["REQUEST_METHOD"]
    assert request.target.decode() == environ["REQUEST_URI"]
    framing = {name: value for name, value in request.headers if name in {b"content-length", b"transfer-encoding"}}
    expected = {b"transfer-encoding": b"chunked"} if head.length < 0 else {}
    if "CONTENT_LENGTH" in environ:
        expected = {b"content-length": environ["CONTENT_LENGTH"].encode()}
    assert framing == expected


@pytest.mark.parametrize(
    ("quoted", "plain"),
    [("/a", "/a"), ("%41", "A"), ("%c3%A4", "\xc3\xa4"), ("%", "%"), ("%4", "%4"), ("%4g", "%4g"), ("%00", "\0")],
)
def test_percent_escapes(quoted: str, plain: str) -> None:
    assert unquote(quoted) == plain


LINES = st.lists(
    st.sampled_from([
        "Host: h", "Host: other", "Connection: close", "Connection: keep-alive", "Content-Length: 3", "X: y", "x: z",
        "Transfer-Encoding: chunked", "X_Y: 1", "Expect: 100-continue", "Cookie: a", "broken", " X: y", "Proxy: p",
    ]),
    max_size=4,
)  # fmt: skip
REQUEST_LINES = st.sampled_from([
    "GET / HTTP/1.1", "POST /a?b HTTP/1.1", "GET / HTTP/1.0", "GET http://there/x HTTP/1.1", "OPTIONS * HTTP/1.1",
    "GET  / HTTP/1.1", "GET /%41 HTTP/1.1", "GET / HTTP/2.0",
])  # fmt: skip


def judged(parser: HeadParser, data: bytes) -> Any:
    try:
        return parsed(parser, data)
    except HeadError as error:
        return error.status, str(error)


@settings(deadline=None)
@given(st.lists(st.tuples(REQUEST_LINES, LINES), min_size=1, max_size=6))
def test_what_a_parser_remembers_changes_no_answer(heads: list[tuple[str, list[str]]]) -> None:
    old = HeadParser({"SERVER_NAME": "here"})
    for line, fields in [*heads, *heads, *heads]:  # known lines the second time, a known block the third
        data = "\r\n".join([line, *fields]).encode()
        assert judged(old, data) == judged(HeadParser({"SERVER_NAME": "here"}), data)


def test_blocks_remembered_are_bounded() -> None:
    parser = HeadParser({})
    for number in range(3 * MEMORY_BLOCKS):
        for _ in range(3):
            parser.parse(f"GET / HTTP/1.1\r\nHost: h\r\nX-Id: {number}".encode())
        assert 0 < len(parser._blocks) <= MEMORY_BLOCKS


def test_what_a_parser_remembers_is_bounded() -> None:
    parser = HeadParser({})
    long = "x" * MEMORY_LINE_CHARACTERS
    for number in range(MEMORY_LINES + 10):
        environ, _ = parser.parse(f"GET / HTTP/1.1\r\nHost: h\r\nX-Id: {number}\r\nX-Long: {long}".encode())
        assert (environ["HTTP_X_ID"], environ["HTTP_X_LONG"]) == (str(number), long)
        assert len(parser.known) <= MEMORY_LINES
        assert long not in [value for _, value in parser.known.values()]
