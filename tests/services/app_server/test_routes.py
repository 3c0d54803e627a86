"""Routing without a server: what rules mean, what they change, and what is refused."""

import pytest

from palatine.errors import ConfigError
from palatine_app_server.routing import body_transforms, route_extras, route_math, route_policy
from palatine_app_server.routing.route_grammar import OPTIONS, Line, Routes, parse, parse_rule
from palatine_app_server.routing.route_policy import End
from palatine_app_server.routing.route_walk import Effect, Reply, Walk
from palatine_app_server.routing.upstream_address import Upstream

ENVIRON = {
    "REQUEST_METHOD": "GET", "PATH_INFO": "/foo/bar", "QUERY_STRING": "a=1&b=two", "REQUEST_URI": "/foo/bar?a=1&b=two",
    "HTTP_HOST": "example.com", "REMOTE_ADDR": "10.1.2.3", "HTTP_COOKIE": "x=1; id=abc", "SCRIPT_NAME": "/foo",
    "HTTP_USER_AGENT": "curl/8",
}  # fmt: skip


class Known:
    """A world with one file, one user and no clock."""

    def is_file(self, kind: str, path: str) -> bool:
        return path == "/file" and kind in {"exists", "isfile"}

    def value(self, function: str, key: str) -> str:
        return f"<{function} {key}>"

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], bytes] = {
            ("", "known"): b"value",
            ("c", "number"): (-7).to_bytes(8, "little", signed=True),
        }
        self.done: list[tuple[object, ...]] = []
        self.turns = 0

    def cached(self, key: str, cache: str) -> bytes | None:
        return self.items.get((cache, key))

    def expiry(self, key: str, cache: str) -> int:
        return 1_700_000_000 if (cache, key) == ("", "known") else 0

    def attribute(self, path: str, name: str) -> str:
        return f"<{path} {name}>"

    def cache(self, verb: str, key: str, value: bytes | int, expires: int, cache: str) -> None:
        self.done.append((verb, key, value, expires, cache))

    def path(self, text: str) -> str:
        return text

    def say(self, text: str) -> None:
        self.done.append(("say", text))

    def modified(self, path: str) -> int | None:
        return 1000 if path == "/file" else None

    def turn(self) -> int:
        self.turns += 1
        return self.turns - 1

    def password_fits(self, authorization: str, secret: str) -> str:
        return "me" if (authorization, secret) == ("Basic good", "file") else ""


def walked(*rules: tuple[str, str], status: int = 0, **more: str) -> tuple[End, Walk]:
    walk = Walk({**ENVIRON, **more}, Known(), status=status)
    return route_policy.run(walk, [parse_rule(kind, value) for kind, value in rules]), walk


def variable(value: str, **more: str) -> str:
    return str(walked(("run", f"addvar:OUT={value}"), **more)[1].environ["OUT"])


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("plain", "plain"),
        ("${PATH_INFO}|${HTTP_HOST}|${NONE}", "/foo/bar|example.com|"),
        ("${cookie[id]}|${cookie[none]}|${qs[b]}", "abc||two"),
        ("${base64[HTTP_HOST]}|${hex[SCRIPT_NAME]}", "ZXhhbXBsZS5jb20=|2F666F6F"),
        ("${time[unix]}|${uwsgi[wid]}", "<time unix>|<uwsgi wid>"),
        ("${xattr[PATH_INFO:user.a]}|${xattr2[PATH_INFO:SCRIPT_NAME]}", "</foo/bar user.a>|</foo/bar /foo>"),
        ("${xattr[PATH_INFO]}|${xattr[NONE:user.a]}|${xattr2[PATH_INFO:NONE]}", "||"),
        ("${math[1+2*3]}|${math[(1+2)*3]}|${math[SIZE*2+half]}", "7|9|25"),
        ("$1 $ ${", "$1 $ ${"),  # no expression, no groups
        ("100$", "100$"),
    ],
)
def test_templates(template: str, value: str) -> None:
    assert variable(template, SIZE="12.5kg") == value


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("7/2", "3"), ("-7/2", "-3"), ("2^3^2", "64"), ("-2^2", "-4"), ("2^-1*8", "4"), ("--3", "3"), ("1-2-3", "-4"),
        ("pi*100", "314"), ("sqrt(16)+abs(-2)", "6"), ("exp(log(5))+.5", "5"), ("step(-1)+step(0)", "1"),
        ("1e3", "1000"), ("NOBODY+1", "1"), ("TEXT+1", "1"), ("NEGATIVE", "-2"),
        ("", ""), ("1+", ""), ("(1", ""), ("1)", ""), ("1 2", ""), ("nothing(1)", ""), ("1/0", ""), ("sqrt(-1)", ""),
        ("10^400", ""), ("9^9^9^9", ""), ("1e999", ""), ("#", ""), ("(" * 33 + "1" + ")" * 33, ""), ("1" * 1025, ""),
        ("-" * 1000 + "1", "1"),
    ],
)  # fmt: skip
def test_arithmetic(expression: str, value: str) -> None:
    variables = {"TEXT": "none", "NEGATIVE": " -2.5 "}
    assert route_math.evaluate(expression, lambda name: variables.get(name, "")) == value


