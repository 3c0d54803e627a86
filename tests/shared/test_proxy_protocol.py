"""PROXY headers: those of HAProxy's document, whole and in pieces, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.codec.proxy_protocol import MOST_BYTES, SIGNATURE, ProxyHeader, parse
from palatine.errors import ProtocolError

V4 = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + (4711).to_bytes(2, "big") + (443).to_bytes(2, "big")
V6 = bytes.fromhex("20010db8000000000000000000000001" * 2) + (1).to_bytes(2, "big") * 2


def second(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes([0x20 | command, family]) + len(body).to_bytes(2, "big") + body


HEADERS = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n", "192.0.2.1", 4711),
    (b"PROXY TCP6 2001:DB8::1 ::1 65535 1\r\n", "2001:db8::1", 65535),
    (b"PROXY UNKNOWN\r\n", "", 0),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "", 0),
    (second(1, 0x11, V4), "192.0.2.1", 4711),
    (second(1, 0x11, V4 + b"\x03\x00\x01x"), "192.0.2.1", 4711),
    (second(1, 0x21, V6), "2001:db8::1", 1),
    (second(0, 0x11, V4), "", 0),
    (second(0, 0, b""), "", 0),
    (second(1, 0x31, b"\0" * 216), "", 0),
]


@pytest.mark.parametrize(("header", "address", "port"), HEADERS)
def test_who_the_client_is(header: bytes, address: str, port: int) -> None:
    assert parse(header + b"GET / HTTP/1.1") == ProxyHeader(len(header), address, port)
    for end in range(len(header)):
        assert parse(header[:end]) is None, header[:end]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"PROXIES", b"PROX /", b"\x16\x03\x01", b"\r\n\r\nGET /"])
def test_connections_without_one(data: bytes) -> None:
    assert parse(data) == ProxyHeader(0)


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY TCP4 192.0.2.1 198.51.100.2 4711\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY " + b"x" * 200,
        SIGNATURE + b"\x11\x11\x00\x0c" + V4,
        second(2, 0x11, V4),
        second(1, 0x11, V4[:-1]),
        SIGNATURE + b"\x21\x11" + MOST_BYTES.to_bytes(2, "big"),
    ],
)
def test_what_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(data)


@given(st.binary(max_size=80), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"]))
def test_anything_is_a_header_none_or_refused(data: bytes, start: bytes) -> None:
    try:
        found = parse(start + data)
    except ProtocolError:
        return
    assert found is None or 0 <= found.size <= len(start + data)
