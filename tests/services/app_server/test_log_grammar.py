"""The small languages of logging, and what each makes of a request or a line."""

import json
import re
import time
import zlib
from typing import Any

import pytest

from palatine.errors import ConfigError
from palatine_app_server.log import log_encoders, log_grammar
from palatine_app_server.log.log_grammar import Encoder, Logger, Variable
from palatine_app_server.log.log_routing import Routing, Rules
from palatine_app_server.log.request_log import Notes, RequestLog, RequestLogSettings, Served

ENVIRON = {
    "REQUEST_METHOD": "GET", "REQUEST_URI": "/a?b=c", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "h:1",
    "REMOTE_ADDR": "10.1.2.3", "HTTP_USER_AGENT": "curl", "HTTP_X_FORWARDED_FOR": "1.2.3.4",
}  # fmt: skip
STARTED = 1595182898


def served(**changes: Any) -> Served:
    return Served(
        pid=99, worker=2, core=1, app=0, app_requests=5, total_requests=70, environ=ENVIRON,
        environ_count=len(ENVIRON), environ_bytes=300,
        started_us=STARTED * 1_000_000 + 250, micros=12_345, body_bytes=11, status=200, header_count=1,
        header_bytes=44, switches=1,
    )._replace(**changes)  # fmt: skip


def lines(one: Served, **options: Any) -> list[str]:
    written: list[str] = []
    RequestLog(RequestLogSettings(**options), written.append).consider(one)
    return written


def noted(**changes: Any) -> Notes:
    notes = Notes()
    for name, value in changes.items():
        setattr(notes, name, value)
    return notes


@pytest.mark.parametrize(
    ("text", "logger"),
    [
        ("file:/tmp/a b", Logger("", "file", "/tmp/a b")),
        ("mine file:/tmp/a", Logger("mine", "file", "/tmp/a")),
        ("syslog", Logger("", "syslog", "")),
        ("socket:127.0.0.1:1717,uwsgi", Logger("", "socket", "127.0.0.1:1717,uwsgi")),
        ("pipe:/bin/cat -u", Logger("", "pipe", "/bin/cat -u")),
    ],
)
def test_loggers(text: str, logger: Logger) -> None:
    assert log_grammar.parse_logger(text) == logger


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ()),
        ("%(uri)", (Variable("uri"),)),
        ("a %(uri) [%(var.X)]", ("a ", Variable("uri"), " [", Variable("var.X"), "]")),
        ("100% %(", ("100% %(",)),
        ("%() %(a", ("%() %(a",)),
    ],
)
def test_formats(text: str, parts: tuple[str | Variable, ...]) -> None:
    assert log_grammar.parse_format(text) == parts


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("%(method) %(uri) %(proto) %(host) %(uagent) %(addr)", "GET /a?b=c HTTP/1.1 h:1 curl 10.1.2.3"),
        ("%(user) %(referer) %(var.NONE) %(unknown)", "- - - -"),
        ("%(status) %(rsize) %(hsize) %(size) %(cl)", "200 11 44 55 0"),
        ("%(micros) %(msecs) %(secs)", "12345 12 0.012345"),
        ("%(time) %(tmsecs) %(tmicros)", f"{STARTED} {STARTED}000 {STARTED}000250"),
        ("%(ctime)", time.ctime(STARTED)),
        ("%(ltime)", time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(STARTED))),
        ("%(pid) %(wid) %(core) %(switches) %(vars) %(headers) %(pktsize)", "99 2 1 1 14 1 300"),
        ("%(modifier1) %(modifier2) %(werr) %(rerr) %(ioerr)", "0 0 0 0 0"),
        ("ü %(var.HTTP_HOST)", "ü h:1".encode().decode("latin-1")),
    ],
)
def test_what_a_format_makes_of_a_request(form: str, line: str) -> None:
    assert lines(served(), format=form) == [line]


def test_expressions_are_pcres() -> None:
    assert log_grammar.compile_pattern("[[:alpha:]]+ \\Qé+\\E").search("hello é+".encode())
    with pytest.raises(ConfigError, match="is not a regular expression"):
        log_grammar.compile_pattern("[[:alfa:]]")


def test_a_host_nobody_named_is_the_servers() -> None:
    environ = {"SERVER_NAME": "here"} | {key: value for key, value in ENVIRON.items() if key != "HTTP_HOST"}
    assert lines(served(environ=environ), format="%(host)") == ["here"]


def test_a_format_that_is_json() -> None:
    notes = noted(variables={"tenant": "a"})
    document = json.loads(lines(served(notes=notes), format="json")[0])
    assert document["status"] == 200
    assert document["uri"] == "/a?b=c"
    assert document["tenant"] == "a"
    assert "referer" not in document


def test_values_cannot_begin_a_line_of_their_own() -> None:
    environ = {**ENVIRON, "PATH_INFO": "/\n[pid: 1"}
    assert lines(served(environ=environ), format="%(var.PATH_INFO)") == ["/\\n[pid: 1"]


