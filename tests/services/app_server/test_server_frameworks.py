"""Frameworks as their users run them: Flask, Bottle, Werkzeug's own test app, Django with settings of its own."""

import json
import re
import signal
import sys
import urllib.parse
from functools import partial
from pathlib import Path

import pytest

from app_server import AppServer
from running import Runner, get, run, wait_until

pytestmark = pytest.mark.interop

FLASK = """
import os
from flask import Flask, Response, abort, jsonify, redirect, request, send_file, session, stream_with_context

application = app = Flask(__name__)
app.secret_key = "for the test"

@app.get("/")
def index():
    return "Hello, Flask!"

@app.post("/form")
def form():
    return jsonify(form=request.form.to_dict(), args=request.args.to_dict(), scheme=request.scheme)

@app.post("/upload")
def upload():
    given = request.files["file"]
    return jsonify(name=given.filename, size=len(given.read()), kind=given.content_type)

@app.get("/stream")
def stream():
    return Response(stream_with_context(f"{number}\\n" for number in range(1000)), mimetype="text/plain")

@app.get("/file")
def file():
    return send_file(os.path.abspath(__file__), mimetype="text/x-python")

@app.get("/count")
def count():
    session["count"] = session.get("count", 0) + 1
    return str(session["count"])

@app.get("/away")
def away():
    return redirect("/", 303)

@app.get("/broken")
def broken():
    raise RuntimeError("the view is broken")

@app.get("/gone")
def gone():
    abort(410)

@app.get("/u/<path:what>")
def unicode(what):
    return what
"""

DJANGO = """
import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    DEBUG=False, SECRET_KEY="for the test", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.http.ConditionalGetMiddleware",
                "django.middleware.gzip.GZipMiddleware"],
)

def index(request):
    return HttpResponse("Hello, Django! " * 30)

def form(request):
    return JsonResponse({"post": request.POST.dict(), "get": request.GET.dict(), "uri": request.build_absolute_uri()})

def stream(request):
    return StreamingHttpResponse((f"{number}\\n" for number in range(1000)), content_type="text/plain")

def file(request):
    return FileResponse(open(__file__, "rb"))

def broken(request):
    raise RuntimeError("the view is broken")

def named(request, what):
    return HttpResponse(what)

urlpatterns = [path("", index), path("form", form), path("stream", stream), path("file", file), path("broken", broken),
               path("u/<path:what>", named)]
application = get_wsgi_application()
"""


def serve(programs: Runner, source: str, *words: str, processes: int = 2) -> tuple[AppServer, str]:
    home = programs.directory / "app"
    home.mkdir()
    (home / "app.py").write_text(source)
    server = AppServer(programs, *words, processes=processes, threads=2)
    host, port = server.address()
    return server, f"http://{host}:{port}"


def curl(*words: str, cwd: Path | None = None) -> str:
    return run("curl", "-sS", "-m", "10", *words, cwd=cwd).stdout


def test_flask(programs: Runner) -> None:
    server, url = serve(programs, FLASK)
    assert get(f"{url}/") == "Hello, Flask!"
    posted = json.loads(curl("-d", "a=1&b=%C3%A4", f"{url}/form?c=d"))
    assert posted == {"form": {"a": "1", "b": "ä"}, "args": {"c": "d"}, "scheme": "http"}
    large = programs.directory / "large"
    large.write_bytes(b"x" * 3_000_000)
    for extra in ([], ["-H", "Transfer-Encoding: chunked"]):
        sent = json.loads(curl(*extra, "-F", f"file=@{large};type=x/y", f"{url}/upload"))
        assert sent == {"name": "large", "size": 3_000_000, "kind": "x/y"}
    assert get(f"{url}/stream").splitlines() == [str(number) for number in range(1000)]
    assert get(f"{url}/file") == (server.home / "app.py").read_text()
    partial = curl("-i", "-r", "0-9", f"{url}/file")
    assert "206 PARTIAL CONTENT" in partial
    assert partial.endswith((server.home / "app.py").read_text()[:10])
    head = curl("-I", f"{url}/file")
    assert f"Content-Length: {(server.home / 'app.py').stat().st_size}" in head
    cookies = str(programs.directory / "cookies")
    assert [curl("-c", cookies, "-b", cookies, f"{url}/count") for _ in range(3)] == ["1", "2", "3"]
    assert curl("-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", f"{url}/away") == f"303 {url}/"
    assert "500" in curl("-i", f"{url}/broken").splitlines()[0]
    server.running.wait_for("RuntimeError: the view is broken")
    assert "410" in curl("-i", f"{url}/gone").splitlines()[0]
    assert get(f"{url}/u/{urllib.parse.quote('grüße/ß')}") == "grüße/ß"
    assert "404" in curl("-i", f"{url}/nowhere").splitlines()[0]
    assert "405" in curl("-i", "-X", "DELETE", f"{url}/form").splitlines()[0]


