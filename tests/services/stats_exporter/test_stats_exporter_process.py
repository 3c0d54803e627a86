"""The exporter as a program, before a stand-in for the app-server, with the clients people have."""

import contextlib
import json
import re
import signal
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from palatine.counters import SegmentView
from palatine_stats_exporter.serving import HTTP_HEADER
from running import Runner, Running, free_port, get, run, wait_until
from stats_master import HELLO, StandInMaster, emperor, master
from stats_planting import SAMPLES, normal, sample, store
from terminal import shows

pytestmark = pytest.mark.interop

DOCUMENT = (SAMPLES / HELLO).read_text().replace("2.0.21-debian", "2.0.31")


@pytest.fixture
def instance(programs: Runner) -> Iterator[StandInMaster]:
    with master(programs.runtime) as made:
        yield made


def exporter(programs: Runner, *words: str) -> Running:
    running = programs.start("palatine-stats-exporter", *words)
    running.wait_for("daemon.ready")
    return running


def raw(address: str) -> str:
    """What a client that says nothing reads; "" while it cannot connect."""
    if address.startswith(("/", "@")):
        sock = socket.socket(socket.AF_UNIX)
        where: Any = address if address.startswith("/") else f"\0{address[1:]}\0"
    else:
        host, _, port = address.rpartition(":")
        sock = socket.socket(socket.AF_INET6 if "[" in host else socket.AF_INET)
        where = (host.strip("[]"), int(port))
    with sock:
        sock.settimeout(30)
        sock.connect(where)
        found = b""
        while data := sock.recv(65536):
            found += data
    return found.decode()


@pytest.mark.parametrize("family", ["127.0.0.1:0", "[::1]:0", "unix", "abstract"])
def test_every_kind_of_address_serves_raw_and_http(family: str, programs: Runner, instance: StandInMaster) -> None:
    named = {"unix": str(programs.runtime / "stats.sock"), "abstract": f"@palatine-{time.monotonic_ns()}"}
    address = instance.bind(named.get(family, family))
    instance.start()
    exporter(programs)
    assert raw(address) == DOCUMENT
    how = {"unix": ("--unix-socket", address), "abstract": ("--abstract-unix-socket", address[1:] + "\0")}
    if family == "abstract":
        return  # curl cannot name an address that ends with a NUL, and uWSGI's do
    assert get("http://localhost/" if family in how else f"http://{address}/", *how.get(family, ())) == DOCUMENT


def test_stats_http_is_uwsgis_to_the_byte(programs: Runner, instance: StandInMaster) -> None:
    address = instance.bind(http=True)
    instance.start()
    exporter(programs)
    url = f"http://{address}/"
    assert run("curl", "-si", url).stdout == run("curl", "-si", "-XPOST", "-d", "x=1", url + "any?path").stdout
    found = run("curl", "-si", url, check=True).stdout
    assert (
        found.encode() == HTTP_HEADER + DOCUMENT.encode()
        or found == HTTP_HEADER.decode().replace("\r\n", "\n") + DOCUMENT
    )
    head = run("curl", "-sI", url).stdout
    assert head.replace("\r", "") == HTTP_HEADER.decode().replace("\r", "")


def test_netcat_and_socat_read_it(programs: Runner, instance: StandInMaster) -> None:
    path = str(programs.runtime / "s")
    tcp, unix = instance.bind(), instance.bind(path)
    instance.start()
    exporter(programs)
    assert unix == path
    assert run("socat", "-u", f"TCP:{tcp}", "-").stdout == DOCUMENT
    assert run("socat", "-u", f"UNIX:{path}", "-").stdout == DOCUMENT
    assert run("socat", "-", f"TCP:{tcp}", input="").stdout == DOCUMENT


def test_options_of_the_app_shape_its_documents(programs: Runner) -> None:
    captured = sample("stats_with_metrics.json")
    with master(programs.runtime, captured=captured) as instance:
        small = instance.bind(minified=True, no_cores=True, no_metrics=True)
        whole = instance.bind(minified=True)
        instance.start()
        exporter(programs)
        found = json.loads(raw(small))
        assert "metrics" not in found
        assert "cores" not in found["workers"][0]
        assert json.loads(raw(whole)) == normal(captured)
        assert "\n" not in raw(whole)


