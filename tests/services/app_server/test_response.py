"""A response as bytes: framing, what PEP 3333 asks of a server, and what an app may not do."""

import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from palatine_app_server.serving.clients import ClientGoneError
from palatine_app_server.serving.file_wrapper import FileWrapper
from palatine_app_server.serving.response import Response, ResponseError, http_date

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
PLAIN = [("Content-Type", "text/plain")]


class Recorder:
    """What was sent, piece by piece."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended = False
        self.parted = False

    def send(self, data: bytes) -> None:
        assert not self.ended
        self.pieces.append(bytes(data))

    def send_last(self, data: bytes) -> None:
        self.send(data)
        self.ended = True

    def send_parting(self, data: bytes) -> None:
        self.send_last(data)
        self.parted = True

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)


def response(recorder: Recorder, **options: Any) -> Response:
    given: dict[str, Any] = {"framed": True, "http11": True, "keep_alive": True, "head_only": False, "date": DATE}
    given["may_keep"] = lambda: True
    return Response(recorder, **(given | options))


def sent(
    result: Iterable[bytes], headers: list[tuple[str, str]] | None = None, status: str = "200 OK", **options: Any
) -> Any:
    """(status line, headers without Date, body as sent, kept) of an app's answer."""
    recorder = Recorder()
    made = response(recorder, **options)
    made.start_response(status, PLAIN if headers is None else headers)
    made.send_result(result)
    head, _, body = recorder.data.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    return line, [field for field in fields if not field.startswith("Date:")], body, made.keep_alive


def pieces(*parts: bytes) -> Iterator[bytes]:
    yield from parts


class Closing(list[bytes]):
    """An app's result that may take its time when it is closed."""

    def close(self) -> None:
        raise AssertionError


TYPE = "Content-Type: text/plain"
CHUNKED = "Transfer-Encoding: chunked"
CLOSE = "Connection: close"
HTTP10: dict[str, Any] = {"http11": False, "keep_alive": False}
KEPT10: dict[str, Any] = {"http11": False, "keep_alive": True}
HEAD: dict[str, Any] = {"head_only": True}

#: (what the app returns, its own Content-Length, options, headers added, body as sent, kept)
FRAMES: list[tuple[Any, int | None, dict[str, Any], list[str], bytes, bool]] = [
    ([b"hello"], None, {}, ["Content-Length: 5"], b"hello", True),
    ([b"hel", b"lo"], None, {}, ["Content-Length: 5"], b"hello", True),
    ((b"hello",), None, {}, ["Content-Length: 5"], b"hello", True),
    ([], None, {}, ["Content-Length: 0"], b"", True),
    ([b""], None, {}, ["Content-Length: 0"], b"", True),
    ([bytearray(b"hi")], None, {}, ["Content-Length: 2"], b"hi", True),
    ([memoryview(b"hi")], None, {}, ["Content-Length: 2"], b"hi", True),
    ([b"hello"], 5, {}, [], b"hello", True),
    (lambda: pieces(b"hel", b"", b"lo"), None, {}, [CHUNKED], b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", True),
    (lambda: pieces(b"hel", b"lo"), 5, {}, [], b"hello", True),
    (pieces, None, {}, ["Content-Length: 0"], b"", True),
    (lambda: pieces(b"", b""), None, {}, ["Content-Length: 0"], b"", True),
    (lambda: pieces(b"x" * 17), None, {}, [CHUNKED], b"11\r\n" + b"x" * 17 + b"\r\n0\r\n\r\n", True),
    ([b"hello"], None, HTTP10, ["Content-Length: 5", CLOSE], b"hello", False),
    ([b"hello"], None, KEPT10, ["Content-Length: 5", "Connection: keep-alive"], b"hello", True),
    (lambda: pieces(b"hel", b"lo"), None, HTTP10, [CLOSE], b"hello", False),
    (lambda: pieces(b"hel", b"lo"), None, KEPT10, [CLOSE], b"hello", False),
    (lambda: pieces(b"hel", b"lo"), 5, KEPT10, ["Connection: keep-alive"], b"hello", True),
    ([b"hello"], None, {"keep_alive": False}, ["Content-Length: 5", CLOSE], b"hello", False),
    ([b"hello"], None, {"may_keep": lambda: False}, ["Content-Length: 5", CLOSE], b"hello", False),
    ([b"hello"], None, HEAD, ["Content-Length: 5"], b"", True),
    ([b"hello"], 5, HEAD, [], b"", True),
    ([], 5, HEAD, [], b"", True),
    ([], None, HEAD, [], b"", True),
    (lambda: pieces(b"hel", b"lo"), None, HEAD, [CHUNKED], b"", True),
    (lambda: pieces(b"hel", b"lo"), None, HEAD | KEPT10, [CLOSE], b"", False),
    (lambda: pieces(b"hel"), 3, HEAD, [], b"", True),
    # the uwsgi protocol: the front end frames
    ([b"hello"], None, {"framed": False, "keep_alive": False}, [], b"hello", False),
    (lambda: pieces(b"hel", b"lo"), None, {"framed": False, "keep_alive": False}, [], b"hello", False),
]


@pytest.mark.parametrize(("result", "length", "options", "added", "body", "kept"), FRAMES)
def test_framing(
    result: Any, length: int | None, options: dict[str, Any], added: list[str], body: bytes, *, kept: bool
) -> None:
    own = PLAIN + ([] if length is None else [("Content-Length", str(length))])
    expected = [f"{name}: {value}" for name, value in own] + added
    assert sent(result() if callable(result) else result, own, **options) == ("HTTP/1.1 200 OK", expected, body, kept)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "199 Odd"])
