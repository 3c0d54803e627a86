"""Whatever arrives on a request socket, the requests we see in it are those another parser sees, or fewer of them.

Messages are put together from what makes parsers disagree (lengths, codings, line ends, folds, escapes), damaged, cut
into packets anywhere. PALATINE_FUZZ_SEED and PALATINE_FUZZ_MESSAGES choose others.
"""

import contextlib
import itertools
import os
import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h11
import pytest

from palatine.codec import uwsgi_packet
from palatine.codec.http_head import HeadError
from palatine.errors import ProtocolError
from palatine_app_server.serving.clients import Limits, Listener, Next
from palatine_app_server.serving.connection import Connection
from worker_inside import echo, inside, packet

SEED = int(os.environ.get("PALATINE_FUZZ_SEED", "20250"))
MESSAGES = int(os.environ.get("PALATINE_FUZZ_MESSAGES", "6000"))
CONNECTIONS = MESSAGES // 20

LIMITS = Limits(head_bytes=600, body_bytes=400, body_memory_bytes=64)

METHODS = [b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"get", b"G\0T", b"", b"CONNECT"]
TARGETS = [b"/", b"/a?b", b"*", b"http://h/x", b"//", b"/%00", b"/\xff", b"/ x", b"h:80", b"/" + b"a" * 700, b""]
VERSIONS = [b"HTTP/1.1"] * 40 + [b"HTTP/1.0", b"HTTP/1.1 ", b"HTTP/2.0", b"http/1.1", b"HTTP/1.11", b""]
LENGTHS = [b"0", *[b"5"] * 20, b"7", b"+5", b"-1", b"5,5", b"0x5", b" 5 ", b"005", b"5\x0b", b"", b"9" * 30, b"401"]
CODINGS = [
    *[b"chunked"] * 16,
    b"Chunked",
    b"xchunked",
    b"chunked, chunked",
    b"identity",
    b"gzip, chunked",
    b"\tchunked",
]
NAMES = [
    b"Content-Length", b"content-length", b"Content_Length", b"Content-Length ", b" Content-Length",
    b"Content-Length\t", b"Transfer-Encoding", b"transfer-encoding", b"Transfer-Encoding\0", b"Transfer_Encoding",
    b"\nTransfer-Encoding", *[b"X", b"Content-Length", b"Transfer-Encoding"] * 8, b"Host", b"Connection", b"Expect",
    b"Cookie", b"X\r\n", b"\x80", b"",
]  # fmt: skip
LINE_ENDS = [b"\r\n"] * 200 + [b"\n", b"\r", b"\r\r\n", b"\n\n", b"\r\n ", b"\r\n\t"]
BODIES = [
    b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n", b"5;x\r\nhello\r\n0\r\nX: y\r\n\r\n", b"5\nhello\n0\n\n", b"",
    b"ff\r\nhello\r\n", b"5\r\nhelloX0\r\n\r\n", b"-5\r\nhello", b"00\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b"x" * 401,
]  # fmt: skip

Message = tuple[str, str, bytes]


def field(dice: random.Random) -> bytes:
    name = dice.choice(NAMES)
    folded = name.strip().lower()
    if folded.endswith(b"length"):
        value = dice.choice(LENGTHS)
    elif folded.endswith((b"encoding", b"encoding\0")):
        value = dice.choice(CODINGS)
    else:
        value = dice.choice([b"h", b"close", b"keep-alive", b"100-continue", b"a\0b", b"a\r\n b", b"\xff", b"a=b"])
    return name + b":" + dice.choice([b" ", b"", b"\t", b"  "]) + value


def message(dice: random.Random) -> bytes:
    start = b" ".join(
        [dice.choice(METHODS[:3] * 16 + METHODS), dice.choice(TARGETS[:2] * 20 + TARGETS), dice.choice(VERSIONS)]
    )
    fields = [b"Host: h", *[field(dice) for _ in range(dice.choice([0, 1, 1, 2, 3]))]]
    dice.shuffle(fields)
    lines = b"".join(line + dice.choice(LINE_ENDS) for line in [start, *fields])
    return lines + dice.choice([b"\r\n"] * 20 + [b"\n", b""]) + dice.choice(BODIES)


def stream(dice: random.Random) -> bytes:
    data = bytearray(b"".join(message(dice) for _ in range(dice.choice([1, 1, 2, 3]))))
    for _ in range(dice.choice([0, 0, 0, 1, 3])):
        at = dice.randrange(len(data) + 1)
        data[at : at + dice.randrange(3)] = dice.choice(
            [b"", b"\r", b"\n", b"\0", b" ", b"\r\n", bytes([dice.randrange(256)])]
        )
    return bytes(data)


def packets(dice: random.Random, data: bytes) -> Iterator[bytes]:
    cuts = sorted({dice.randrange(len(data) + 1) for _ in range(dice.choice([0, 1, 4, 40]))} | {0, len(data)})
    for start, end in itertools.pairwise(cuts):
        yield data[start:end]