@pytest.mark.parametrize("form", ["tcp", "http", "unix"])
def test_uwsgitop_shows_it(form: str, programs: Runner, instance: StandInMaster) -> None:
    address = instance.bind(str(programs.runtime / "s") if form == "unix" else "127.0.0.1:0", http=form == "http")
    instance.start()
    exporter(programs)
    shown = f"http://{address}" if form == "http" else address
    shows(("uwsgitop", shown), r"uwsgi-2\.0\.31", r"req: 209\b", r"1\s+[\d.]+\s+12205\s+5\d")


def test_emperor_stats_are_served_and_uwsgitop_shows_vassals(programs: Runner) -> None:
    exporter(programs)
    with emperor(programs.runtime, sample("emperor_stats_2.json")) as host:
        address = host.bind()
        host.start()
        wanted = (SAMPLES / "emperor_stats_2.json").read_text().replace("2.0.21-debian", "2.0.31")
        assert wait_until(lambda: raw(address), "a document") == wanted
        shows(("uwsgitop", address), "VASSAL", r"two\.ini")


def test_any_start_order(programs: Runner) -> None:
    exporter(programs)
    with master(programs.runtime) as instance:
        address = instance.bind()
        instance.start()
        assert raw(address) == DOCUMENT  # the kernel's queue holds the client until the exporter has come
        store(instance.segment, "cores", 0, 1, requests=1000)
        assert '"requests":1026' in raw(address)


def test_an_exporter_killed_and_started_again_serves_on(programs: Runner, instance: StandInMaster) -> None:
    address = instance.bind()
    instance.start()
    first = exporter(programs)
    assert raw(address) == DOCUMENT
    first.process.kill()
    first.wait()
    with socket.create_connection(tuple(address.split(":"))) as waiting:  # type: ignore[arg-type]  # the port as text does
        store(instance.segment, "cores", 0, 1, requests=27)
        exporter(programs)
        waiting.settimeout(30)
        found = b""
        while data := waiting.recv(65536):
            found += data
        assert b'"requests":53' in found


def test_a_master_that_goes_gets_its_port_back(programs: Runner, instance: StandInMaster) -> None:
    address = instance.bind()
    instance.start()
    running = exporter(programs)
    assert raw(address) == DOCUMENT
    instance.fall_silent()
    instance.offers.clear()
    instance._sockets.pop().close()
    running.wait_for("instance.dropped")

    def bound() -> bool:
        assert instance.bind(address) == address
        return True

    wait_until(bound, "the same port again")
    instance.hand_over()
    assert wait_until(lambda: raw(address), "a document") == DOCUMENT


def test_a_new_segment_is_shown_without_a_new_handoff(programs: Runner, instance: StandInMaster) -> None:
    address = instance.bind()
    instance.start()
    exporter(programs)
    assert raw(address) == DOCUMENT
    captured = sample("stats_hello_under_load.json")
    with master(programs.runtime, "other", captured) as other:
        other.segment.publish()
        other.segment.path.rename(instance.segment.path)
        wait_until(lambda: json.loads(raw(address))["workers"] == normal(captured)["workers"], "the new segment")


def test_offers_that_are_no_listeners_are_refused_and_stop_nobody(programs: Runner, instance: StandInMaster) -> None:
    address = instance.bind()
    instance.start()
    with master(programs.runtime, "odd") as odd:
        odd.offer(socket.socket(), "unbound")
        odd.start()
        running = exporter(programs)
        assert raw(address) == DOCUMENT
        running.wait_for("instance.waiting")
        assert "not a listening stream socket" in running.output()
        wait_until(lambda: raw(address) == DOCUMENT, "service as before")
        assert running.process.poll() is None


def test_a_segment_cut_short_costs_its_own_clients_only(programs: Runner, instance: StandInMaster) -> None:
    address = instance.bind()
    instance.start()
    with master(programs.runtime, "cut") as cut:
        own = cut.bind()
        cut.start()
        running = exporter(programs)
        assert raw(own) == DOCUMENT
        cut.segment.path.write_bytes(cut.segment.path.read_bytes()[:5000])
        assert raw(own) == ""
        running.wait_for("stats.failed")
        assert raw(address) == DOCUMENT


