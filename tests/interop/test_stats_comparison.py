"""The stats documents of the real uWSGI and of ours, for one config in which everything is used that shows in them."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from running import Runner, free_port, get, runner, wait_until

pytestmark = pytest.mark.interop

APP = "def application(environ, start):\n    start('200 OK', [('Content-Length', '2')])\n    return [b'ok']\n"
CONFIG = """[uwsgi]
master = true
processes = 2
threads = 2
cheaper = 1
http-socket = 127.0.0.1:{http}
socket = {home}/uwsgi.sock
socket = 127.0.0.1:0
wsgi-file = {home}/app.py
mount = /other={home}/app.py
manage-script-name = true
locks = 2
cache2 = name=first,items=20,blocksize=100,keysize=64
cache2 = name=second,items=10,hash=murmur2
queue = 10
sharedarea = 2
sharedarea = 1
spooler = {home}/spool
mules = 2
farm = both:1,2
cron = 5 -1 -1 -1 -1 true
cron = -10 3 1 2 0 echo hi
unique-cron = 0 0 -1 -1 -1 true
cron2 = minute=7,unique=1 true
enable-metrics = true
metric = name=mine,type=gauge,initial_value=7
metric = other
metric = name=summed,oid=100.1,type=counter,collector=sum,children=worker.1.requests;worker.2.requests
metric = name=core.total_x,type=absolute
snmp = 127.0.0.1:0
snmp-community = public
attach-daemon = sleep 600
memory-report = true
stats = 127.0.0.1:{stats}
stats-http = true
"""
#: What no two runs have in common, or depends on which core was faster. `legion` is there in builds of uWSGI with SSL.
VOLATILE = re.compile(
    r"pid|uid|gid|rss|vsz|version|legion|running_time|avg_rt|last_spawn|startup_time|last_modified_at"
    r"|.*(rss|vsz)(_size)?|.*(running|response)_time|worker\.\d\.core\.\d\.requests"
)


def same(value: Any, home: str, key: str = "", *, volatile: bool = False) -> Any:
    """A document with what is volatile blanked, objects as lists of pairs, so that their order counts."""
    if isinstance(value, dict):
        volatile = bool(VOLATILE.fullmatch(key))  # a metric: its `value`
        pairs = [
            (name.replace(home, "HOME"), same(item, home, name, volatile=volatile and name == "value"))
            for name, item in value.items()
        ]
        return [pair for pair in pairs if pair[0] != "legion"]
    if isinstance(value, list):
        return [same(item, home) for item in value]
    if volatile or VOLATILE.fullmatch(key):
        return type(value).__name__
    return re.sub(r"127\.0\.0\.1:\d+", "PORT", value.replace(home, "HOME")) if isinstance(value, str) else value


def document(programs: Runner, home: Path, program: str, *words: str) -> Any:
    """What its stats say after one request, when everything runs."""
    http, stats = free_port(), free_port()
    (home / "spool").mkdir(parents=True)
    (home / "app.py").write_text(APP)
    (home / "config.ini").write_text(CONFIG.format(home=home, http=http, stats=stats))
    programs.start(program, *words, str(home / "config.ini"), cwd=home)

    def settled() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(get(f"http://127.0.0.1:{stats}/"))
        assert found["spoolers"][0]["pid"] > 0
        assert found["daemons"][0]["pid"] > 0
        assert found["metrics"]["summed"]["value"] == found["workers"][0]["requests"] == 1
        assert [worker["status"] for worker in found["workers"]] == ["idle", "cheap"]
        return found

    wait_until(lambda: get(f"http://127.0.0.1:{http}/"), f"{program}'s answer", 60)
    found = wait_until(settled, f"{program}'s stats", 60)
    for worker in found["workers"]:
        worker["cores"] = [{**core, "requests": 0} for core in worker["cores"]]  # either core may have served it
    found["sockets"][1]["max_queue"] = 0  # uWSGI knows nothing of UNIX sockets' queues
    return same(found, str(home))


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    home = tmp_path_factory.mktemp("documents")
    uwsgi = os.environ.get("PALATINE_TEST_UWSGI")
    with runner(home) as programs:
        programs.start("palatine-stats-exporter").wait_for("daemon.ready", 60)
        real = document(programs, home / "real", *([uwsgi] if uwsgi else ["uwsgi-core", "--plugins", "python3"]))
        yield real, document(programs, home / "ours", "palatine-app-server")


def test_a_rich_config_gives_the_same_document_key_for_key_and_in_order(documents: tuple[Any, Any]) -> None:
    real, ours = documents
    assert [key for key, _ in ours] == [key for key, _ in real]
    for (key, mine), (_, theirs) in zip(ours, real, strict=True):
        assert mine == theirs, key


def test_zabbix_gets_the_same_template(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    written = []
    words = ["--master", "--wsgi-file", "app.py", "--processes", "2", "--threads", "2", "--metric", "mine"]
    with runner(tmp_path) as programs:
        for program in (["uwsgi-core", "--plugins", "python3,zabbix"], ["palatine-app-server"]):
            path = tmp_path / f"{program[0]}.xml"
            options = ["--http-socket", "127.0.0.1:0", f"--zabbix-template={path}"]
            path.touch()  # uWSGI wants it there
            programs.start(*program, *words, *options).wait_for("zabbix template written to", 60)
            written.append(path.read_text())
    assert written[0] == written[1]
    assert "<key>worker.2.core.1.requests</key>" in written[0]
