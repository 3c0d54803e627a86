import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palatine.codec import uwsgi_packet
from palatine.codec.uwsgi_packet import PacketHeader
from palatine.errors import ProtocolError

HEADERS = [
    (PacketHeader(0, 0, 0), "00000000"),
    (PacketHeader(0, 18, 0), "00120000"),
    (PacketHeader(30, 4096, 0), "1e001000"),
    (PacketHeader(100, 0, 1), "64000001"),
    (PacketHeader(255, 65535, 255), "ffffffff"),
]

BLOCKS: list[tuple[dict[str, str], bytes]] = [
    ({}, b""),
    ({"A": "b"}, b"\1\0A\1\0b"),
    ({"A": ""}, b"\1\0A\0\0"),
    ({"REQUEST_METHOD": "GET", "X": "\xe4"}, b"\x0e\0REQUEST_METHOD\3\0GET\1\0X\1\0\xe4"),
    ({"K" * 300: "v" * 400}, b"\x2c\1" + b"K" * 300 + b"\x90\1" + b"v" * 400),
    ({"A": "\0\r\n"}, b"\1\0A\3\0\0\r\n"),
]

#: Blocks that lie about a length.
LIES = [
    b"\1",
    b"\1\0",
    b"\1\0A",
    b"\1\0A\1",
    b"\1\0A\1\0",
    b"\2\0A\0\0",
    b"\0\0\0\0",
    b"\0\0\1\0b",
    b"\1\0A\2\0b",
    b"\xff\xffA\1\0b",
    b"\1\0A\xff\xffb",
    b"\1\0A\1\0b\1",
    b"\1\0A\1\0b\1\0B",
    b"GET / HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize(("header", "octets"), HEADERS)
def test_headers_both_ways(header: PacketHeader, octets: str) -> None:
    assert uwsgi_packet.encode_header(header).hex() == octets
    assert uwsgi_packet.parse_header(bytes.fromhex(octets)) == header
    assert uwsgi_packet.parse_header(bytes.fromhex(octets) + b"more") == header


@pytest.mark.parametrize(("variables", "block"), BLOCKS, ids=lambda value: repr(value)[:30])
def test_blocks_both_ways(variables: dict[str, str], block: bytes) -> None:
    assert uwsgi_packet.encode_vars(variables) == block
    assert uwsgi_packet.parse_vars(block) == variables
    assert uwsgi_packet.vars_size(variables) == len(block)


@pytest.mark.parametrize("block", LIES)
def test_a_block_that_lies_is_refused_whole(block: bytes) -> None:
    with pytest.raises(ProtocolError):
        uwsgi_packet.parse_vars(block)


def test_a_repeated_key_keeps_its_last_value() -> None:
    assert uwsgi_packet.parse_vars(b"\1\0A\1\0b\1\0A\1\0c") == {"A": "c"}


@pytest.mark.parametrize("variables", [{"A" * 65536: ""}, {"A": "v" * 65536}])
def test_what_a_packet_cannot_hold_is_not_encoded(variables: dict[str, str]) -> None:
    with pytest.raises(struct.error):
        uwsgi_packet.encode_vars(variables)


TEXT = st.text(st.characters(max_codepoint=0xFF), max_size=40)


@settings(deadline=None)
@given(st.dictionaries(TEXT.filter(bool), TEXT))
def test_round_trip(variables: dict[str, str]) -> None:
    block = uwsgi_packet.encode_vars(variables)
    assert uwsgi_packet.parse_vars(block) == variables
    assert uwsgi_packet.vars_size(variables) == len(block)


@settings(deadline=None)
@given(st.dictionaries(TEXT.filter(bool), TEXT, min_size=1), st.data())
def test_every_shorter_block_is_refused_or_has_fewer_variables(variables: dict[str, str], data: st.DataObject) -> None:
    block = uwsgi_packet.encode_vars(variables)
    at = data.draw(st.integers(0, len(block) - 1))
    try:
        fewer = uwsgi_packet.parse_vars(block[:at])
    except ProtocolError:
        return
    assert len(fewer) < len(variables)
    assert fewer.items() <= variables.items()


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_anything_is_variables_or_refused(block: bytes) -> None:
    try:
        variables = uwsgi_packet.parse_vars(block)
    except ProtocolError:
        return
    assert uwsgi_packet.vars_size(variables) <= len(block)