def test_groups() -> None:
    _, walk = walked(("", "^/(f.o)/(.*)(x)? addvar:OUT=$0|$1|$2|$3|$9|$$1"))
    assert walk.environ["OUT"] == "/foo/bar|foo|bar|||$foo"
    _, walk = walked(("", "^/foo/(.)ar addvar:OUT=${qs[$1]}"))
    assert walk.environ["OUT"] == "two"


def test_what_a_client_sends_is_not_expanded_again() -> None:
    _, walk = walked(("", "^/(.*) addvar:OUT=$1"), PATH_INFO="/${cookie[id]}$0")
    assert walk.environ["OUT"] == "${cookie[id]}$0"
    assert variable("${HTTP_X}", HTTP_X="${HTTP_HOST}") == "${HTTP_HOST}"


@pytest.mark.parametrize(
    ("kind", "condition", "holds"),
    [
        ("", "^/foo", True), ("", "^/bar", False), ("", "bar", True), ("host", "^example", True),
        ("uri", r"\?a=1", True),
        ("qs", "b=two", True), ("remote-addr", r"^10\.", True), ("user-agent", "^curl", True), ("referer", ".", False),
        ("remote-user", "^$", True),
        ("if", "equal:${HTTP_HOST};example.com", True), ("if", "eq:${HTTP_HOST};x", False),
        ("if-not", "==:${HTTP_HOST};x", True), ("if", "startswith:${PATH_INFO};/foo", True),
        ("if", "endswith:${PATH_INFO};/bar", True), ("if", "contains:${PATH_INFO};o/b", True),
        ("if", "regexp:${HTTP_HOST};^ex.*m$", True), ("if", "re:${HTTP_HOST};^x", False),
        ("if", "ishigher:${qs[a]};0", True), ("if", ">:${qs[a]};1", False), ("if", ">=:${qs[a]};1", True),
        ("if", "<:${qs[a]};2", True), ("if", "<=:x;0", True), ("if", "empty:${HTTP_NONE}", True),
        ("if", "empty:x", False), ("if", "exists:/file", True), ("if", "isfile:/nofile", False),
        ("if-not", "isdir:/file", True), ("if", "ipv4in:${REMOTE_ADDR};10.0.0.0/8", True),
        ("if", "ipv4in:${REMOTE_ADDR};11.0.0.0/8", False), ("if", "ipv6in:${REMOTE_ADDR};::/0", False),
        ("if", "ipv4in:::ffff:10.1.2.3;10.0.0.0/8", True), ("if", "ipv6in:::ffff:10.1.2.3;::/0", True),
        ("if", "ipv4in:::1;0.0.0.0/0", False),
        ("if", "ipv6in:fe80::1;fe80::/10", True), ("if", "ipv4in:nonsense;10.0.0.0/8", False),
        ("status", "404", True), ("status", "500", False), ("run", "", True),
    ],
)  # fmt: skip
def test_conditions(kind: str, condition: str, holds: object) -> None:
    _, walk = walked((kind, f"{condition} addvar:HIT=1".strip()), status=404)
    assert ("HIT" in walk.changed) is holds


def test_a_condition_that_is_an_expression_has_groups() -> None:
    _, walk = walked(("if", "regexp:${HTTP_HOST};^(\\w+) addvar:OUT=$1"))
    assert walk.environ["OUT"] == "example"


