import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palatine.codec.http_chunked import SIZE_LINE_BYTES, TRAILER_BYTES, ChunkedDecoder
from palatine.codec.http_head import HeadError

#: (coded, body, what belongs to the next request)
CODED: list[tuple[bytes, bytes, bytes]] = [
    (b"0\r\n\r\n", b"", b""),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
    (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", b""),
    (b"5\r\nhello\r\n0\r\n\r\nGET /next", b"hello", b"GET /next"),
    (b"0\r\n\r\n0\r\n\r\n", b"", b"0\r\n\r\n"),
    (b"A\r\n0123456789\r\na\r\n0123456789\r\n00\r\n\r\n", b"0123456789" * 2, b""),
    (b"000000000000005\r\nhello\r\n0\r\n\r\n", b"hello", b""),
    (b"5;name=value\r\nhello\r\n0;last\r\n\r\n", b"hello", b""),
    (b'5 \t; name="a;b"\r\nhello\r\n0\r\n\r\n', b"hello", b""),
    (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n", b""),
    (b"3\r\n0\r\n\r\n0\r\n\r\n", b"0\r\n", b""),
    (b"2\r\nhi\r\n0\r\nExpires: never\r\nX-Sum:abc \xe4\r\n\r\nrest", b"hi", b"rest"),
    (b"1\r\nx\r\n0\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n", b"x", b""),
]

#: What must be refused as soon as it is seen: (coded, status)
REFUSED: list[tuple[bytes, int]] = [
    (b"\r\n", 400),
    (b"x\r\n", 400),
    (b"-1\r\n", 400),
    (b"+5\r\n", 400),
    (b"0x5\r\n", 400),
    (b"5 5\r\n", 400),
    (b" 5\r\n", 400),
    (b"5 \r\n", 400),
    (b"5_0\r\n", 400),
    (b"\xd9\xa5\r\n", 400),
    (b"5\n;\r\n", 400),
    (b"5\nhello\n0\n\n\r\n", 400),
    (b"5;a\nb\r\n", 400),
    (b"5;a\0\r\n", 400),
    (b"5,5\r\n", 400),
    (b"1" + b"0" * 15 + b"\r\n", 400),
    (b"0" * (SIZE_LINE_BYTES + 2), 400),
    (b"5;" + b"a" * SIZE_LINE_BYTES, 400),
    (b"5;" + b"a" * SIZE_LINE_BYTES + b"\r\n", 400),
    (b"5\r\nhelloX", 400),
    (b"5\r\nhello\n0", 400),
    (b"5\r\nhello\rX", 400),
    (b"5\r\nhello5\r\n", 400),
    (b"0\r\nno colon\r\n", 400),
    (b"0\r\n folded: x\r\n", 400),
    (b"0\r\nX : y\r\n", 400),
    (b"0\r\nX: a\0\r\n", 400),
    (b"0\r\nX: a\nY: b\r\n", 400),
    (b"0\r\nX: " + b"a" * TRAILER_BYTES, 431),
    (b"0\r\n" + b"X: 12345\r\n" * (TRAILER_BYTES // 10 + 1), 431),
]


def decode(*pieces: bytes) -> tuple[bytes, ChunkedDecoder]:
    decoder = ChunkedDecoder()
    return b"".join([decoder.feed(piece) for piece in pieces]), decoder


@pytest.mark.parametrize(("coded", "body", "rest"), CODED, ids=lambda value: repr(value)[:40])
def test_a_body_is_the_same_however_it_arrives(coded: bytes, body: bytes, rest: bytes) -> None:
    for at in range(len(coded) + 1):
        found, decoder = decode(coded[:at], coded[at:])
        assert (found, decoder.rest, decoder.done) == (body, rest, True)
    found, decoder = decode(*[coded[at : at + 1] for at in range(len(coded))])
    assert (found, decoder.rest, decoder.done) == (body, rest, True)


@pytest.mark.parametrize(("coded", "status"), REFUSED, ids=lambda value: repr(value)[:40])
def test_a_broken_coding_is_refused_however_it_arrives(coded: bytes, status: int) -> None:
    ways = [[coded], [coded[at : at + 1] for at in range(len(coded))]]
    ways += [[coded[:at], coded[at:]] for at in range(1, min(len(coded), 40))]
    for pieces in ways:
        with pytest.raises(HeadError) as caught:
            decode(*pieces)
        assert caught.value.status == status


def test_nothing_is_done_before_its_end() -> None:
    for coded, _, rest in CODED:
        whole = coded.removesuffix(rest)
        for at in range(len(whole)):
            _, decoder = decode(whole[:at])
            assert not decoder.done
            assert decoder.rest == b""


def test_lines_of_just_the_longest_length_are_read() -> None:
    extension = b"1;" + b"e" * (SIZE_LINE_BYTES - 2)
    trailer = b"X: " + b"t" * (TRAILER_BYTES - 5)
    coded = extension + b"\r\nx\r\n0\r\n" + trailer + b"\r\n\r\n"
    assert decode(coded)[0] == b"x"
    assert decode(*[coded[at : at + 1] for at in range(len(coded))])[1].done


@settings(deadline=None)
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=20),
    cuts=st.lists(st.integers(0, 3000), max_size=10),
    rest=st.binary(max_size=20),
)
def test_round_trip(chunks: list[bytes], cuts: list[int], rest: bytes) -> None:
    coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    edges = sorted({min(cut, len(coded)) for cut in cuts} | {0, len(coded)})
    pieces = [coded[start:end] for start, end in itertools.pairwise(edges)]
    body, decoder = decode(*pieces[:-1], pieces[-1] + rest)
    assert body == b"".join(chunks)
    assert decoder.done
    assert decoder.rest == rest


@settings(deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=8), st.sampled_from([b"0", b"5", b"\r\n", b"a", b";", b":", b"\n"]))))
def test_it_says_the_same_of_garbage_however_it_arrives(pieces: list[bytes]) -> None:
    def outcome(parts: list[bytes]) -> tuple[bytes, bool, bytes] | int:
        try:
            body, decoder = decode(*parts)
        except HeadError as error:
            return error.status
        return body, decoder.done, decoder.rest

    whole = b"".join(pieces)
    assert outcome([whole]) == outcome(pieces) == outcome([whole[at : at + 1] for at in range(len(whole))])


def test_one_byte_chunks_cost_no_more_than_their_length() -> None:
    """64 KiB of them took 0.4 s when every chunk moved the rest of the buffer: an attack for the price of a page."""
    small, large = b"1\r\nx\r\n" * 2_000, b"1\r\nx\r\n" * 32_000
    took = []
    for coded in (small, large):
        best = 1e9
        for _ in range(3):
            started = time.thread_time()
            decode(coded)
            best = min(best, time.thread_time() - started)
        took.append(best)
    assert took[1] < took[0] * 16 * 3
