"""`stats-vars = full` and `--connect-and-read` through the real app-server and exporter."""

import json
import socket
from typing import Any

import pytest

from running import Runner, free_port, run, wait_until
from terminal import shows

pytestmark = pytest.mark.interop

APP = """\
import socket
def application(environ, start_response):
    with socket.create_connection(("127.0.0.1", int(environ["PATH_INFO"][1:]))) as held:
        held.recv(1)
    start_response("200 OK", [])
    return [b"done"]
"""
HEADERS = ("-H", "Cookie: id=s3cret", "-H", "Authorization: Bearer s3cret", "-H", "X-Api-Key: s3cret", "-H", "X-A: b")


def read_stats(address: str) -> dict[str, Any]:
    """What `palatine --connect-and-read` prints."""
    found: dict[str, Any] = json.loads(run("palatine", "--connect-and-read", address, seconds=40).stdout)
    return found


@pytest.mark.parametrize("kind", ["tcp", "unix", "abstract"])
def test_all_variables_but_no_secret(kind: str, programs: Runner) -> None:
    http, tcp = free_port(), free_port()
    stats = {"tcp": f"127.0.0.1:{tcp}", "unix": str(programs.runtime / "s"), "abstract": f"@palatine-vars-{tcp}"}[kind]
    (programs.directory / "app.py").write_text(APP)
    words = ["--http-socket", f"127.0.0.1:{http}", "--wsgi-file", "app.py", "--master", "--stats", stats]
    programs.start("palatine-app-server", *words, "--stats-vars", "full").wait_for("Stats server enabled")
    programs.start("palatine-stats-exporter").wait_for("instance.serving", 30)
    with socket.create_server(("127.0.0.1", 0)) as gate:
        gate.settimeout(30)
        url = f"http://127.0.0.1:{http}/{gate.getsockname()[1]}?token=s3cret&page=2"
        client = programs.start("curl", "-sS", *HEADERS, url)
        held, _ = gate.accept()
        with held:
            core = wait_until(lambda: read_stats(stats), "stats", 30)["workers"][0]["cores"][0]
            assert core["in_request"] == 1
            shown = dict(variable.partition("=")[::2] for variable in core["vars"][:-1])
            assert core["vars"][-1] == ""
            assert "s3cret" not in str(core)
            assert shown["QUERY_STRING"] == "token=***&page=2"
            assert shown["REQUEST_METHOD"] == "GET"
            assert (shown["HTTP_COOKIE"], shown["HTTP_AUTHORIZATION"], shown["HTTP_X_API_KEY"]) == ("***", "***", "***")
            assert shown["HTTP_X_A"] == "b"
            assert "SERVER_PROTOCOL" in shown
        assert client.wait(30) == 0
    assert wait_until(lambda: read_stats(stats)["workers"][0]["cores"][0]["vars"] == [], "rest", 30)
    shows(("uwsgitop", stats), r"uwsgi-2\.0\.31", r"req: 1\b")  # by its @ mode too, which real uWSGI refuses


def test_nobody_there_is_an_error(programs: Runner) -> None:
    done = run("palatine", "--connect-and-read", f"127.0.0.1:{free_port()}", check=False, cwd=programs.directory)
    assert done.returncode == 69
    assert "refused" in done.stderr


def test_another_word_is_refused_by_name(programs: Runner) -> None:
    done = run("palatine-app-server", "--stats-vars", "all", "--http-socket", ":0", check=False, cwd=programs.directory)
    assert done.returncode == 78
    assert "stats-vars takes full or request" in done.stderr
