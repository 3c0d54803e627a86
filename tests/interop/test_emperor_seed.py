"""Seed 003: its four vassals, its glob and its zmq script, under `palatine --emperor`, beside real uWSGI."""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from running import Runner, Running, free_port, get, import_path, parent_of, program, run, wait_until

pytestmark = [pytest.mark.interop, pytest.mark.root, pytest.mark.alone("seed-000-003")]

VASSALS = Path(__file__).parents[2] / "deploy" / "examples" / "vassals"
PORTS = {"werkzeug.xml": 3031, "trac.ini": 3032, "django.ini": 3034}
OPT = Path("/opt")
MADE = [OPT / "project001", OPT / "railsapp001", OPT / "djangoapp001"]
DJANGO = {
    "__init__.py": "",
    "settings.py": "SECRET_KEY = 'test'\nROOT_URLCONF = 'myapp.urls'\nALLOWED_HOSTS = ['*']\nUSE_TZ = True\n",
    "urls.py": (
        "from django.http import HttpResponse\nfrom django.urls import path\n\n"
        "urlpatterns = [path('', lambda request: HttpResponse('django works'))]\n"
    ),
}
NGINX = """
daemon off; worker_processes 1; pid {0}/nginx.pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {0}/b; uwsgi_temp_path {0}/u; proxy_temp_path {0}/p;
    fastcgi_temp_path {0}/f; scgi_temp_path {0}/s;
    {1}
}}
"""
SERVER = (
    "server {{ listen 127.0.0.1:{0}; location / {{ include /etc/nginx/uwsgi_params; uwsgi_pass 127.0.0.1:{1}; }} }}"
)