@pytest.mark.parametrize("result", [[], [b"ignored"], None])
def test_responses_that_have_no_body(status: str, result: list[bytes] | None) -> None:
    found = sent(pieces(b"ignored") if result is None else result, [("ETag", '"x"')], status)
    assert found == (f"HTTP/1.1 {status}", ['ETag: "x"'], b"", True)


@pytest.mark.parametrize("status", ["204 No Content", "199 Odd"])
def test_a_length_of_no_body_is_not_told(status: str) -> None:
    own = [("A", "content-length: 1"), ("content-Length", "12"), ("ETag", '"x"')]
    assert sent([], own, status)[1:] == (["A: content-length: 1", 'ETag: "x"'], b"", True)


def test_a_304_may_say_how_long_the_body_would_be() -> None:
    assert sent([], [("Content-Length", "12")], "304 Not Modified")[1:] == (["Content-Length: 12"], b"", True)


def test_the_apps_own_date_and_close_are_kept() -> None:
    recorder = Recorder()
    made = response(recorder)
    made.start_response("200 OK", [("date", "then"), ("CONNECTION", "Close")])
    made.send_result([b"x"])
    assert recorder.data == b"HTTP/1.1 200 OK\r\ndate: then\r\nCONNECTION: Close\r\nContent-Length: 1\r\n\r\nx"
    assert not made.keep_alive


def test_head_and_body_go_in_one_piece_and_streams_start_at_once() -> None:
    recorder = Recorder()
    made = response(recorder)
    made.start_response("200 OK", PLAIN)
    made.send_result([b"a", b"b"])
    assert len(recorder.pieces) == 1
    recorder = Recorder()
    made = response(recorder)
    made.start_response("200 OK", PLAIN)
    made.send_result(pieces(b"a", b"b"))
    assert recorder.pieces[0].endswith(b"\r\n\r\n1\r\na\r\n")
    assert recorder.pieces[1:] == [b"1\r\nb\r\n", b"0\r\n\r\n"]


def test_write_sends_before_what_is_returned() -> None:
    recorder = Recorder()
    made = response(recorder)
    write = made.start_response("200 OK", PLAIN)
    write(b"one ")
    assert recorder.data.endswith(b"\r\n\r\n4\r\none \r\n")
    write(b"")
    made.send_result([b"two"])
    assert recorder.data.partition(b"\r\n\r\n")[2] == b"4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n"
    assert made.body_bytes == 7


def test_an_empty_write_sends_the_head() -> None:
    recorder = Recorder()
    made = response(recorder)
    made.start_response("200 OK", PLAIN)(b"")
    assert recorder.data.endswith(b"\r\n\r\n")
    made.send_result([])
    assert recorder.data.endswith(b"\r\n\r\n0\r\n\r\n")