@pytest.mark.parametrize(
    ("action", "reply"),
    [
        ("break:403 Forbidden", Reply("403 Forbidden", (("Connection", "close"), ("Content-Type", "text/plain")))),
        ("break:", None),
        (
            "return:404",
            Reply("404 Not Found", (("Content-Type", "text/plain"), ("Content-Length", "9")), b"Not Found"),
        ),
        ("return:204", Reply("204 No Content", ())),  # RFC 9110 8.6: no length either
        ("return:999", None),
        ("redirect:http://${HTTP_HOST}/$1", Reply("302 Found", (("Location", "http://example.com/foo"),), b"Moved")),
        ("redirect-permanent:/x", Reply("301 Moved Permanently", (("Location", "/x"),), b"Moved Permanently")),
        ("file:filename=/file,status=503 Down", Reply("503 Down", (("Content-Type", "text/html"),), path="/file")),
        ("file:filename=/nofile", None),
        (
            "basicauth:My realm,file",
            Reply("401 Authorization Required", (("WWW-Authenticate", 'Basic realm="My realm"'),), b"Unauthorized"),
        ),
    ],
)
def test_actions_that_end_a_request(action: str, reply: Reply | None) -> None:
    end, walk = walked(("", f"^/(foo) {action}"), ("run", "addvar:NEVER=1"))
    assert (end, walk.reply) == (End.BREAK, reply)
    assert "NEVER" not in walk.changed


@pytest.mark.parametrize(
    ("action", "changed"),
    [
        ("addvar:A=${qs[b]}", {"A": "two"}),
        ("setuser:me:secret", {"REMOTE_USER": "me"}),
        ("setmethod:PUT", {"REQUEST_METHOD": "PUT"}),
        ("seturi:/u", {"REQUEST_URI": "/u"}),
        ("sethost:h", {"HTTP_HOST": "h"}),
        ("setpathinfo:/p", {"PATH_INFO": "/p"}),
        ("setscriptname:/s", {"SCRIPT_NAME": "/s"}),
        ("setremoteaddr:1.1.1.1", {"REMOTE_ADDR": "1.1.1.1"}),
        ("setscheme:https", {"UWSGI_SCHEME": "https"}),
        ("fixpathinfo:", {"PATH_INFO": "/bar"}),
        ("rewrite:/new/$1", {"PATH_INFO": "/new/foo"}),
        ("rewrite:/n%41?c=3", {"PATH_INFO": "/nA", "QUERY_STRING": "c=3&a=1&b=two"}),
        ("+:N,2", {"N": "9"}), ("-:N,2", {"N": "5"}), ("*:N,2", {"N": "14"}), ("/:N,2", {"N": "3"}),
        ("/:N,0", {"N": "0"}), ("+:N", {"N": "8"}),
        ("setmodifier1:5", {}), ("flush:", {}),
    ],
)  # fmt: skip
def test_actions_that_change_variables(action: str, changed: dict[str, str]) -> None:
    end, walk = walked(("", f"^/(foo) {action}"), ("run", "addvar:AFTER=1"), N="7")
    assert end is End.THROUGH
    assert walk.changed == changed | {"AFTER": "1"}


def test_how_a_walk_goes_on() -> None:
    for word in ("continue", "last", "rewrite-last"):
        end, walk = walked(("run", f"{word}:/"), ("run", "addvar:NEVER=1"))
        assert end is End.THROUGH
        assert "NEVER" not in walk.changed
    end, walk = walked(
        ("run", "goto:there"), ("run", "addvar:NEVER=1"), ("label", "there"), ("run", "addvar:A=1"), ("run", "goto:6"),
        ("run", "addvar:NEVER=1"), ("run", "addvar:B=1"),
    )  # fmt: skip
    assert walk.changed == {"A": "1", "B": "1"}
    for back in ("goto:there", "goto:nowhere", "goto:0"):
        end, walk = walked(("label", "there"), ("run", back))
        assert end is End.BREAK
        assert "can only jump forward" in walk.effects[0].arguments[0]


def test_basic_authentication() -> None:
    rules = [("run", "basicauth:r,file"), ("run", "addvar:IN=1")]
    end, walk = walked(*rules, HTTP_AUTHORIZATION="Basic good")
    assert (end, walk.changed) == (End.THROUGH, {"REMOTE_USER": "me", "IN": "1"})
    assert walked(*rules, HTTP_AUTHORIZATION="Basic bad")[0] is End.BREAK
    assert walked(*rules, REMOTE_USER="known")[0] is End.THROUGH
    assert walked(("run", "basicauth:r,"), HTTP_AUTHORIZATION="Basic good")[0] is End.BREAK
    another = [("run", "basicauth-next:r,other"), *rules]
    assert walked(*another, HTTP_AUTHORIZATION="Basic good")[0] is End.THROUGH
    assert walked(*another)[0] is End.BREAK


