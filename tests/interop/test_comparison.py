"""The same options and requests for the real uWSGI and for us: one table of what is seen from outside.

A row says what both do; `ours` says what we do instead, where that is on purpose (docs/requests.md).
Headers that frame a message (Date, Content-Length, Connection, Transfer-Encoding) are left out: uWSGI sends none.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from running import Runner, Running, free_port, run, runner, wait_until

pytestmark = pytest.mark.interop

APP = """
import uwsgi
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/asked/"):
        router, _, argument = path[7:].partition("/")
        code = uwsgi.route(router, argument)
        if code == 2:
            return [b""]
        start_response("200 OK", [("X-Code", str(code))])
        return [b"the app"]
    if path == "/fill":
        uwsgi.cache_update("kept", "value", 0)
        uwsgi.cache_update("going", "value", 3600)
    if path == "/raise":
        raise ValueError
    if path == "/404":
        start_response("404 Not Found", [("X-App", "1")])
        return [b"missing"]
    if path == "/generator":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (piece for piece in (b"a", b"", b"b"))
    if path == "/file":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](open(__file__.rsplit("/", 1)[0] + "/www/a.css", "rb"), 4096)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Server", "app")])
    return [("%s|%s|%s" % (environ.get("SCRIPT_NAME", ""), path, environ["QUERY_STRING"])).encode("latin-1")]
