"""The client side of an SMTP conversation, sans-io: replies in, what to send out. It must never touch a socket."""

import base64
import re
from collections.abc import Generator
from typing import Final

import attrs

from palatine.errors import ProtocolError

MAX_REPLY_BYTES: Final = 64 * 1024
_LINE: Final = re.compile(rb"([2-5][0-9]{2})([ -]?)(.*)", re.DOTALL)
_BARE_NEWLINE: Final = re.compile(rb"\r?\n|\r")


@attrs.frozen
class Reply:
    """A server's reply; `lines` without codes."""

    code: int
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.code} {' / '.join(self.lines)}"[:300]


@attrs.frozen
class Mail:
    """What to say. `starttls` where the connection must become secure before anything private is said."""

    name: str
    sender: str
    recipients: tuple[str, ...]
    text: bytes = attrs.field(repr=False)
    user: str = ""
    password: str = attrs.field(default="", repr=False)
    starttls: bool = False


@attrs.frozen
class Send:
    """Send `data` (maybe nothing), then read one reply."""

    data: bytes = attrs.field(repr=False)


@attrs.frozen
class StartTls:
    """Begin TLS; no reply follows."""


class RefusedError(Exception):
    """The server said no; `lasting` where asking again cannot help."""

    def __init__(self, reason: str, *, lasting: bool) -> None:
        super().__init__(reason)
        self.lasting = lasting


Dialogue = Generator[Send | StartTls, Reply | None, str]


class ReplyReader:
    """Bytes from the server into replies; ProtocolError for what is not SMTP."""

    def __init__(self) -> None:
        self._bytes = b""
        self._lines: list[str] = []
        self._size = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is half read: before TLS begins nothing may be."""
        return not self._bytes and not self._lines

    def feed(self, data: bytes) -> None:
        """Take bytes as they come."""
        self._bytes += data
        self._size += len(data)
        if self._size > MAX_REPLY_BYTES:
            raise ProtocolError("the mail server's reply has no end")

    def next(self) -> Reply | None:
        """The next whole reply, None until more has been fed."""
        while b"\n" in self._bytes:
            line, _, self._bytes = self._bytes.partition(b"\n")
            found = _LINE.fullmatch(line.rstrip(b"\r"))
            if found is None:
                raise ProtocolError(f"not a mail server: {line[:60]!r}")
            self._lines.append(found[3].decode("utf-8", "replace"))
            if found[2] != b"-":
                reply = Reply(int(found[1]), tuple(self._lines))
                self._lines = []
                self._size = len(self._bytes)
                return reply
        return None


def converse(mail: Mail) -> Dialogue:
    """Deliver `mail`; returns a note about recipients refused while others were accepted. RefusedError otherwise.

    Send the generator each reply (None after StartTls). QUIT is left to the caller: the mail is delivered before it.
    """
    _expect((yield Send(b"")), "greeting")
    offers = yield from _hello(mail)
    if mail.starttls:
        if "STARTTLS" not in offers:
            raise RefusedError("the mail server does not offer STARTTLS", lasting=True)
        _expect((yield _line("STARTTLS")), "STARTTLS")
        yield StartTls()
        offers = yield from _hello(mail)
    if mail.user and "AUTH" in offers:
        yield from _authenticate(mail, offers["AUTH"])
    text = stuffed(mail.text)
    _expect((yield _line(_mail_from(mail, text, offers))), "MAIL FROM")
    refused = yield from _recipients(mail)
    _expect((yield _line("DATA")), "DATA", 300)
    _expect((yield Send(text)), "message")
    return f"refused: {'; '.join(refused)}" if refused else ""


def stuffed(text: bytes) -> bytes:
    """`text` for DATA: lines end in CRLF, a leading dot is doubled, the end is marked."""
    lines = _BARE_NEWLINE.split(text)
    if lines and not lines[-1]:
        lines.pop()
    return b"".join((b"." + line if line[:1] == b"." else line) + b"\r\n" for line in lines) + b".\r\n"


def _hello(mail: Mail) -> Generator[Send, Reply | None, dict[str, str]]:
    """EHLO, or HELO where that is unknown; what the server offers, by keyword."""
    reply = yield _line(f"EHLO {mail.name}")
    assert reply is not None
    if reply.code >= 500:
        _expect((yield _line(f"HELO {mail.name}")), "HELO")
        return {}
    _expect(reply, "EHLO")
    offers: dict[str, str] = {}
    for line in reply.lines[1:]:
        keyword, _, words = line.replace("=", " ", 1).partition(" ")
        offers[keyword.upper()] = words.upper()
    return offers


def _authenticate(mail: Mail, mechanisms: str) -> Generator[Send, Reply | None, None]:
    """PLAIN, or LOGIN where only that is offered."""
    offered = mechanisms.split()
    if "PLAIN" in offered:
        _expect((yield _line("AUTH PLAIN")), "AUTH", 300)
        _expect((yield _secret(f"\0{mail.user}\0{mail.password}")), "AUTH")
    elif "LOGIN" in offered:
        _expect((yield _line("AUTH LOGIN")), "AUTH", 300)
        _expect((yield _secret(mail.user)), "AUTH", 300)
        _expect((yield _secret(mail.password)), "AUTH")
    else:
        raise RefusedError(f"the mail server offers no login this client knows: {mechanisms}", lasting=True)


def _mail_from(mail: Mail, text: bytes, offers: dict[str, str]) -> str:
    words = [f"MAIL FROM:<{mail.sender}>"]
    if "SIZE" in offers:
        words.append(f"SIZE={len(text)}")
    if "8BITMIME" in offers and not text.isascii():
        words.append("BODY=8BITMIME")
    return " ".join(words)


def _recipients(mail: Mail) -> Generator[Send, Reply | None, list[str]]:
    """RCPT for each; one accepted is enough. The refusals in words."""
    replies: list[tuple[str, Reply]] = []
    for recipient in mail.recipients:
        reply = yield _line(f"RCPT TO:<{recipient}>")
        assert reply is not None
        replies.append((recipient, reply))
    refusals = [(recipient, reply) for recipient, reply in replies if not 200 <= reply.code < 300]
    words = [f"{recipient}: {reply}" for recipient, reply in refusals]
    if len(refusals) == len(replies):
        raise RefusedError("; ".join(words), lasting=all(reply.code >= 500 for _, reply in refusals))
    return words


def _expect(reply: Reply | None, step: str, hundred: int = 200) -> None:
    assert reply is not None
    if not hundred <= reply.code < hundred + 100:
        raise RefusedError(f"{step}: {reply}", lasting=reply.code >= 500)


def _line(text: str) -> Send:
    return Send(text.encode("utf-8", "surrogateescape") + b"\r\n")


def _secret(text: str) -> Send:
    return Send(base64.b64encode(text.encode("utf-8", "surrogateescape")) + b"\r\n")