def test_the_rest() -> None:
    _, walk = walked(
        ("run", "addheader:X-A: ${HTTP_HOST}"), ("run", "delheader:Server"), ("run", "logvar:who=${cookie[id]}"),
        ("run", "donotlog:"), ("run", "log:hit ${PATH_INFO}"), ("run", "alarm:mail it is ${qs[a]}"),
        ("run", "signal:17"), ("run", "harakiri:5"), ("run", "metricinc:hits,2"), ("run", "setapp:/a"),
        ("run", "send:a"), ("run", "send-crnl:b"), ("run", "clearheaders:203 X"), ("run", "chdir:/tmp"),
    )  # fmt: skip
    assert walk.add == [("X-A", "example.com")]
    assert walk.remove == ["server"]
    assert (walk.log_variables, walk.silent, walk.app, walk.raw) == ({"who": "abc"}, True, "/a", b"ab\r\n")
    assert walk.fresh_status == "203 X"
    assert walk.effects == [
        Effect("log", ("hit /foo/bar",)), Effect("alarm", ("mail", "it is 1")), Effect("signal", ("17",)),
        Effect("harakiri", ("5",)), Effect("metric", ("metricinc", "hits", "2")), Effect("chdir", ("/tmp",)),
    ]  # fmt: skip


def test_nobody_sends_a_header_by_a_line_end() -> None:
    _, walk = walked(("run", "addheader:X: ${A}"), ("run", "redirect:/${A}"), A="1\r\nSet-Cookie: x")
    assert walk.add == [("X", "1Set-Cookie: x")]
    assert walk.reply is not None
    assert walk.reply.headers == (("Location", "/1Set-Cookie: x"),)