@pytest.fixture(scope="module", autouse=True)
def opt() -> Iterator[None]:
    """The paths the configs name: a Trac environment, a Django project, and what would be a Rails app."""
    assert not any(path.exists() for path in MADE), f"will not touch what is there: {MADE}"
    try:
        subprocess.run(
            [program("trac-admin"), str(MADE[0]), "initenv", "project001", "sqlite:db/trac.db"],
            check=True, capture_output=True, env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip
        MADE[1].mkdir()
        (MADE[2] / "myapp").mkdir(parents=True)
        for name, text in DJANGO.items():
            (MADE[2] / "myapp" / name).write_text(text)
        yield
    finally:
        for path in MADE:
            shutil.rmtree(path, ignore_errors=True)


def nginx(programs: Runner) -> dict[str, str]:
    """URLs by vassal, each through nginx's uwsgi_pass."""
    directory = programs.directory / "nginx"
    directory.mkdir()
    fronts = {name: free_port() for name in PORTS}
    servers = "\n    ".join(SERVER.format(fronts[name], port) for name, port in PORTS.items())
    (directory / "nginx.conf").write_text(NGINX.format(directory, servers))
    programs.start("nginx", "-p", str(directory), "-c", str(directory / "nginx.conf"))
    return {name: f"http://127.0.0.1:{port}/" for name, port in fronts.items()}


def status(url: str) -> int:
    return int(run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-m", "10", url).stdout)


def answers(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(2)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def real_statuses(programs: Runner, urls: dict[str, str]) -> dict[str, int]:
    """What each vassal answers under real uWSGI with the same config and the same framework."""
    found = {}
    for name in PORTS:
        config = str(VASSALS / name)
        flag = "--xml" if name.endswith(".xml") else "--ini"
        server = programs.start(
            "uwsgi-core", "--plugin", "python3", flag, config, environ={"PYTHONPATH": import_path()}
        )
        wait_until(lambda server=server: "spawned uWSGI worker 1" in server.output(), f"uWSGI with {name}", 20)
        found[name] = status(urls[name])
        assert server.stop(signal.SIGINT) == 0
    return found


def emperor(programs: Runner, *words: str, cwd: Path) -> Running:
    return programs.start("palatine", *words, cwd=cwd)


def test_the_four_vassals(programs: Runner) -> None:
    court = programs.directory / "vassals"
    shutil.copytree(VASSALS, court)
    urls = nginx(programs)
    expected = real_statuses(programs, urls)
    print(f"under real uWSGI: {expected}")
    assert expected["werkzeug.xml"] == 200

    ruler = emperor(programs, "--emperor", str(court), cwd=programs.directory)
    for name, port in PORTS.items():
        wait_until(lambda port=port: answers(port), f"{name}:\n{ruler.output()[-3000:]}", 20)
    for name, url in urls.items():
        wait_until(lambda name=name, url=url: status(url) == expected[name], f"{name} to answer {expected[name]}", 20)
    assert "Werkzeug" in get(urls["werkzeug.xml"])

    refusal = ruler.wait_for("rails.yml", 10)
    assert re.search(r"rails\.yml.*rack", refusal), refusal
    assert not answers(3033)

    # touch reloads: same master, other workers, and nobody else is disturbed
    before, neighbour = master_of(3031), master_of(3032)
    mark = len(ruler.output())
    stamp = (court / "werkzeug.xml").stat().st_mtime + 2
    os.utime(court / "werkzeug.xml", (stamp, stamp))
    wait_until(lambda: "[emperor] reload the uwsgi instance werkzeug.xml" in ruler.output()[mark:], "the reload", 10)
    wait_until(lambda: ruler.output()[mark:].count("spawned uWSGI worker") >= 4, "four new workers", 10)
    wait_until(lambda: status(urls["werkzeug.xml"]) == 200, "the reloaded vassal")
    assert master_of(3031) == before
    assert master_of(3032) == neighbour

    # rm stops
    (court / "werkzeug.xml").unlink()
    wait_until(lambda: not answers(3031), "the removed vassal's end", 15)
    assert master_of(3032) == neighbour
    assert ruler.stop(signal.SIGINT, 40) == 0
    wait_until(lambda: not any(answers(port) for port in PORTS.values()), "the vassals' end")


def master_of(port: int) -> int:
    """Of the processes that hold the listener, the one the others descend from."""
    listing = run("ss", "-H", "-ltnp", "sport", "=", f":{port}").stdout
    holders = {int(pid) for pid in re.findall(r"pid=(\d+)", listing)}
    (master,) = (pid for pid in holders if parent_of(pid) not in holders)
    return master


def test_a_glob_finds_two_domains(programs: Runner) -> None:
    ports = {}
    for domain in ("one.example", "two.example"):
        conf = programs.directory / "domains" / domain / "conf"
        conf.mkdir(parents=True)
        ports[domain] = free_port()
        (conf / "uwsgi.xml").write_text(
            f"<uwsgi><http-socket>127.0.0.1:{ports[domain]}</http-socket>"
            "<module>werkzeug.testapp:test_app</module><master/></uwsgi>"
        )
    ruler = emperor(programs, "--emperor", "domains/*/conf/uwsgi.xml", cwd=programs.directory)
    for domain, port in ports.items():
        wait_until(lambda port=port: "Werkzeug" in get(f"http://127.0.0.1:{port}/"), f"{domain}: {ruler.output()}", 20)


def test_the_zmq_script(programs: Runner) -> None:
    """The seed's script, its strings as the bytes pyzmq wants today."""
    home = programs.directory / "home"
    home.mkdir()
    file_port = free_port()
    (home / "file.ini").write_text(
        f"[uwsgi]\nhttp-socket = 127.0.0.1:{file_port}\nmodule = werkzeug.testapp:test_app\nmaster = true\n"
    )
    ruler = emperor(programs, "--plugin", "emperor_zeromq", "--emperor", "zmq://tcp://127.0.0.1:5252", cwd=home)
    wait_until(lambda: answers(5252), f"the emperor: {ruler.output()}", 15)

    c = zmq.Context()
    s = zmq.Socket(c, zmq.PUSH)
    s.connect("tcp://127.0.0.1:5252")
    try:
        s.send_multipart([b"touch", b"foo.ini", b"[uwsgi]\nsocket=:4142"])
        wait_until(lambda: answers(4142), f"foo.ini: {ruler.output()}", 15)
        master = master_of(4142)
        wait_until(lambda: "[emperor] vassal foo.ini is ready to accept requests" in ruler.output(), "ready", 10)

        mark = len(ruler.output())
        s.send_multipart([b"touch", b"foo.ini", b"[uwsgi]\nsocket=:4142\nprocesses=2"])
        wait_until(lambda: "[emperor] reload the uwsgi instance foo.ini" in ruler.output()[mark:], "the reload", 10)
        wait_until(lambda: "spawned uWSGI worker" in ruler.output()[mark:], f"the reload: {ruler.output()[mark:]}", 15)
        assert answers(4142)
        assert master_of(4142) == master

        s.send_multipart([b"touch", b"file.ini"])
        wait_until(lambda: "Werkzeug" in get(f"http://127.0.0.1:{file_port}/"), "the file in its directory", 15)

        s.send_multipart([b"destroy", b"foo.ini"])
        wait_until(lambda: not answers(4142), "its end", 15)
        assert "Werkzeug" in get(f"http://127.0.0.1:{file_port}/")
    finally:
        s.close(0)
        c.term()
