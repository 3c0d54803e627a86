import json
import re
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from palatine.errors import PalatineError, PeerError, ProtocolError
from palatine_stats_exporter.metrics_page import metrics_page
from palatine_stats_exporter.probing import allowed, facts_of, probe
from stats_planting import SAMPLES, sample

DOCUMENTS = sorted(path.name for path in SAMPLES.glob("stats_*.json"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
#: What Prometheus takes for a sample: a name, labels with three escapes, a number.
LINE = re.compile(r'[a-z_]+\{(?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*\} -?[0-9][0-9.e+-]*\Z')
KEYS = st.sampled_from(["id", "pid", "status", "cores", "apps", "requests", "name", "value", "type", "chdir", "x"])
WORKER = st.dictionaries(KEYS, JSON | st.lists(st.dictionaries(KEYS, JSON, max_size=4), max_size=3), max_size=8)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_captured_document_becomes_metrics(name: str) -> None:
    captured = sample(name)
    facts = facts_of("tcp://x:1", json.dumps(captured).encode())
    page = metrics_page([facts]).decode()
    found = {family.name: family for family in text_string_to_metric_families(page)}
    started = {str(worker["id"]): worker["requests"] for worker in captured["workers"] if worker["id"]}
    assert {one.labels["worker_id"]: one.value for one in found["uwsgi_worker_requests"].samples} == started
    assert found["uwsgi_listen_queue_length"].samples[0].value == captured["listen_queue"]


@settings(max_examples=40)
@given(workers=st.lists(WORKER, max_size=3), sockets=JSON, metrics=JSON, caches=st.lists(WORKER, max_size=2))
def test_anything_else_is_refused_or_becomes_metrics(workers: Any, sockets: Any, metrics: Any, caches: Any) -> None:
    document = {"workers": workers, "sockets": sockets, "metrics": metrics, "caches": caches}
    facts = facts_of("tcp://x:1", json.dumps(document).encode())
    for openmetrics in (False, True):
        page = metrics_page([facts], openmetrics=openmetrics).decode()
        lines = [line for line in page.split("\n") if line and not line.startswith("#")]
        assert [line for line in lines if not LINE.match(line)] == []
        series = [line.rpartition(" ")[0] for line in lines]
        assert len(set(series)) == len(series)


@given(st.binary())
def test_bytes_that_are_no_document_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a uWSGI stats document"):
        facts_of("tcp://x:1", data)


@pytest.mark.parametrize(
    ("target", "patterns", "may"),
    [
        ("tcp://10.0.0.1:1717", ("tcp://10.0.0.*:1717",), True),
        ("tcp://10.0.0.1:1718", ("tcp://10.0.0.*:1717",), False),
        ("tcp://10.0.0.1:1717", (), False),
        ("http://h/", ("unix://*", "http://h/"), True),
    ],
)
def test_only_what_a_pattern_names_may_be_probed(target: str, patterns: tuple[str, ...], may: bool) -> None:  # noqa: FBT001
    assert allowed(target, patterns) is may


@pytest.mark.parametrize(
    "target", ["ftp://x", "x", "tcp://127.0.0.1:99999", "unix:///nowhere", "tcp://[::1", "http://a b:c/"]
)
async def test_what_cannot_be_reached_is_an_error(target: str) -> None:
    with pytest.raises(PalatineError):
        await probe(target)


async def test_who_never_answers_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    assert autojump_clock.autojump_threshold == 0
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    with pytest.raises(PeerError, match="no answer within 5 s"):
        await probe(f"tcp://127.0.0.1:{port}")
    await listeners[0].aclose()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 404 Not Found\r\n\r\n{}", b"{}", b"", b"HTTP/1.1 200 OK\r\n\r\n{}"])
async def test_a_web_server_that_is_no_stats_socket_is_said_to_be_none(answer: bytes) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners: Any = await nursery.start(trio.serve_tcp, serve, 0)
        with pytest.raises(ProtocolError):
            await probe(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/")
        nursery.cancel_scope.cancel()