def ours(arriving: Iterator[bytes]) -> tuple[list[Message], int]:
    """The requests a connection sees in what arrives, and the status it ended with (0: none)."""
    near, far = socket.socketpair()
    with near, far:
        connection = Connection(near.fileno(), "", Listener(near, -1, "", "http", {"SERVER_NAME": "s"}), LIMITS, 0.0)
        seen: list[Message] = []
        try:
            for data in arriving:
                step = connection.advance(data)
                while step is Next.SERVE:
                    environ, body = connection.environ, connection.body
                    seen.append((environ["REQUEST_METHOD"], environ["REQUEST_URI"], body.read() if body else b""))
                    assert connection.head is not None
                    if not connection.head.keep_alive:
                        return seen, 0
                    connection.finish(0.0)
                    step = connection.following()
                    if step is Next.TURN:
                        step = connection.receive(0.0)
        except HeadError as error:
            return seen, error.status
        finally:
            connection._reset()
        return seen, 0


def theirs(data: bytes) -> list[Message]:
    """The complete requests h11 sees."""
    seen: list[Message] = []
    while data := re.sub(rb"\A(?:\r\n)+", b"", data):  # h11 forgives no empty lines, RFC 9112 2.2 does
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=100_000)
        parser.receive_data(data)
        request: h11.Request | None = None
        body = b""
        try:
            while True:
                event = parser.next_event()
                if isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    return seen
        except h11.RemoteProtocolError:
            return seen
        assert request is not None
        seen.append((request.method.decode(), request.target.decode("latin-1"), body))
        data = parser.trailing_data[0]
    return seen


def test_what_we_see_is_what_another_parser_sees() -> None:
    """A prefix: we refuse more, and after a refusal or a close we look at nothing."""
    dice = random.Random(SEED)
    served = refused = 0
    for number in range(MESSAGES):
        data = stream(dice)
        seen, status = ours(packets(dice, data))
        served += len(seen)
        refused += status > 0
        assert status in {0, 400, 413, 417, 431, 501, 505}, data
        if any(ord(character) > 0x7E for _, target, _ in seen for character in target):
            continue  # h11 takes ASCII targets only
        assert seen == theirs(data)[: len(seen)], f"seed {SEED}, message {number}: {data!r}"
    assert served > MESSAGES / 6, "the fuzz must get through"
    assert refused > MESSAGES / 6


def test_the_worker_answers_on(tmp_path: Path) -> None:
    """Each connection gets whole responses, a refusal only as the last; a well-behaved client is served as ever."""
    dice = random.Random(SEED + 1)
    quick = LIMITS._replace(read_seconds=0.05, write_seconds=0.5, idle_seconds=0.05)
    with inside(tmp_path, echo, limits=quick) as server:
        for number in range(CONNECTIONS):
            data = stream(dice)
            with server.connect() as client:
                with contextlib.suppress(OSError):  # refused and closed while we speak
                    for piece in packets(dice, data):
                        client.send(piece)
                    client.end_sending()
                answer = client.rest()
            statuses = re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer)
            assert set(statuses) <= {b"100", b"200", b"400", b"413", b"417", b"431", b"501", b"505"}, (number, data)
            assert all(status in {b"100", b"200"} for status in statuses[:-1]), (number, data, answer)
        with server.connect() as client:
            assert client.get("/still")[1] == b"GET /still "
        assert server.thread.is_alive()


def test_the_uwsgi_protocol_answers_on(tmp_path: Path) -> None:
    dice = random.Random(SEED + 2)
    good = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "REQUEST_URI": "/", "SERVER_PROTOCOL": "HTTP/1.1"}
    quick = LIMITS._replace(read_seconds=0.05, write_seconds=0.5)
    with inside(tmp_path, echo, limits=quick, protocol="uwsgi") as server:
        for _ in range(CONNECTIONS):
            extra: dict[str, Any] = {
                dice.choice(["CONTENT_LENGTH", "A", "HTTPS", "UWSGI_FILE"]): dice.choice(
                    ["", "5", "9" * 400, "x", "\0"]
                )
            }
            data = bytearray(packet(good | extra, dice.choice([0, 0, 0, 30, 100, 7, 255]), 0, b"hello"))
            for _ in range(dice.choice([0, 1, 1, 4])):
                data[dice.randrange(min(len(data), 40))] = dice.randrange(256)
            with server.connect() as client:
                with contextlib.suppress(OSError):
                    client.send(bytes(data[: dice.choice([len(data), dice.randrange(len(data))])]))
                    client.end_sending()
                answer = client.rest()
            assert answer == b"" or answer.startswith((b"HTTP/1.1 200 OK\r\n", b"d\0\0\1")), (bytes(data), answer)
        assert server.talk(packet(good)).endswith(b"\r\n\r\nGET / ")


@pytest.mark.parametrize("size", [0, 1, 3, 100])
def test_random_blocks_are_variables_or_nothing(size: int) -> None:
    dice = random.Random(SEED + size)
    for _ in range(500):
        block = dice.randbytes(size)
        try:
            uwsgi_packet.parse_vars(block)
        except ProtocolError:
            continue
