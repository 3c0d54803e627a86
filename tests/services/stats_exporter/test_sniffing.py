import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine_stats_exporter.sniffing import HEAD_BYTES, Verdict, judge, may_have_body

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LONG = b"GET /" + b"a" * HEAD_BYTES


@pytest.mark.parametrize(
    ("received", "http", "over", "verdict"),
    [
        (b"", False, False, Verdict.WAIT),
        (b"", False, True, Verdict.RAW),
        (b"", True, False, Verdict.WAIT),
        (b"", True, True, Verdict.CLOSE),
        (GET, False, False, Verdict.HTTP),
        (GET, True, False, Verdict.HTTP),
        (b"HEAD / HTTP/1.1\r\n\r\n", False, False, Verdict.HEAD),
        (b"POST /any HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", True, False, Verdict.HTTP),
        (b"GET / HTTP/1.0\n\n", False, False, Verdict.HTTP),
        (b"G", False, False, Verdict.WAIT),
        (b"G", False, True, Verdict.HTTP),
        (b"GET / HTTP/1.1\r\nHost:", False, False, Verdict.WAIT),
        (b"GET / HTTP/1.1\r\nHost:", True, True, Verdict.HTTP),
        (LONG, False, False, Verdict.HTTP),
        (b"\r\n", False, False, Verdict.RAW),
        (b"get / HTTP/1.1\r\n\r\n", False, False, Verdict.RAW),
        (b"\x16\x03\x01", False, False, Verdict.RAW),
        (b"\x16\x03\x01", True, False, Verdict.WAIT),
        (b"\x16\x03\x01", True, True, Verdict.HTTP),
    ],
)
def test_judgements(received: bytes, http: bool, over: bool, verdict: Verdict) -> None:  # noqa: FBT001 - a table
    assert judge(received, http=http, over=over) is verdict


@given(received=st.binary(), http=st.booleans())
def test_nobody_waits_when_time_is_up(received: bytes, *, http: bool) -> None:
    assert judge(received, http=http, over=True) is not Verdict.WAIT


@pytest.mark.parametrize(
    ("received", "may"),
    [(b"", False), (GET, False), (b"HEAD / HTTP/1.1\r\n\r\n", False), (b"POST / ", True), (b"?", True)],
)
def test_only_what_may_have_a_body_is_lingered_for(received: bytes, may: bool) -> None:  # noqa: FBT001 - a table
    assert may_have_body(received) is may
