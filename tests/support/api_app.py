"""An app that runs what the test asks for: /call?EXPRESSION answers its value, handlers note what they got."""

from functools import partial
from typing import Any
from urllib.parse import quote

from app_server import AppServer
from running import wait_until

#: Answers what each of the calls put in for %r returns or raises; for ours and the real one alike.
PROBE = """
import json, uwsgi
CALLS = %r
def probe(call):
    try:
        return repr(eval(call, {"uwsgi": uwsgi}))
    except Exception as error:
        return type(error).__name__
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({number: [call, probe(call)] for number, call in enumerate(CALLS)}).encode()]
"""

#: `note` appends a line to the file `events` beside the app.
CALLING_APP = """
from urllib.parse import unquote

def note(*words):
    with open(os.path.join(HERE, "events"), "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")

def who():
    if uwsgi.mule_id():
        return f"mule{uwsgi.mule_id()}"
    return "spooler" if uwsgi.i_am_the_spooler() else f"worker{uwsgi.worker_id()}"

def waits_for(name):
    open(os.path.join(HERE, name + ".in"), "a").close()
    while not os.path.exists(os.path.join(HERE, name + ".go")):
        time.sleep(0.01)

def more(environ):
    if environ["PATH_INFO"] == "/call":
        try:
            return repr(eval(unquote(environ["QUERY_STRING"]))).encode()
        except Exception as error:
            return f"{type(error).__name__}: {error}".encode()
"""


def call(server: AppServer, expression: str) -> Any:
    """What `expression` is worth in a worker."""
    answer = server.get(f"/call?{quote(expression)}").decode()
    try:
        return eval(answer)
    except (SyntaxError, NameError):
        return answer


def events(server: AppServer) -> list[str]:
    """What handlers noted, in order."""
    path = server.home / "events"
    return path.read_text().splitlines() if path.exists() else []


def wait_event(server: AppServer, line: str, count: int = 1) -> None:
    """Wait until `line` was noted `count` times."""

    def noted(line: str, count: int) -> bool:
        return events(server).count(line) >= count

    wait_until(partial(noted, line, count), f"{count} times {line!r} in {events(server)}", 30)