"""
OPTIONS = """
    master = true
    wsgi-file = {home}/app.py
    mount = /m={home}/mounted.py
    mount = /m/deep={home}/mounted.py
    manage-script-name = true
    mimefile = {home}/mime
    static-map = /s={home}/www
    static-map2 = /sub={home}/www
    static-index = index.html
    static-skip-ext = .py
    static-expires-type = text/html=0
    static-gzip-all = true
    honour-range = true
    add-header = X-All: yes
    del-header = Server
    route = ^/redirect/(.*) redirect:/to/$1
    route = ^/moved redirect-permanent:/to
    route = ^/deny break:403 Forbidden
    route = ^/rewrite/(.*) rewrite:/rewritten/$1
    route = ^/user setuser:someone
    route = ^/auth basicauth:Realm,me:secret
    route = ^/static static:{home}/www/a.css
    route-if = equal:${{qs[x]}};hit addheader:X-Hit: ${{REQUEST_METHOD}}
    route-if = startswith:${{HTTP_USER_AGENT}};Bad return:410
    cache2 = name=first,items=10
    route = ^/kept cache:key=kept,content_type=text/x
    route = ^/going cache:key=going
    route = ^(?!/vars) goto:plain
    route = ^/vars addheader:X-Cookie: ${{cookie[id]}}|${{cookie[none]}}|${{qs[b]}}|${{NONE}}|${{none[x]}}
    route = ^/vars addheader:X-Coded: ${{base64[QUERY_STRING]}}|${{hex[QUERY_STRING]}}|${{mime[PATH_INFO]}}|${{httptime[x]
    route = ^/vars addheader:X-Server: ${{uwsgi[wid]}}|${{uwsgi[lq]}}|${{uwsgi[rsize]}}|${{uwsgi[nothing]}}|${{time[x]}}
    route = ^/vars addvar:FILE={home}/www/a.css
    route = ^/vars addvar:NAME=user.palatine
    route = ^/vars addheader:X-Attribute: ${{xattr[FILE:user.palatine]}}|${{xattr2[FILE:NAME]}}|${{xattr[FILE:user.none]}}|
    route-if = regexp:${{uwsgi[sor]}};^1[0-9]{{15}}$ addheader:X-Begun: yes
    route-if = regexp:${{time[unix]}}-${{time[micros]}};^1[0-9]{{9}}-1[0-9]{{15}}$ addheader:X-Clock: yes
    route-if = regexp:${{uwsgi[uuid]}};^[0-9a-f-]{{36}}$ addheader:X-Uuid: yes
    route-label = plain
    route-host = ^other goto:end
    route = ^/jump addheader:X-Jumped: no
    route-label = end
    response-route-status = 404 addheader:X-Missing: 1
    log-format = %(method) %(uri) %(proto) %(status) %(rsize) %(hsize) %(headers) %(cl) %(addr) %(user) %(uagent) %(host) %(var.HTTP_X) %(nothing) %(wid) %(core) %(modifier1) %(werr) %(rerr)
"""  # noqa: E501 - one option
PLUGINS = "python3,router_redirect,router_rewrite,router_static,router_basicauth,router_cache,xattr"
#: The framing is ours to do; uWSGI leaves it to whoever is in front.
FRAMING = {"date", "content-length", "connection", "transfer-encoding"}


class Seen(NamedTuple):
    """An answer as a client sees it."""

    status: str
    headers: tuple[str, ...]
    body: str


class Row(NamedTuple):
    """curl's words for one request, and what we do differently on purpose."""

    words: tuple[str, ...]
    ours: Seen | None = None
    log: bool = True  # whether the request lines must be equal, too


def row(*words: str, ours: Seen | None = None, log: bool = True) -> Row:
    return Row(words, ours, log)


#: Where uWSGI ends a connection without an answer.
NOTHING = Seen("", (), "")
PLAIN = ("Content-Type: text/plain", "X-All: yes")
PACKED = (
    "Content-Encoding: gzip", "Content-Type: text/css", "Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT",
    "Vary: Accept-Encoding", "X-All: yes",
)  # fmt: skip
ROWS = [
    row("/"),
    row("/?a=1&b=%20"),
    row("/a%20b/%C3%BC"),
    row("/", "-H", "X: hello", "-A", "me", "-H", "Host: h.example"),
    row("/", "-d", "some data"),
    row("/", "-I"),
    row("/404"),
    row("/generator", log=False),  # uWSGI counts one switch more
    row("/file", log=False),  # it counts what sendfile sent as well
    row("/raise", ours=Seen("HTTP/1.1 500 Internal Server Error", PLAIN, "Internal Server Error"), log=False),
    # several apps
    row("/m"),
    row("/m/"),
    row("/m/x/y"),
    row("/mx"),
    row("/m/deep/x"),
    row("/m/deeper"),
    # files
    row("/s/a.css"),
    row("/s/a.css", "-I"),
    row("/s/a.css", "-X", "POST"),
    row("/s/a.css", "-r", "2-4", log=False),  # uWSGI's line says 200
    row("/s/a.css", "-r", "-3", log=False),
    row("/s/a.css", "-r", "7-", log=False),
    row("/s/a.css", "-r", "99-"),
    row("/s/a.css", "-H", "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT"),
    row("/s/a.css", "-H", "If-Modified-Since: Tue, 14 Nov 2023 22:13:19 GMT"),
    row("/s/missing"),
    row("/s/"),
    row("/s"),
    # uWSGI's own HTTP parser takes the dots out, before the escapes; ours leaves a path to the app as it came
    row("/s/../secret", ours=Seen("HTTP/1.1 200 OK", PLAIN, "|/s/../secret|"), log=False),
    row("/s/%2e%2e/secret"),
    row("/s//a.css"),
    row("/s/link"),
    row("/s/out"),
    row("/s/x.py"),
    row("/s/noext"),
    row("/sub/b.html"),
    # caches have to know
    row("/s/packed.css", "-H", "Accept-Encoding: gzip", ours=Seen("HTTP/1.1 200 OK", PACKED, "smaller"), log=False),
    row("/s/packed.css"),
    # routes
    row("/redirect/a/b?c"),
    row("/moved"),
    row("/deny"),
    row("/rewrite/x?y=1"),
    row("/user"),
    row("/auth"),
    row("/auth", "-u", "me:secret"),
    row("/auth", "-u", "me:wrong"),
    row("/static"),
    row("/?x=hit"),
    row("/?x=miss"),
    row("/", "-A", "Bad/1"),
    row("/jump"),
    row("/jump", "-H", "Host: other"),
    row("/fill"),
    row("/kept"),
    row("/going"),
    row("/vars/a.css?a=1&b=two", "-b", "x=1; id=abc"),
    # an action the app asks for: uWSGI dies of those that look for ${...}, and of wrong ones
    row("/asked/return/403"),
    row("/asked/break/403%20Gone"),
    row("/asked/continue/"),
    row("/asked/last/"),
    row("/asked/nothing/x"),
]


def place(home: Path) -> None:
    (home / "www" / "sub").mkdir(parents=True)
    files = {
        "app.py": APP, "mounted.py": APP, "mime": "text/css css\ntext/html html\n", "secret": "secret",
        "www/a.css": "0123456789", "www/index.html": "<index>", "www/sub/b.html": "<b>", "www/x.py": "code",
        "www/noext": "plain",
        "www/packed.css": "packed", "www/packed.css.gz": "smaller",
    }  # fmt: skip
    for name, text in files.items():
        (home / name).write_text(text)
        os.utime(home / name, (1_700_000_000, 1_700_000_000))
    (home / "www" / "link").symlink_to("a.css")
    os.setxattr(home / "www" / "a.css", "user.palatine", b"an attribute")
    (home / "www" / "out").symlink_to("../secret")


class Contestant:
    """One running server; its lines in the log behind the start-up."""

    def __init__(self, programs: Runner, home: Path, *words: str) -> None:
        self.port = free_port()
        options = OPTIONS.format(home=home)
        ini = programs.directory / f"{Path(words[0]).name}.ini"
        ini.write_text(f"[uwsgi]\n{options}\n    http-socket = 127.0.0.1:{self.port}\n")
        self.running: Running = programs.start(*words, "--ini", str(ini))
        wait_until(lambda: self.ask(row("/")).status, "the server", 30)

    def ask(self, one: Row) -> Seen:
        path, *words = one.words
        done = run(
            "curl", "-sSi", "--path-as-is", "-m", "10", *words, f"http://127.0.0.1:{self.port}{path}", check=False
        )
        if done.returncode == 52:
            return NOTHING
        head, _, body = done.stdout.partition("\n\n")
        status, *headers = head.split("\n")
        kept = [line for line in headers if line.partition(":")[0].lower() not in FRAMING]
        return Seen(status, tuple(sorted(re.sub(r"^(Expires:).*", r"\1", line) for line in kept)), body)

    def lines(self, count: int) -> list[str]:
        """The request lines, once there are `count` of them."""

        def found() -> list[str]:
            lines = [line for line in self.running.output().split("\n") if re.match(r"(GET|HEAD|POST) ", line)]
            return lines if len(lines) >= count else []

        return wait_until(found, f"{count} request lines: {self.running.output()[-2000:]}", 30)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[Row, Seen, Seen, str, str]]]:
    """For each row: the real one's answer, ours, and their request lines."""
    directory = tmp_path_factory.mktemp("comparison")
    with runner(directory) as programs:
        home = directory / "home"
        home.mkdir()
        place(home)
        real = Contestant(programs, home, "uwsgi-core", "--plugins", PLUGINS)
        ours = Contestant(programs, home, "palatine-app-server")
        answers = []
        logs: list[list[str]] = []
        for each in (real, ours):
            before = len(each.lines(1))
            answers.append([each.ask(one) for one in ROWS])
            logs.append([re.sub(r"127\.0\.0\.1:\d+", "HOST", line) for line in each.lines(before + len(ROWS))[before:]])
        yield list(zip(ROWS, *answers, *logs, strict=True))


@pytest.mark.parametrize("number", range(len(ROWS)), ids=lambda number: " ".join(ROWS[number].words))
def test_a_client_sees_the_same(both: list[tuple[Row, Seen, Seen, str, str]], number: int) -> None:
    one, real, ours, _, _ = both[number]
    assert ours == (one.ours or real)


@pytest.mark.parametrize("number", range(len(ROWS)), ids=lambda number: " ".join(ROWS[number].words))
def test_the_log_says_the_same(both: list[tuple[Row, Seen, Seen, str, str]], number: int) -> None:
    one, _, _, real, ours = both[number]
    if one.log:
        assert ours == real
    else:
        assert ours.split()[:3] == real.split()[:3]