def test_pages_metrics_and_api(programs: Runner, instance: StandInMaster) -> None:
    instance.bind(http=True)
    instance.start()
    where = f"http://127.0.0.1:{free_port()}"
    running = exporter(programs, "--http", where.removeprefix("http://"))
    running.wait_for("http.serving")
    running.wait_for("instance.serving")
    assert (
        f'uwsgi_worker_requests_total{{uwsgi_instance="app",stats_uri="{instance_uri(running)}",worker_id="1"}} 52'
        in get(f"{where}/metrics")
    )
    assert run("promtool", "check", "metrics", input=get(f"{where}/metrics")).stderr == ""
    openmetrics = run("curl", "-si", "-H", "Accept: application/openmetrics-text", f"{where}/metrics").stdout
    assert "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8" in openmetrics
    assert openmetrics.endswith("# EOF\n")
    found = json.loads(get(f"{where}/api/v1/instances"))
    assert found["unreadable"] == {}
    assert found["instances"][0]["name"] == "app"
    assert json.loads(get(f"{where}/api/v1/instances/app"))["workers"][0]["requests"] == 52
    assert [one["name"] for one in json.loads(get(f"{where}/api/v1/daemons"))["daemons"]] == ["stats-exporter"]
    page = run("curl", "-si", f"{where}/").stdout
    assert "default-src 'none'" in page
    assert "<title>palatine</title>" in page
    for path, kind in (
        ("dashboard.js", "text/javascript"),
        ("charts.js", "text/javascript"),
        ("table.js", "text/javascript"),
        ("dashboard.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
    ):
        assert f"content-type: {kind}" in run("curl", "-sI", f"{where}/{path}").stdout
    for path, status in (
        ("nothing", "404"),
        ("api/v1/instances/nobody", "404"),
        ("api/v1/history?interval=7", "400"),
        ("probe", "400"),
        ("probe?target=tcp://127.0.0.1:1", "403"),
        ("probe?target=app", "200"),
    ):
        assert run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{where}/{path}").stdout == status
    assert run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-XPOST", f"{where}/metrics").stdout == "405"


def instance_uri(running: Running) -> str:
    """The address the log names."""
    found = re.search(r'"addresses": \["([^"]+)"\]', running.output())
    assert found, running.output()
    return found[1]


def test_events_come_every_second_and_end_with_the_daemon(programs: Runner, instance: StandInMaster) -> None:
    instance.start()
    where = f"127.0.0.1:{free_port()}"
    running = exporter(programs, "--http", where)
    running.wait_for("http.serving")
    first, second = (programs.start("curl", "-sSN", f"http://{where}/api/v1/events") for _ in range(2))
    wait_until(lambda: first.output().count("event: change") >= 2 and "event: state" in second.output(), "three events")
    state = json.loads(re.findall(r"^data: (.*)$", first.output(), re.MULTILINE)[0])
    assert state["instances"]["app"]["requests"] == 209
    assert running.stop(signal.SIGTERM, 30) == 0
    assert first.wait(30) == 0
    assert second.wait(30) == 0


def test_it_counts_what_it_does_in_its_own_segment(programs: Runner, instance: StandInMaster) -> None:
    address = instance.bind()
    instance.start()
    exporter(programs)
    raw(address)
    get(f"http://{address}/")
    with SegmentView.open(programs.runtime / "stats-exporter" / "seg") as view:

        def counted() -> bool:
            row = view.row("exporter")
            return (row["scrapes_raw"], row["scrapes_http"], row["endpoints"]) == (1, 1, 1) and row["bytes_out"] > 9000

        wait_until(counted, "the counts")
        assert view.row("daemon")["instances"] == 1


@pytest.mark.parametrize("words", [("--http", "nonsense"), ("--http", "127.0.0.1:99999"), ("--http", "203.0.113.9:80")])
def test_a_bad_http_address_is_a_config_error(words: tuple[str, ...], programs: Runner) -> None:
    running = programs.start("palatine-stats-exporter", *words)
    assert running.wait() == 78
    assert "http address" in running.output()


def test_the_file_says_where_pages_are(programs: Runner) -> None:
    config = programs.directory / "stats-exporter.yaml"
    port = free_port()
    config.write_text(f"http:\n  listen: 127.0.0.1:{port}\n")
    exporter(programs, "--config", str(config)).wait_for("http.serving")
    assert "uwsgi_exporter_scrapes_total 1" in get(f"http://127.0.0.1:{port}/metrics")


def test_only_those_who_may_see_the_pages_do(programs: Runner) -> None:
    config = programs.directory / "stats-exporter.yaml"
    port = free_port()
    (programs.directory / "password").write_text("s3cret\n")
    config.write_text(
        f"http:\n  listen: 127.0.0.1:{port}\n  user: ops\n  password: {{file: {programs.directory}/password}}\n"
        f"  proxy-header: X-Remote-User\n"
    )
    exporter(programs, "--config", str(config)).wait_for("http.serving")
    url = f"http://127.0.0.1:{port}/api/v1/instances"
    refused = run("curl", "-si", url).stdout
    assert refused.startswith("HTTP/1.1 401")
    assert 'www-authenticate: Basic realm="palatine"' in refused
    assert run("curl", "-si", "-u", "ops:wrong", url).stdout.startswith("HTTP/1.1 401")
    assert json.loads(get(url, "-u", "ops:s3cret"))["instances"] == []
    assert json.loads(get(url, "-H", "X-Remote-User: me"))["instances"] == []


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ("listen: ':9117', proxy-header: X-User", "listen on loopback"),
        ("listen: '127.0.0.1:9117', user: ops", "has no password"),
        ("listen: '127.0.0.1:9117', user: 'o:s', password: x", "no colon"),
    ],
)
def test_settings_that_would_let_anybody_in_are_refused(section: str, reason: str, programs: Runner) -> None:
    config = programs.directory / "stats-exporter.yaml"
    config.write_text(f"http: {{{section}}}\n")
    running = programs.start("palatine-stats-exporter", "--config", str(config))
    assert running.wait(30) == 78
    assert reason in running.output()


