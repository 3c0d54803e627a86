import re

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.errors import ProtocolError
from palatine_alarm_daemon.smtp_dialogue import (
    MAX_REPLY_BYTES,
    Mail,
    RefusedError,
    Reply,
    ReplyReader,
    StartTls,
    converse,
    stuffed,
)

PLAIN = Mail("me", "", ("a@b",), b"hello\n")
LOGIN = attrs.evolve(PLAIN, user="u", password="p", sender="x@y")

# mail, what the server says; what the client sends ("TLS" where it begins TLS), and the outcome
CASES = [
    (
        PLAIN,
        ["220 hi", "250 sink", "250 ok", "250 ok", "354 go", "250 queued"],
        ["", "EHLO me", "MAIL FROM:<>", "RCPT TO:<a@b>", "DATA", "hello\r\n."],
        "",
    ),
    (
        LOGIN,
        [
            "220 hi",
            "250-sink\r\n250-SIZE 1000\r\n250 AUTH PLAIN LOGIN",
            "334 ",
            "235 ok",
            *["250 ok"] * 2,
            "354 ",
            "250 ",
        ],
        ["", "EHLO me", "AUTH PLAIN", "AHUAcA==", "MAIL FROM:<x@y> SIZE=10", "RCPT TO:<a@b>", "DATA", "hello\r\n."],
        "",
    ),
    (
        LOGIN,
        ["220 hi", "250-sink\r\n250 AUTH=LOGIN", "334 ", "334 ", "235 ok", "250 ok", "250 ok", "354 ", "250 "],
        ["", "EHLO me", "AUTH LOGIN", "dQ==", "cA==", "MAIL FROM:<x@y>", "RCPT TO:<a@b>", "DATA", "hello\r\n."],
        "",
    ),
    (
        attrs.evolve(PLAIN, starttls=True, text=b"\xe9"),
        ["220 hi", "250-sink\r\n250 STARTTLS", "220 go", "250-sink\r\n250 8BITMIME", "250 ", "250 ", "354 ", "250 "],
        [
            "",
            "EHLO me",
            "STARTTLS",
            "TLS",
            "EHLO me",
            "MAIL FROM:<> BODY=8BITMIME",
            "RCPT TO:<a@b>",
            "DATA",
            "\xe9\r\n.",
        ],
        "",
    ),
    (
        attrs.evolve(PLAIN, recipients=("a@b", "c@d")),
        ["220 hi", "250 sink", "250 ok", "550 unknown", "250 ok", "354 ", "250 "],
        ["", "EHLO me", "MAIL FROM:<>", "RCPT TO:<a@b>", "RCPT TO:<c@d>", "DATA", "hello\r\n."],
        "refused: a@b: 550 unknown",
    ),
    (PLAIN, ["220 hi", "500 what", "250 old", "250 ", "250 ", "354 ", "250 "], ["", "EHLO me", "HELO me"], ""),
]

REFUSALS = [
    (PLAIN, ["554 no"], True),
    (PLAIN, ["421 busy"], False),
    (PLAIN, ["220 hi", "421 busy"], False),
    (PLAIN, ["220 hi", "250 ok", "451 later"], False),
    (PLAIN, ["220 hi", "250 ok", "250 ok", "550 no"], True),
    (PLAIN, ["220 hi", "250 ok", "250 ok", "450 greylisted"], False),
    (PLAIN, ["220 hi", "250 ok", "250 ok", "250 ok", "452 full"], False),
    (PLAIN, ["220 hi", "250 ok", "250 ok", "250 ok", "354 go", "554 spam"], True),
    (attrs.evolve(PLAIN, recipients=("a@b", "c@d")), ["220 hi", "250 ok", "250 ok", "550 no", "450 later"], False),
    (LOGIN, ["220 hi", "250-s\r\n250 AUTH PLAIN", "334 ", "535 wrong"], True),
    (LOGIN, ["220 hi", "250-s\r\n250 AUTH GSSAPI"], True),
    (attrs.evolve(PLAIN, starttls=True), ["220 hi", "250 ok"], True),
    (attrs.evolve(PLAIN, starttls=True), ["220 hi", "250-s\r\n250 STARTTLS", "454 later"], False),
]


def talk(mail: Mail, replies: list[str]) -> tuple[list[str], str]:
    reader = ReplyReader()
    reader.feed("".join(f"{reply}\r\n" for reply in replies).encode())
    sent: list[str] = []
    dialogue = converse(mail)
    step = next(dialogue)
    while True:
        reply: Reply | None = None
        if isinstance(step, StartTls):
            sent.append("TLS")
        else:
            sent.append(step.data.decode("latin-1").removesuffix("\r\n"))
            reply = reader.next()
            assert reply is not None, sent
        try:
            step = dialogue.send(reply)
        except StopIteration as done:
            assert reader.idle
            return sent, done.value


@pytest.mark.parametrize(("mail", "replies", "said", "note"), CASES)
def test_mail_is_delivered(mail: Mail, replies: list[str], said: list[str], note: str) -> None:
    sent, outcome = talk(mail, replies)
    assert sent[: len(said)] == said
    assert outcome == note


@pytest.mark.parametrize(("mail", "replies", "lasting"), REFUSALS)
def test_refusals_last_or_not(mail: Mail, replies: list[str], lasting: bool) -> None:  # noqa: FBT001 - a table
    with pytest.raises(RefusedError) as refused:
        talk(mail, replies)
    assert refused.value.lasting is lasting
    assert "secret" not in str(refused.value)


def test_no_login_where_the_server_offers_none_as_curl_does() -> None:
    sent, _ = talk(LOGIN, ["220 hi", "250 ok", "250 ok", "250 ok", "354 ", "250 "])
    assert sent[2] == "MAIL FROM:<x@y>"


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        (b"", b".\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\n", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b".\n..x\n", b"..\r\n...x\r\n.\r\n"),
        (b"a\n\n.\n", b"a\r\n\r\n..\r\n.\r\n"),
        (b"a\rb\n", b"a\r\nb\r\n.\r\n"),
        (b"\n.\r\nQUIT\r\n", b"\r\n..\r\nQUIT\r\n.\r\n"),
    ],
)
def test_text_is_stuffed(text: bytes, wire: bytes) -> None:
    assert stuffed(text) == wire


@given(st.binary())
def test_no_text_ends_the_message_early(text: bytes) -> None:
    wire = stuffed(text)
    assert wire.endswith(b".\r\n")
    assert b"\r\n.\r\n" not in b"\r\n" + wire[:-3]
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", wire)
    unstuffed = b"".join(line.removeprefix(b".") + b"\n" for line in wire[:-3].split(b"\r\n")[:-1])
    assert unstuffed == re.sub(rb"\r\n|\r|\n", b"\n", text) + (b"\n" if text[-1:] not in {b"\n", b"\r", b""} else b"")


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_replies_in_any_pieces(pieces: list[bytes]) -> None:
    def read(chunks: list[bytes]) -> list[Reply] | None:
        reader, replies = ReplyReader(), []
        try:
            for chunk in chunks:
                reader.feed(chunk)
                while (reply := reader.next()) is not None:
                    replies.append(reply)
        except ProtocolError:
            return None
        return replies

    whole = read([b"".join(pieces)])
    assert read(pieces) == whole or whole is None


def test_a_reply_without_end_is_refused() -> None:
    def endless() -> None:
        reader = ReplyReader()
        for _ in range(MAX_REPLY_BYTES):
            reader.feed(b"250-more\r\n")
            assert reader.next() is None

    with pytest.raises(ProtocolError):
        endless()
