"""FastCGI records and SCGI heads: as front ends send them, in pieces, and what is refused."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.codec import fastcgi
from palatine.codec.fastcgi import Reader, record
from palatine.errors import ProtocolError

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT = 1, 2, 3, 4, 5, 6
ROLE = b"\0\x01\0\0\0\0\0\0"
LONG = "v" * 300


def pair(name: str, value: str) -> bytes:
    return b"".join(
        bytes([len(text)]) if len(text) < 128 else struct.pack(">I", len(text) | 1 << 31) for text in (name, value)
    ) + (name + value).encode("latin-1")


def padded(kind: int, request: int, content: bytes) -> bytes:
    return struct.pack(">BBHHBx", 1, kind, request, len(content), 5) + content + b"\0" * 5


VARIABLES = pair("A", "b") + pair("EMPTY", "") + pair("LONG", LONG)
WHOLE = (
    record(BEGIN, 7, ROLE) + padded(PARAMS, 7, VARIABLES[:20]) + record(PARAMS, 7, VARIABLES[20:])
    + record(PARAMS, 7, b"") + padded(STDIN, 7, b"bo") + record(STDIN, 7, b"dy") + record(STDIN, 7, b"")
)  # fmt: skip


@pytest.mark.parametrize("step", [1, 7, len(WHOLE)])
def test_a_request_in_pieces(step: int) -> None:
    reader, body = Reader(4096), b""
    for at in range(0, len(WHOLE), step):
        assert not reader.done
        reader.feed(WHOLE[at : at + step])
        body += reader.body
        assert reader.replies == b""
    assert reader.params == {"A": "b", "EMPTY": "", "LONG": LONG}
    assert (body, reader.done, reader.request) == (b"body", True, 7)


def test_what_is_answered_meanwhile() -> None:
    reader = Reader(100)
    reader.feed(
        record(9, 0, b"") + record(99, 0, b"") + record(BEGIN, 1, b"\0\x02\0\0\0\0\0\0") + record(BEGIN, 2, ROLE)
    )
    assert b"FCGI_MPXS_CONNS0" in reader.replies
    assert record(11, 0, b"\x63" + b"\0" * 7) in reader.replies
    assert record(END, 1, b"\0\0\0\0\x03\0\0\0") in reader.replies  # an authorizer's is none of ours
    reader.feed(record(BEGIN, 3, ROLE) + record(PARAMS, 3, b"nonsense"))
    assert reader.replies == record(END, 3, b"\0\0\0\0\x01\0\0\0")
    assert reader.params is None


def test_answers() -> None:
    assert fastcgi.output(1, b"x" * 70000) == record(STDOUT, 1, b"x" * 65535) + record(STDOUT, 1, b"x" * 4465)
    assert fastcgi.output(1, b"") == b""
    assert fastcgi.end(1) == record(STDOUT, 1, b"") + record(END, 1, b"\0" * 8)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        record(BEGIN, 1, b"\0"),
        record(BEGIN, 1, ROLE) + record(ABORT, 1, b""),
        record(BEGIN, 1, ROLE) + record(PARAMS, 1, b"x" * 101),
        record(BEGIN, 1, ROLE) + record(PARAMS, 1, b"\x05\x01ab") + record(PARAMS, 1, b""),
        record(BEGIN, 1, ROLE) + record(PARAMS, 1, b"\0\x01a") + record(PARAMS, 1, b""),
        record(BEGIN, 1, ROLE) + record(PARAMS, 1, b"\xff\xff") + record(PARAMS, 1, b""),
    ],
)
def test_what_is_no_fastcgi(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Reader(100).feed(data)


SCGI = b"24:CONTENT_LENGTH\x002\0A\0b\0C\0\0,"


def test_scgi() -> None:
    assert fastcgi.scgi_head(SCGI + b"bo", 100) == ({"CONTENT_LENGTH": "2", "A": "b", "C": ""}, len(SCGI))
    for end in range(len(SCGI)):
        assert fastcgi.scgi_head(SCGI[:end], 100) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1", b"1234567", b"101:", b"01:a,", SCGI[:-1] + b"x", b"4:A\0b\0,", b"2:A\0,", b"3:\0b\0,",
        b"34:CONTENT_LENGTH\x000\0CONTENT_LENGTH\x001\0,", b"0:,",
    ],
)  # fmt: skip
def test_what_is_no_scgi(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        fastcgi.scgi_head(data, 100)


@given(st.binary(max_size=100), st.sampled_from([b"", record(BEGIN, 1, ROLE), b"10:"]))
def test_anything_is_a_request_or_refused(data: bytes, start: bytes) -> None:
    for read in (Reader(100).feed, lambda given: fastcgi.scgi_head(given, 100)):
        try:
            read(start + data)
        except ProtocolError:
            continue