def test_a_probe_fetches_what_another_host_s_master_shows(programs: Runner, instance: StandInMaster) -> None:
    tcp, http = instance.bind(), instance.bind(http=True)
    unix = instance.bind(str(programs.runtime / "stats.sock"))
    instance.start()
    exporter(programs)  # plays the other host's uWSGI
    other = Runner(programs.directory / "other")
    other.directory.mkdir()
    try:
        config, port = other.directory / "stats-exporter.yaml", free_port()
        config.write_text(
            f"http: {{listen: '127.0.0.1:{port}', probe: ['tcp://127.0.0.1:*', 'http://*', 'unix:///*']}}\n"
        )
        other.start("palatine-stats-exporter", "--config", str(config)).wait_for("http.serving", 30)
        for target in (f"tcp://{tcp}", f"http://{http}/", f"unix://{unix}"):
            found = get(f"http://127.0.0.1:{port}/probe?target={target}")
            assert (
                f'uwsgi_worker_requests_total{{uwsgi_instance="{target}",stats_uri="{target}",worker_id="1"}} 52'
                in found
            )
            assert run("promtool", "check", "metrics", input=found).stderr == ""
        answer = run("curl", "-s", f"http://127.0.0.1:{port}/probe?target=tcp://127.0.0.1:{free_port()}").stdout
        assert "refused" in json.loads(answer)["error"] or "attempts" in json.loads(answer)["error"]
    finally:
        other.close()


def test_clients_that_reset_or_trickle_are_no_matter(programs: Runner, instance: StandInMaster) -> None:
    address = instance.bind(http=True)
    instance.start()
    running = exporter(programs)
    where = ("127.0.0.1", int(address.rpartition(":")[2]))
    with contextlib.ExitStack() as keep:
        trickling = [keep.enter_context(socket.create_connection(where)) for _ in range(200)]
        for round_number in range(5):
            for client in trickling:
                client.sendall(b"GET /"[round_number : round_number + 1])
            with socket.create_connection(where) as reset:
                reset.sendall(b"GET / HTTP/1.1\r\n")
                reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            assert get(f"http://{address}/") == DOCUMENT
    assert running.process.poll() is None


def test_nothing_is_left_behind(programs: Runner, instance: StandInMaster) -> None:
    instance.bind()
    instance.start()
    running = exporter(programs)
    assert running.stop(signal.SIGINT) == 0
    left = {path.name for path in (programs.runtime / "stats-exporter").iterdir()}
    assert left <= {"ctl", "ctl.lock"}