def test_flask_under_load_and_reload(programs: Runner) -> None:
    server, url = serve(programs, FLASK, "--disable-logging")
    load = programs.start("wrk", "-t1", "-c8", "-d3s", f"{url}/stream")
    for _ in range(2):
        generation = server.generation()
        server.running.send(signal.SIGHUP)
        wait_until(partial(reloaded, server, generation), "the reload")
    assert load.wait(15) == 0
    assert "Socket errors" not in load.output(), load.output()
    assert "Non-2xx" not in load.output(), load.output()
    assert re.search(r"[1-9]\d* requests in", load.output())


def reloaded(server: AppServer, generation: int) -> bool:
    return server.generation() > generation and server.state() == "ready"


def test_werkzeugs_test_app(programs: Runner) -> None:
    server, url = serve(programs, "from werkzeug.testapp import test_app as application\n")
    page = get(f"{url}/?x=<script>")
    assert "<h1>WSGI Information</h1>" in page
    for shown in ("wsgi.multithread", "wsgi.multiprocess", "uwsgi.version", "REQUEST_URI", "palatine"):
        assert shown in page, shown
    assert curl("-i", f"{url}/?resource=logo").startswith("HTTP/1.1 200 OK")
    assert server.running.output().count("GET /?x=<script>") == 1


BOTTLE = """
import bottle

@bottle.route("/hello/<name>")
def hello(name):
    return bottle.template("<b>{{name}}</b>", name=name)

@bottle.post("/form")
def form():
    return {"a": bottle.request.forms.a, "size": len(bottle.request.files.file.file.read())}

@bottle.route("/file")
def file():
    return bottle.static_file("app.py", root=".", mimetype="text/x-python")

@bottle.route("/stream")
def stream():
    yield from (f"{number}\\n" for number in range(1000))

@bottle.route("/away")
def away():
    bottle.redirect("/file")

@bottle.route("/broken")
def broken():
    raise RuntimeError("the route is broken")

application = bottle.default_app()
"""


def test_bottle(programs: Runner) -> None:
    server, url = serve(programs, BOTTLE)
    source = (server.home / "app.py").read_text()
    assert get(f"{url}/hello/%3Cyou%3E") == "<b>&lt;you&gt;</b>"
    assert json.loads(curl("-F", "a=ä", "-F", "file=@app.py", f"{url}/form", cwd=server.home)) == {
        "a": "ä",
        "size": len(source.encode()),
    }
    assert get(f"{url}/file") == source
    assert f"Content-Length: {len(source.encode())}" in curl("-I", f"{url}/file")
    assert get(f"{url}/stream").splitlines() == [str(number) for number in range(1000)]
    assert curl("-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", f"{url}/away") == f"303 {url}/file"
    assert "500" in curl("-i", f"{url}/broken").splitlines()[0]
    server.running.wait_for("RuntimeError: the route is broken")
    assert "404" in curl("-i", f"{url}/nowhere").splitlines()[0]


def test_django(programs: Runner) -> None:
    server, url = serve(programs, DJANGO)
    assert get(f"{url}/").startswith("Hello, Django!")
    posted = json.loads(curl("-d", "a=1&b=%C3%A4", f"{url}/form?c=d"))
    assert posted == {"post": {"a": "1", "b": "ä"}, "get": {"c": "d"}, "uri": f"{url}/form?c=d"}
    assert get(f"{url}/stream").splitlines() == [str(number) for number in range(1000)]
    assert get(f"{url}/stream", "--compressed").splitlines()[-1] == "999"
    assert get(f"{url}/file") == (server.home / "app.py").read_text()
    compressed = curl("-i", "--compressed", f"{url}/")
    assert "Content-Encoding: gzip" in compressed
    assert compressed.endswith("Hello, Django! ")
    etag = re.search(r"ETag: (\S+)", curl("-i", f"{url}/"))
    assert etag
    assert "304 Not Modified" in curl("-i", "-H", f"If-None-Match: {etag[1]}", f"{url}/")
    assert "500" in curl("-i", f"{url}/broken").splitlines()[0]
    assert get(f"{url}/u/{urllib.parse.quote('grüße/ß')}") == "grüße/ß"
    assert "400" in curl("-i", "-H", "Host: elsewhere", f"{url}/").splitlines()[0]
    assert "400" in curl("-i", "--request-target", f"http://elsewhere:{1}/", f"{url}/").splitlines()[0]


def test_a_virtualenv_and_a_factory(programs: Runner) -> None:
    """`home` and `module = package.module:factory()`: the app's packages come before ours."""
    environment = programs.directory / "venv"
    packages = environment / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "shop").mkdir()
    (packages / "shop" / "__init__.py").write_text("")
    (packages / "shop" / "web.py").write_text(
        "import json, sys\ndef create():\n    def app(environ, start_response):\n"
        "        start_response('200 OK', [])\n        return [json.dumps([sys.prefix]).encode()]\n    return app\n"
    )
    (packages / "structlog.py").write_text("OURS = False\n")
    app = "import structlog; assert not structlog.OURS\nfrom shop.web import create\napplication = create()\n"
    server, url = serve(programs, app, "--home", str(environment), processes=1)
    assert json.loads(get(f"{url}/"))[0] == str(environment)
    assert server.running.stop() == 0