def test_tables() -> None:
    def line(option: str, value: str) -> Line:
        return Line(option, value, ConfigError)

    routes = parse([
        line("route", "^/ log:a"), line("error-route-status", "404 redirect:/"),
        line("response-route-if", "empty: log:b"),
        line("final-route-run", "log:c"), line("route-label", "x"), line("route-remote-addr", "^1 break:"),
    ])  # fmt: skip
    assert [len(table) for table in routes] == [3, 1, 1, 1]
    assert not Routes()
    assert "error-route-remote-addr" in OPTIONS


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("", "^/only", "a space and an action"),
        ("", "( log:x", "not a regular expression"),
        ("", "^/ log", "its name, a colon"),
        ("", "^/ redis:127.0.0.1:1", 'there is no action "redis" here'),
        ("run", "logvar:x", "key=value"),
        ("run", "alarm:x", "an alarm, a space"),
        ("run", "basicauth:x", "realm,user:password"),
        ("if", "equal:a log:x", "a semicolon between them"),
        ("if", "nothing:a log:x", 'unable to find "nothing" route condition'),
        ("if", "exists log:x", "a condition is its name"),
        ("if", "regexp:a;( log:x", "not a regular expression"),
    ],
)
def test_what_is_wrong_is_refused(kind: str, value: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_rule(kind, value)


def test_lines_are_named() -> None:
    def error(text: str) -> ConfigError:
        return ConfigError(f"my.ini:3: {text}")

    with pytest.raises(ConfigError, match=r"my\.ini:3: .*no action"):
        parse([Line("route-run", "nope:x", error)])


EXPIRES = ("Expires", "<date 1700000000>")


def test_caches() -> None:
    end, walk = walked(("", "^/foo/(.*) cache:key=known,content_type=text/x,content_encoding=gzip,nocl=1"))
    assert (end, walk.reply) == (
        End.BREAK,
        Reply("200 OK", (("Content-Type", "text/x"), ("Content-Encoding", "gzip"), EXPIRES), b"value"),
    )
    end, walk = walked(("run", "cache:key=${HTTP_HOST},mime=1"), ("run", "addvar:REACHED=1"))
    assert (end, walk.environ["REACHED"]) == (End.THROUGH, "1")
    _, walk = walked(
        ("run", "cachevar:key=known,var=A"), ("run", "cachevar:key=number,name=c,var=B,num=1"),
        ("run", "cachevar:key=none,var=C"), ("if", "incache:key=known addvar:IN=1"),
        ("if-not", "incache:key=known,name=c addvar:OUT=1"),
    )  # fmt: skip
    assert [walk.environ.get(key) for key in ("A", "B", "C", "IN", "OUT")] == ["value", "-7", None, "1", "1"]
    _, walk = walked(
        ("run", "cacheset:key=${HTTP_HOST},value=${REMOTE_ADDR},expires=5,name=c"), ("run", "cacheinc:key=k"),
        ("run", "cachemul:key=k"), ("run", "cachediv:key=k,value=${qs[a]}0"),
    )  # fmt: skip
    assert walk.world.done == [  # type: ignore[attr-defined]  # it is Known
        ("set", "example.com", b"10.1.2.3", 5, "c"), ("inc", "k", 1, 0, ""), ("mul", "k", 2, 0, ""),
        ("div", "k", 10, 0, ""),
    ]  # fmt: skip


def test_hashes() -> None:
    # what uWSGI 2.0.31's own functions say of these keys
    assert route_extras.djb33x("é/foo".encode()) == 0xE8CED7C6
    assert route_extras.murmur2(b"/foo/bar") == 0xB50CEC22
    assert route_extras.murmur2(b"abcde") == 0x0944EF56
    rule = ("run", "hash:key=${PATH_INFO},var=NODE,items=a;b;c;")
    _, walk = walked(rule)
    assert walk.environ["NODE"] == "abc"[route_extras.djb33x(b"/foo/bar") % 3]
    turn = ("run", "hash:key=x,var=NODE,algo=rr,items=a;b")
    _, walk = walked(turn, ("run", "addvar:FIRST=${NODE}"), turn)
    assert (walk.environ["FIRST"], walk.environ["NODE"]) == ("a", "b")


def test_other_servers_and_dates() -> None:
    end, walk = walked(("run", "http:${REMOTE_ADDR}:80,backend,/x"))
    assert (end, walk.upstream) == (End.BREAK, Upstream("10.1.2.3:80", "http", "backend", "/x"))
    _, walk = walked(("run", "uwsgi:/s/${HTTP_HOST}.sock,5,1,app"))
    assert walk.upstream == Upstream("/s/example.com.sock", "uwsgi", modifiers=(5, 1), app="app")
    end, walk = walked(("run", "uwsgi:,0,0"), ("run", "addvar:REACHED=1"))
    assert (end, walk.upstream, walk.environ.get("REACHED")) == (End.THROUGH, None, None)
    _, walk = walked(("run", "expires:file=/file,value=${qs[a]}0"), ("run", "expires:unix=5"))
    assert walk.add == [("Expires", "<date 1010>"), ("Expires", "<date 5>")]


@pytest.mark.parametrize("action", ["static", "static-next", "file", "file-next"])
def test_files_below_their_directory_only(action: str) -> None:
    key = "filename=" if action.startswith("file") else ""
    for path in ("/srv/../file", "/srv/..", "../file", "/file\0"):
        _, walk = walked(("", f".* {action}:{key}/srv/../$0"), PATH_INFO=path)
        assert walk.static in {"", "/dev/null/nowhere"}
        assert walk.reply is None
        assert walk.effects == [Effect("log", (f"[uwsgi-route] {'/srv/../' + path!r} leads elsewhere",))]


def test_compressed_is_another_representation() -> None:
    headers = [("Content-Type", "a/b"), ("ETag", '"1"'), ("Content-Length", "5")]
    assert body_transforms.prepared([body_transforms.Gzip()], headers) == [
        ("Content-Type", "a/b"), ("ETag", 'W/"1"'), ("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"),
    ]  # fmt: skip
    part = body_transforms.Gzip()
    headers = [("ETag", '"1"'), ("Content-Range", "bytes 0-4/9")]
    assert body_transforms.prepared([part], headers) == headers
    assert body_transforms.feed([part], b"parts") + body_transforms.finish([part], 206) == b"parts"


def test_transforms_are_noted() -> None:
    _, walk = walked(("run", "gzip:"), ("run", "toupper:"), ("run", "offload:"), ("run", "tofile:name=/a/../b"))
    assert [type(transform).__name__ for transform in walk.transforms] == ["Gzip", "Upper"]
    assert walk.world.done == [("say", "[uwsgi-route] tofile: '/a/../b' leads elsewhere")]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("cache:content_type=x", "needs key"),
        ("cache:key=x,colour=y", "cache takes key"),
        ("cachestore:key=x,name=c@other:1", "caches of other servers"),
        ("hash:key=a,var=b,items=c,algo=md5", "unable to find hash algo"),
        ("uwsgi:/s", "address,modifier1,modifier2"),
        ("uwsgi:,5,0", "only Python apps"),
        ("uwsgi:/s,300,0", "address,modifier1,modifier2"),
        ("http:", "takes address"),
        ("tofile:", "needs filename"),
        ("rpc:x", "no action .rpc. here: use http: or uwsgi:"),
        ("redis:x", "use cache: and cachestore:"),
    ],
)
def test_extras_that_are_wrong(action: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_rule("run", action)
