"""uWSGI's pushers, asked for by an app's config: what arrives, beside what the real uwsgi sends for the same words."""

import contextlib
import json
import re
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app_server import AppServer
from mongo import MongoStandIn
from running import Runner, run, runner, wait_until

pytestmark = pytest.mark.interop


class Datagrams:
    """What a UDP port got."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(30)
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"

    def round(self) -> list[bytes]:
        """The next whole round of datagrams."""
        while b"routed_signals" not in (first := self.socket.recv(65536)) or b"unrouted" in first:
            pass
        found = [first]
        while b"core.routed_signals" not in (one := self.socket.recv(65536)):
            found.append(one)
        return found

    def drain(self) -> None:
        """Forget what has come."""
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self.socket.recv(65536):
                pass
        self.socket.settimeout(30)

    def close(self) -> None:
        self.socket.close()


class Conversations:
    """A TCP server that keeps what each connection sent, and answers it."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.heard: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(20)
                heard = b""
                while data := connection.recv(65536):
                    heard += data
                    if (answer := self._answer(heard)) is not None:
                        connection.sendall(answer)
                        break
                self.heard.append(heard)


class Side:
    """An app with every pusher, and what receives."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.statsd, self.socket = Datagrams(), Datagrams()
        self.carbon, self.zabbix = Conversations(lambda _: None), Conversations(zabbix_answer)
        for one in (self.statsd, self.socket, self.carbon, self.zabbix):
            stack.callback(one.close)

    def words(self) -> tuple[str, ...]:
        return (
            "--stats-push", f"statsd:{self.statsd.address},myinst", "--stats-push", f"socket:{self.socket.address}",
            "--stats-push", f"zabbix:{self.zabbix.address},z", "--stats-pusher-default-freq", "1",
            "--carbon", self.carbon.address, "--carbon-freq", "1", "--carbon-id", "my.app",
            "--carbon-hostname-dots", "_", "--carbon-root", "root",
        )  # fmt: skip


class Both:
    """palatine and the real uwsgi with the same words: two workers of two threads each."""

    def __init__(self, programs: Runner, stack: contextlib.ExitStack) -> None:
        self.ours, self.theirs = Side(stack), Side(stack)
        self.rrd = programs.directory / "rrd"
        self.rrd.mkdir()
        self.mongo = MongoStandIn()
        stack.callback(self.mongo.close)
        self.app = AppServer(
            programs, *self.ours.words(),
            "--stats-push", f"mongodb:addr={self.mongo.address},collection=shop.stats",
            "--stats-push", "file:path=stats.log,freq=1,separator=--end--",
            "--rrdtool", str(self.rrd), "--rrdtool-freq", "1", processes=2, threads=2,
        )  # fmt: skip
        plugins = "python3,stats_pusher_statsd,stats_pusher_socket,zabbix,carbon"
        programs.start(
            "uwsgi-core", "--plugins", plugins, "--master", "--processes", "2", "--threads", "2",
            "--http-socket", "127.0.0.1:0", "--wsgi-file", str(self.app.home / "app.py"), *self.theirs.words(),
        )  # fmt: skip
        self.exporter = programs.start("palatine-stats-exporter")
        assert self.app.get() == b"ok"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with contextlib.ExitStack() as stack:
        programs = stack.enter_context(runner(tmp_path_factory.mktemp("push")))
        yield Both(programs, stack)


def test_statsd_gets_the_real_datagrams(both: Both) -> None:
    value = re.compile(rb"(?<=:)\d+")
    ours, theirs = (sorted(value.sub(b"N", one) for one in side.statsd.round()) for side in (both.ours, both.theirs))
    assert ours == theirs
    wait_until(lambda: b"myinst.worker.0.requests:1|c" in both.ours.statsd.round(), "the request counted", 30)


def test_socket_gets_the_real_datagrams(both: Both) -> None:
    value = re.compile(rb"\d+$")
    ours, theirs = (sorted(value.sub(b"N", one) for one in side.socket.round()) for side in (both.ours, both.theirs))
    assert ours == theirs
    wait_until(lambda: b"uwsgi.worker.0.requests 0 1" in both.ours.socket.round(), "the request counted", 30)


def test_carbon_gets_the_real_lines(both: Both) -> None:
    ours, theirs = both.ours.carbon, both.theirs.carbon
    wait_until(lambda: any(b".requests 1 " in heard for heard in ours.heard), "the request in carbon", 30)
    wait_until(lambda: theirs.heard, "the real one's lines", 30)
    memory = re.compile(r"(rss|vsz)_size")  # the real one says these with memory-report only
    found, wanted = (
        [line.split()[0] for line in side.heard[0].decode().splitlines() if not memory.search(line)]
        for side in (ours, theirs)
    )
    assert found == wanted
    assert found[0] == f"root.{socket.gethostname().replace('.', '_')}.my.app.requests"


def zabbix_answer(heard: bytes) -> bytes | None:
    """What Zabbix's documentation shows of a server's answer, once the message is whole."""
    if len(heard) < 13 or len(heard) < 13 + struct.unpack_from("<Q", heard, 5)[0]:
        return None
    count = len(json.loads(heard[13:])["data"])
    info = f"processed: {count - 1}; failed: 1; total: {count}; seconds spent: 0.000055"
    body = json.dumps({"response": "success", "info": info}).encode()
    return b"ZBXD\x01" + struct.pack("<Q", len(body)) + body


def test_zabbix_gets_the_real_items(both: Both) -> None:
    ours, theirs = both.ours.zabbix, both.theirs.zabbix
    wait_until(lambda: ours.heard and theirs.heard, "both", 30)
    found, wanted = (json.loads(side.heard[0][13:]) for side in (ours, theirs))
    assert ours.heard[0][:5] == theirs.heard[0][:5]
    assert [list(item) for item in found["data"]] == [list(item) for item in wanted["data"]]
    ours_said, theirs_said = ({(item["host"], item["key"]) for item in side["data"]} for side in (found, wanted))
    assert ours_said == theirs_said
    both.exporter.wait_for("items are not known to the server", 30)


def test_file_gets_documents_and_may_be_rotated(both: Both) -> None:
    path = both.app.home / "stats.log"
    wait_until(lambda: path.exists() and path.read_text().count("--end--") >= 2, "two documents", 30)
    path.rename(both.app.home / "stats.log.1")
    wait_until(lambda: path.exists() and "--end--" in path.read_text(), "a new file", 30)
    documents: list[dict[str, Any]] = [json.loads(text) for text in path.read_text().split("--end--") if text]
    assert documents[0]["pid"] == both.app.pid
    assert len(documents[0]["workers"]) == 2
    assert path.stat().st_mode & 0o777 == 0o640


def test_mongodb_gets_documents(both: Both) -> None:
    wait_until(lambda: both.mongo.inserted, "a document", 30)
    where, document = both.mongo.inserted[0]
    assert where == "shop.stats"
    assert document["pid"] == both.app.pid
    assert len(document["workers"]) == 2


def test_rrdtool_keeps_every_metric(both: Both) -> None:
    path = both.rrd / "worker.0.requests.rrd"
    wait_until(lambda: last(path) >= 1, "the request in the file", 30)
    made = run("rrdtool", "info", str(both.rrd / "core.idle_workers.rrd")).stdout
    assert 'ds[metric].type = "GAUGE"' in made
    assert 'ds[metric].type = "DERIVE"' in run("rrdtool", "info", str(path)).stdout
    assert "rra[3].pdp_per_row = 2016" in made


def last(path: Path) -> int:
    """The last value given to a file; OSError while there is none."""
    path.stat()
    found = re.search(r"^\d+: (\d+)$", run("rrdtool", "lastupdate", str(path)).stdout, re.MULTILINE)
    return int(found[1]) if found else 0


def test_the_app_names_the_line_that_is_wrong(programs: Runner) -> None:
    config = programs.directory / "app.ini"
    config.write_text("[uwsgi]\nhttp-socket = 127.0.0.1:0\nstats-push = statds:127.0.0.1:8125\n")
    running = programs.start("palatine-app-server", "--ini", str(config))
    assert running.wait() != 0
    assert "app.ini:3:" in running.output()
    assert "there is no stats pusher 'statds'" in running.output()


def test_a_reload_takes_up_another_pusher_and_an_exporter_another_day(programs: Runner) -> None:
    config = programs.directory / "app" / "app.ini"
    config.parent.mkdir()
    with contextlib.ExitStack() as stack:
        first, second = Datagrams(), Datagrams()
        stack.callback(first.close)
        stack.callback(second.close)
        words = "[uwsgi]\nstats-pusher-default-freq = 1\nstats-push = statsd:{}\n"
        config.write_text(words.format(first.address))
        exporter = programs.start("palatine-stats-exporter")
        app = AppServer(programs, "--ini", str(config))
        first.round()
        config.write_text(words.format(second.address))
        app.running.send(signal.SIGHUP)
        second.round()
        exporter.stop(signal.SIGKILL)
        second.drain()
        programs.start("palatine-stats-exporter")
        second.round()