WRONG = [
    ("", [], "malformed status"),
    ("200\r\nX: y", [], "malformed status"),
    ("200 OK\n", [], "malformed status"),
    ("200 O\0K", [], "malformed status"),
    ("20 OK", [], "malformed status"),
    ("2000 OK", [], "malformed status"),
    ("OK", [], "malformed status"),
    ("200 OK", [("X", "a\r\nSet-Cookie: b")], "line end or NUL"),
    ("200 OK", [("X", "a\nb")], "line end or NUL"),
    ("200 OK", [("X", "a\rb")], "line end or NUL"),
    ("200 OK", [("X", "a\r\n\r\n<html>")], "line end or NUL"),
    ("200 OK", [("X\r\nY", "a")], "line end or NUL"),
    ("200 OK", [("X", "a\0")], "line end or NUL"),
    ("200 OK", [("Content-Length", "-1")], "malformed Content-Length"),
    ("200 OK", [("Content-Length", "")], "malformed Content-Length"),
    ("200 OK", [("Content-Length", "1 ")], "malformed Content-Length"),
    ("200 OK", [("Content-Length", "\xb2")], "malformed Content-Length"),
    ("200 OK", [("Transfer-Encoding", "chunked")], "the server's business"),
]


@pytest.mark.parametrize(("status", "headers", "why"), WRONG)
def test_what_could_split_or_unframe_a_response_is_refused(
    status: str, headers: list[tuple[str, str]], why: str
) -> None:
    recorder = Recorder()
    made = response(recorder)
    with pytest.raises(ResponseError, match=why):
        made.start_response(status, headers)
    made.send_plain("500 Internal Server Error", "sorry")
    assert recorder.data.startswith(b"HTTP/1.1 500 ")
    assert recorder.data.endswith(b"Content-Length: 5\r\nDate: " + DATE.encode() + b"\r\n\r\nsorry")


@pytest.mark.parametrize("headers", [[(b"X", b"y")], [("X", b"y")], [("X", 5)], [("Content-Length", 5)], [("X", None)]])
def test_headers_are_text(headers: Any) -> None:
    with pytest.raises(TypeError):
        response(Recorder()).start_response("200 OK", headers)


def test_what_cannot_be_encoded_is_an_error_before_anything_is_sent() -> None:
    recorder = Recorder()
    made = response(recorder)
    made.start_response("200 OK", [("X", "\u20ac")])
    with pytest.raises(UnicodeEncodeError):
        made.send_result([b"x"])
    assert not made.head_sent
    made.send_plain("500 Internal Server Error", "sorry")
    assert recorder.data.startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("result", [["text"], ["te", "xt"], [b"x", "y"], [5]])
@pytest.mark.parametrize("status", ["200 OK", "204 No Content"])
def test_a_body_is_bytes(result: Any, status: str) -> None:
    for made_of in (result, iter(result)):
        recorder = Recorder()
        made = response(recorder)
        made.start_response(status, PLAIN)
        if status == "200 OK":
            with pytest.raises(TypeError):
                made.send_result(made_of)
        if not made.head_sent:
            made.send_plain("500 Internal Server Error", "sorry")
            assert recorder.data.endswith(b"\r\n\r\nsorry")


def test_start_response_may_be_called_again_only_with_exc_info() -> None:
    recorder = Recorder()
    made = response(recorder)
    made.start_response("200 OK", [("Content-Length", "3"), ("Connection", "close")])
    with pytest.raises(ResponseError, match="twice"):
        made.start_response("200 OK", PLAIN)
    error = ValueError("x")
    made.start_response("500 Oops", PLAIN, (ValueError, error, None))  # type: ignore[arg-type] # no traceback here
    made.send_result([b"sorry"])
    assert recorder.data.startswith(b"HTTP/1.1 500 Oops\r\nContent-Type: text/plain\r\n")
    assert b"close" not in recorder.data
    assert made.keep_alive


def test_exc_info_is_raised_once_the_head_is_out() -> None:
    recorder = Recorder()
    made = response(recorder)
    made.start_response("200 OK", PLAIN)(b"begun")
    error = ValueError("too late")
    with pytest.raises(ValueError, match="too late"):
        made.start_response("500 Oops", PLAIN, (ValueError, error, error.__traceback__))  # type: ignore[arg-type] # likewise
    assert b"500" not in recorder.data


@pytest.mark.parametrize("result", [[b"x"], [], iter([b"x"]), iter([])])
def test_a_body_before_start_response_is_an_error(result: Any) -> None:
    recorder = Recorder()
    with pytest.raises(ResponseError, match="before start_response"):
        response(recorder).send_result(result)
    assert recorder.data == b""