@pytest.mark.parametrize(
    ("options", "change", "written"),
    [
        ({}, {}, True),
        ({"enabled": False}, {}, False),
        ({"enabled": False, "client_errors": True}, {"status": 404}, True),
        ({"enabled": False, "client_errors": True}, {"status": 500}, False),
        ({"enabled": False, "server_errors": True}, {"status": 503}, True),
        ({"enabled": False, "slow_ms": 12}, {}, True),
        ({"enabled": False, "slow_ms": 13}, {}, False),
        ({"enabled": False, "empty": True}, {"body_bytes": 0}, True),
        ({"enabled": False, "empty": True}, {}, False),
        ({"enabled": False, "big_bytes": 11}, {}, True),
        ({"enabled": False, "big_bytes": 12}, {}, False),
        ({"enabled": False, "sendfile": True}, {"notes": noted(via="sendfile")}, True),
        ({"enabled": False, "io_errors": True}, {"notes": noted(write_errors=1)}, True),
        ({"enabled": False}, {"notes": noted(log_this=True)}, True),
        ({}, {"notes": noted(silent=True)}, False),
    ],
)
def test_which_requests_get_a_line(options: dict[str, Any], change: dict[str, Any], written: object) -> None:
    assert bool(lines(served(**change), **options)) is written
    assert RequestLogSettings(**options).wanted is bool(options.get("enabled", True) or len(options) > 1)


def test_the_default_line() -> None:
    line = (
        "[pid: 99|app: 0|req: 5/70] 10.1.2.3 () {14 vars in 300 bytes} "
        f"[{time.ctime(STARTED)}] GET /a?b=c => generated 11 bytes in 12 msecs (HTTP/1.1 200) "
        "1 headers in 44 bytes (1 switches on core 1)"
    )
    assert lines(served()) == [line]
    assert lines(served(), micros=True) == [line.replace("12 msecs", "12345 micros")]
    assert lines(served(), forwarded=True) == [line.replace("10.1.2.3", "1.2.3.4")]
    assert lines(served(), host=True) == [f"h:1 {line}"]
    sendfile = line.replace("msecs (", "msecs via sendfile() (")
    assert lines(served(notes=noted(via="sendfile"))) == [sendfile]
    shown = lines(served(), memory=True)[0]
    assert re.fullmatch(r"{address space usage: \d+ bytes/\d+MB} {rss usage: \d+ bytes/\d+MB} (.*)", shown)
    long = lines(served(environ={**ENVIRON, "REQUEST_URI": "/" * 5000}))[0]
    assert "] 0.0.0.0 () {14 vars" in long
    assert "] - - => generated 11 bytes in 12 msecs (- 200) 1 headers" in long


@pytest.mark.parametrize(
    ("text", "data", "pattern"),
    [
        ("prefix a ", b"x\n", rb"a x\n"),
        ("suffix z", b"x\n", rb"x\nz"),
        ("nl", b"x", rb"x\n"),
        ("format <${msg}|${msgnl}|${unix}|${strftime:%Y}>", b"x\n", rb"<x\|x\n\|\d{10}\|\d{4}>"),
        ("format ${millis} ${micros} ${nothing}.", b"x\n", rb"\d{13} \d{16} \."),
        ('json {"m":"${msg}"}', b'a"b\\\n', rb'\{"m":"a\\"b\\\\"\}'),
    ],
)
def test_encoders(text: str, data: bytes, pattern: bytes) -> None:
    encode = log_encoders.encode_by(log_grammar.parse_encoder(text))
    assert re.fullmatch(pattern, encode(data)), encode(data)


def test_json_is_valid_whatever_is_printed() -> None:
    encode = log_encoders.encode_by(log_grammar.parse_encoder('json {"m":"${msg}"}'))
    assert json.loads(encode(bytes(range(256))))["m"].startswith("\0\1")


def test_packed_lines() -> None:
    assert zlib.decompress(log_encoders.encode_by(Encoder("gzip", "", ""))(b"x" * 99), 31) == b"x" * 99
    assert zlib.decompress(log_encoders.encode_by(Encoder("compress", "", ""))(b"x" * 99)) == b"x" * 99


def test_what_is_wrong_is_refused() -> None:
    with pytest.raises(ConfigError, match='"nope" not found'):
        log_encoders.encode_by(Encoder("nope", "", ""))
    with pytest.raises(ConfigError, match="not a regular expression"):
        log_grammar.compile_pattern("(")
    with pytest.raises(ConfigError, match="a logger's name"):
        log_grammar.parse_route("only")
    with pytest.raises(ConfigError, match="not key=value"):
        log_grammar.parse_keyvals("a=1,b")


class Kept:
    """A sink that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.lines.append(data)
        return 0

    def flush(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing is open."""


def test_where_a_line_goes() -> None:
    named, unnamed, log = Kept(), Kept(), Kept()
    encoders = log_encoders.chain([log_grammar.parse_encoder(text) for text in ("prefix all ", "prefix:bad !")])
    rules = Rules(
        drains=(re.compile(b"secret"),),
        filters=(re.compile(b"."),),
        routes=(log_grammar.parse_route("bad ERR"), log_grammar.parse_route("unknown x")),
        encoders=encoders,
    )
    routing = Routing(rules, [("bad", named), ("", unnamed)], log)
    for line in (b"a secret\n", b"\n", b"ERR\n", b"x\n"):
        routing.take(line)
    assert (named.lines, unnamed.lines, log.lines) == ([b"!all ERR\n"], [b"all x\n"], [])
    Routing(Rules(), [("bad", named)], log).take(b"y\n")
    assert log.lines == [b"y\n"]
