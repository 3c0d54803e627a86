import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palatine.codec.zabbix import HEADER_BYTES, Answer, body_length, decode_answer, encode
from palatine.errors import ProtocolError

ANSWER = b'{"response":"success","info":"processed: 2; failed: 1; total: 3; seconds spent: 0.003534"}'


def test_message_is_the_documented_one() -> None:
    message = encode("web1", [("uwsgi.a", 1), ("uwsgi.b", -2)])
    body = (
        b'{"request":"sender data","data":['
        b'{"host":"web1","key":"uwsgi.a","value":"1"},{"host":"web1","key":"uwsgi.b","value":"-2"}]}'
    )
    assert message == b"ZBXD\x01" + len(body).to_bytes(8, "little") + body
    assert body_length(message[:HEADER_BYTES]) == len(body)


@settings(max_examples=30)
@given(st.text(), st.lists(st.tuples(st.text(), st.integers())))
def test_any_name_is_json(host: str, items: list[tuple[str, int]]) -> None:
    found = json.loads(encode(host, items)[HEADER_BYTES:])["data"]
    assert [(one["host"], one["key"], int(one["value"])) for one in found] == [(host, *item) for item in items]


def test_answers() -> None:
    assert decode_answer(ANSWER) == Answer(2, 1)
    assert decode_answer(b'{"response":"success","info":"Processed 3 Failed 0 Total 3"}') == Answer(0, 0)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"response":"failed"}', b'{"info":"processed: 1; failed: 0"}'])
def test_anything_but_success_is_an_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_answer(body)


@pytest.mark.parametrize("header", [b"", b"ZBXD\x01", b"HTTP/1.1 400 Ba", b"ZBXD\x01" + b"\xff" * 8])
def test_what_is_no_header(header: bytes) -> None:
    with pytest.raises(ProtocolError):
        body_length(header[:HEADER_BYTES])