@pytest.mark.parametrize(
    ("length", "result", "wire"),
    [
        (3, [b"hello"], b"hel"),
        (0, [b"hello"], b""),
        (9, [b"hello"], b"hello"),
        (3, lambda: pieces(b"he", b"llo", b"more"), b"hel"),
        (2, lambda: pieces(b"he", b"llo", b"more"), b"he"),
        (9, lambda: pieces(b"he", b"llo"), b"hello"),
    ],
)
def test_nothing_is_sent_behind_the_declared_length_and_the_app_hears_of_it(
    length: int, result: Any, wire: bytes
) -> None:
    recorder = Recorder()
    made = response(recorder)
    made.start_response("200 OK", [("Content-Length", str(length))])
    with pytest.raises(ResponseError, match=f"declared a Content-Length of {length} and sent"):
        made.send_result(result() if callable(result) else result)
    assert recorder.data.partition(b"\r\n\r\n")[2] == wire
    assert not made.keep_alive
    if not callable(result):
        assert b"Connection: close" in recorder.data


def test_an_abandoned_response_says_nothing_more() -> None:
    recorder = Recorder()
    made = response(recorder)
    made.start_response("200 OK", PLAIN)
    made.abandon()
    with pytest.raises(ClientGoneError):
        made.send_result([b"late"])
    with pytest.raises(ClientGoneError):
        made.write(b"late")
    assert recorder.data == b""
    assert not made.keep_alive


def test_the_date_is_imf_fixdate() -> None:
    assert http_date(784111777) == DATE
    assert http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert http_date(951782400) == "Tue, 29 Feb 2000 00:00:00 GMT"


@pytest.mark.parametrize(
    ("result", "body", "switches"),
    [
        ([""], b"", 1),
        (["", b"x", None], b"x", 3),
        (iter(["", b"x"]), b"x", 2),
        ([], b"", 0),
        ((b"a", b"b"), b"ab", 2),
        (FileWrapper(io.BytesIO(b"12345"), 2), b"12345", 0),
    ],
)
def test_empty_pieces_are_nothing_and_switches_are_counted_as_in_uwsgi(result: Any, body: bytes, switches: int) -> None:
    recorder = Recorder()
    made = response(recorder, http11=False)
    made.start_response("200 OK", PLAIN)
    made.send_result(result)
    assert recorder.data.partition(b"\r\n\r\n")[2] == body
    assert made.switches == switches


def test_the_figures_of_the_request_line() -> None:
    made = response(Recorder())
    made.start_response("404 Not Found", [("A", "b"), ("C", "d")])
    made.send_result([b"12345"])
    assert (made.status, made.header_count, made.body_bytes, made.switches) == (404, 2, 5, 1)
    assert made.header_bytes == len(b"HTTP/1.1 404 Not Found\r\nA: b\r\nC: d\r\n\r\n")


class File:
    def __init__(self) -> None:
        self.left = [b"abc", b"de", b""]
        self.closed = 0

    def read(self, size: int) -> bytes:
        assert size == 3
        return self.left.pop(0)

    def close(self) -> None:
        self.closed += 1


def test_the_file_wrapper_reads_in_blocks_and_closes() -> None:
    file = File()
    wrapper = FileWrapper(file, 3)
    assert list(wrapper) == [b"abc", b"de"]
    wrapper.close()
    assert file.closed == 1
    assert not hasattr(FileWrapper(object()), "close")


def test_every_head_is_parsed_back() -> None:
    """What goes out has one status line, clean fields and one empty line."""
    for result, length, options, *_ in FRAMES:
        recorder = Recorder()
        made = response(recorder, **options)
        made.start_response("200 OK", PLAIN + ([] if length is None else [("Content-Length", str(length))]))
        made.send_result(result() if callable(result) else result)
        head = recorder.data.partition(b"\r\n\r\n")[0]
        assert re.fullmatch(rb"HTTP/1\.1 200 OK(\r\n[A-Za-z-]+: [ -~]+)*", head)


@pytest.mark.parametrize(
    ("result", "keep_alive", "parted"),
    [([b"a"], False, True), ([b"a"], True, False), (Closing([b"a"]), False, False), (pieces(b"a"), False, False)],
)
def test_only_an_answer_behind_which_nobody_works_waits_for_the_end(
    result: Iterable[bytes], *, keep_alive: bool, parted: bool
) -> None:
    recorder = Recorder()
    made = response(recorder, keep_alive=keep_alive)
    made.start_response("200 OK", PLAIN)
    made.send_result(result)
    assert recorder.pieces
    assert recorder.parted is parted
