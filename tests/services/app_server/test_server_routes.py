"""Routes of a running instance: answers without the app, changed requests and responses, passwords, effects."""

import base64
import hashlib

from app_server import AppServer
from running import Runner, get, run

ROUTED_APP = """
import json
def more(environ):
    if environ["PATH_INFO"].startswith("/environ"):
        return json.dumps({k: v for k, v in environ.items() if isinstance(v, str)}).encode()
plain = application
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/missing"):
        if path.endswith("lazy"):
            return lazy(start_response)
        start_response("404 Not Found", [("X-App", "1")])
        return [b"the app's"]
    if path == "/raise":
        raise ValueError
    return plain(environ, start_response)
def lazy(start_response):
    start_response("404 Not Found", [("X-App", "1")])
    yield b"the app's"
    yield b" own"
"""


def url(server: AppServer, path: str, user: str = "") -> str:
    host, port = server.address()
    return f"http://{user}{host}:{port}{path}"


def words(text: str) -> list[str]:
    """Lines of a config as words of a command line."""
    return [
        f"--{name.strip()}={value.strip()}"
        for name, _, value in (line.partition("=") for line in text.split("\n"))
        if name.strip()
    ]


def code(server: AppServer, path: str, *options: str) -> str:
    return run("curl", "-sS", "-o/dev/null", "-w%{http_code}", *options, url(server, path)).stdout


def test_requests_and_responses(programs: Runner) -> None:
    page = programs.directory / "page.html"
    page.write_text("<a page>")
    www = programs.directory / "www"
    www.mkdir()
    (www / "a.css").write_text("css")
    (programs.directory / "mime").write_text("text/css css\ntext/html html\n")
    server = AppServer(
        programs,
        *words(f"""
            mimefile = {programs.directory}/mime
            static-map = /s={www}
            route = ^/s/ addheader:X-Static: yes
            route = ^/old/(.*) redirect:/new/$1?u=${{HTTP_HOST}}
            route = ^/moved redirect-301:/
            route-if = equal:${{qs[deny]}};1 break:403 Forbidden
            route = ^/gone return:410
            route = ^/silent break:
            route = ^/rw/(.*) rewrite:/environ/$1?more=1
            route = ^/page file:filename={page},status=503 Down
            route = ^/st static:{page}
            route = ^/environ/user setuser:me
            route = ^/environ addvar:MINE=${{cookie[id]}}
            route-host = ^skip goto:end
            route-run = logvar:who=${{REMOTE_ADDR}}
            route = ^/raw send-crnl:HTTP/1.0 299 Mine
            route = ^/raw send-crnl:
            route = ^/raw break:
            route-label = end
            route = ^/environ log:seen ${{PATH_INFO}}
            error-route-status = 404 redirect:/not-here
            response-route-status = 200 addheader:X-Two: 00
            response-route-run = delheader:Content-Type
            final-route-status = 404 log:final 404
            final-route-status = 302 log:final 302
            final-route-if = startswith:${{PATH_INFO}};/quiet donotlog:
            log-format = %(uri) %(status) %(who) %(user)
        """),
        app=ROUTED_APP,
    )  # fmt: skip
    assert get(url(server, "/")) == "ok"
    seen = run("curl", "-sSi", url(server, "/old/a%20b?x")).stdout
    host, port = server.address()
    assert seen.startswith("HTTP/1.1 302 Found\n")
    assert f"Location: /new/a b?u={host}:{port}\n" in seen
    assert seen.endswith("\n\nMoved")
    assert code(server, "/moved") == "301"
    assert code(server, "/?deny=1") == "403"
    assert run("curl", "-sS", url(server, "/gone")).stdout == "Gone"
    silent = run("curl", "-sS", url(server, "/silent"), check=False)
    assert silent.returncode == 52
    assert '"QUERY_STRING": "more=1&x=2"' in get(url(server, "/rw/a?x=2"))
    assert '"REMOTE_USER": "me"' in get(url(server, "/environ/user"))
    assert '"MINE": "abc"' in get(url(server, "/environ"), "-b", "id=abc")
    page_seen = run("curl", "-sSi", url(server, "/page")).stdout
    assert page_seen.startswith("HTTP/1.1 503 Down\n")
    assert page_seen.endswith("<a page>")
    assert get(url(server, "/st")) == "<a page>"
    assert run("curl", "-sS", url(server, "/raw"), "-w%{http_code}").stdout == "299"
    two = run("curl", "-sSi", url(server, "/")).stdout
    assert "X-Two: 00\n" in two
    assert "Content-Type" not in two
    assert "X-Static: yes\n" in run("curl", "-sSi", url(server, "/s/a.css")).stdout
    for path in ("/missing", "/missing/lazy"):
        missing = run("curl", "-sSi", url(server, path)).stdout
        assert missing.startswith("HTTP/1.1 302 Found\nLocation: /not-here\n"), missing
        assert missing.endswith("\n\nMoved")
    assert code(server, "/raise") == "500"
    get(url(server, "/quiet"))
    get(url(server, "/last"), "-H", "Host: skip")
    output = server.running.wait_for("/last 200 - -")
    assert "/environ/user 200 127.0.0.1 me\n" in output
    assert "seen /environ/user\n" in output
    assert output.count("final 302\n") == 3
    assert "/quiet" not in output
    assert sum(row["routed_requests"] for row in server.read("cores")) == 8


def test_passwords(programs: Runner) -> None:
    digest = base64.b64encode(hashlib.sha1(b"sha").digest()).decode()
    crypted = run("openssl", "passwd", "-6", "-salt", "abc", "six").stdout.strip()
    (programs.directory / "users").write_text(f"one:{{SHA}}{digest}\ntwo:{crypted}\n")
    server = AppServer(
        programs,
        *words(f"""
            route = ^/file basicauth:Realm,{programs.directory}/users
            route = ^/both basicauth-next:Realm,a:b
            route = ^/ basicauth:Other,me:secret
        """),
        app=ROUTED_APP,
    )  # fmt: skip
    assert code(server, "/") == "401"
    assert 'WWW-Authenticate: Basic realm="Realm"' in run("curl", "-sSi", url(server, "/file")).stdout
    for path, user, status in (
        ("/", "me:secret", "200"), ("/", "me:secre", "401"), ("/", "m:esecret", "401"), ("/file", "one:sha", "200"),
        ("/file", "two:six", "200"), ("/file", "two:seven", "401"), ("/file", "three:x", "401"),
        ("/both", "a:b", "200"), ("/both", "me:secret", "200"), ("/both", "x:y", "401"),
    ):  # fmt: skip
        assert code(server, path, "-u", user) == status, (path, user)
    assert code(server, "/", "-H", "Authorization: Basic !!!") == "401"
    assert code(server, "/", "-H", "Authorization: Bearer x") == "401"


def test_a_wrong_route_is_one_line(programs: Runner) -> None:
    ini = programs.directory / "my.ini"
    ini.write_text("[uwsgi]\nhttp-socket = 127.0.0.1:0\nroute = ^/ redis:127.0.0.1:1\n")
    refused = run("palatine-app-server", str(ini), check=False)
    assert refused.returncode == 78
    assert 'my.ini:3:1: unable to register route: there is no action "redis" here' in refused.stderr
    assert "Traceback" not in refused.stderr
