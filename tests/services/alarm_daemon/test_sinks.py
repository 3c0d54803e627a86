"""Deliveries to real servers: http.server, https, and aiosmtpd with login, STARTTLS and implicit TLS."""

import base64
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from palatine_alarm_daemon.curl_options import parse_curl
from palatine_alarm_daemon.delivery_policy import Failed, Succeeded
from palatine_alarm_daemon.mail import Mailer
from palatine_alarm_daemon.web import Web


@attrs.define
class Got:
    """One HTTP request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    port: int


class Sink(ThreadingHTTPServer):
    """Answers `statuses` in turn, 200 after the last; hangs where one is 0."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[Got] = []
        self.statuses: list[int] = []
        self.release = threading.Event()

    @property
    def at(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Sink
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.got.append(Got(self.command, self.path, headers, body, self.client_address[1]))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if not status:
            self.server.release.wait(20)
            status = 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_PUT = do_POST = do_GET = do_NOTIFY = _take  # noqa: N815 - http.server's names

    def log_message(self, *_: Any) -> None:
        pass


def serve(sink: Sink) -> Iterator[Sink]:
    thread = threading.Thread(target=sink.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield sink
    sink.release.set()
    sink.shutdown()
    thread.join()
    sink.server_close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    yield from serve(Sink())


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-made certificate and its key for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "sink.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def send(arg: str, message: bytes = b"PUTME hello\n") -> Succeeded | Failed:
    web = Web()
    try:
        return await web.deliver(parse_curl(arg), message, "1d")
    finally:
        await web.aclose()


async def test_put_with_a_length_as_documented(sink: Sink) -> None:
    assert await send(f"http://{sink.at}/argh?x=1;auth_user=topogigio;auth_pass=foobar") == Succeeded()
    [got] = sink.got
    assert (got.method, got.path, got.body) == ("PUT", "/argh?x=1", b"PUTME hello\n")
    assert got.headers["content-length"] == "12"
    assert got.headers["authorization"] == f"Basic {base64.b64encode(b'topogigio:foobar').decode()}"
    assert got.headers["accept"] == "*/*"
    assert got.headers["idempotency-key"] == "1d"
    assert not {"transfer-encoding", "expect", "content-type"} & set(got.headers)


@pytest.mark.parametrize(
    ("options", "method", "body"),
    [
        (";method=POST;subject=hello subj", "POST", b"Subject: hello subj\r\n\r\nPUTME hello\n"),
        (";method=NOTIFY;mail_to=a@b", "NOTIFY", b"To: a@b\r\n\r\nPUTME hello\n"),
        (";nosuch=1", "PUT", b"PUTME hello\n"),
    ],
)
async def test_method_and_header_text(sink: Sink, options: str, method: str, body: bytes) -> None:
    assert await send(f"http://{sink.at}/{options}") == Succeeded()
    assert (sink.got[0].method, sink.got[0].body) == (method, body)


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (204, Succeeded()),
        (302, Succeeded()),
        (404, Succeeded("answered 404")),
        (500, Failed("answered 500")),
        (503, Failed("answered 503")),
        (429, Failed("answered 429")),
    ],
)
async def test_answers(sink: Sink, status: int, result: Succeeded | Failed) -> None:
    sink.statuses = [status]
    assert await send(f"http://{sink.at}/") == result
    assert len(sink.got) == 1  # redirects are not followed


async def test_a_connection_is_kept(sink: Sink) -> None:
    web = Web()
    for number in range(3):
        assert await web.deliver(parse_curl(f"http://{sink.at}/"), b"%d" % number, "1d") == Succeeded()
    await web.aclose()
    assert len({got.port for got in sink.got}) == 1


async def test_a_server_that_hangs_costs_the_timeout(sink: Sink) -> None:
    sink.statuses = [0]
    assert await send(f"http://{sink.at}/;timeout=0.3") == Failed("no answer after 0.3 s")


async def test_nobody_there_is_tried_again() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        result = await send(f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert isinstance(result, Failed)
    assert not result.lasting


async def test_https_verifies_unless_told_not_to(sink: Sink, tls: ssl.SSLContext) -> None:
    sink.socket = tls.wrap_socket(sink.socket, server_side=True)
    where = f"https://localhost:{sink.server_address[1]}/"
    refused = await send(where)
    assert isinstance(refused, Failed)
    assert "certificate" in refused.reason.lower()
    assert await send(f"{where};ssl_insecure=false;conn_timeout=2") == refused
    assert await send(f"{where};ssl_insecure=true") == Succeeded()
    assert [got.body for got in sink.got] == [b"PUTME hello\n"]


class Mailbox:
    """aiosmtpd's handler: keeps envelopes; `refuse` are recipients it does not take."""

    def __init__(self) -> None:
        self.mails: list[tuple[str | None, list[str], bytes, bool, bool]] = []
        self.refuse: dict[str, str] = {}
        self.options: list[str] = []

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - as above
        content = envelope.content
        assert isinstance(content, bytes)
        secure = server.transport is not None and server.transport.get_extra_info("ssl_object") is not None
        self.options += envelope.mail_options
        self.mails.append((envelope.mail_from, list(envelope.rcpt_tos), content, secure, bool(session.authenticated)))
        return "250 queued"


class Local(Controller):
    """A controller on a port of the system's choice."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]  # type: ignore[union-attr]  # set once it listens
        super()._trigger_server()  # type: ignore[no-untyped-call]  # aiosmtpd types only some of it


Smtpd = Callable[..., tuple[Mailbox, int]]


@pytest.fixture
def smtpd() -> Iterator[Smtpd]:
    started: list[Local] = []

    def login(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
        right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"uwsgi", b"secret")
        return AuthResult(success=right, handled=False)

    def start(**options: Any) -> tuple[Mailbox, int]:
        mailbox = Mailbox()
        controller = Local(mailbox, hostname="127.0.0.1", port=0, authenticator=login, **options)
        controller.start()
        started.append(controller)
        return mailbox, controller.port

    yield start
    for controller in started:
        controller.stop()


async def mail(arg: str, message: bytes = b"MAILME hello\n") -> Succeeded | Failed:
    return await Mailer().deliver(parse_curl(arg), message)


async def test_mail_arrives_with_to_and_subject(smtpd: Smtpd) -> None:
    mailbox, port = smtpd()
    arg = f"smtp://127.0.0.1:{port};mail_to=admin@example.com;mail_from=uwsgi@example.com;subject=alarm from uWSGI !!!"
    assert await mail(arg, b"first\n.second\nthird") == Succeeded()
    [(sender, recipients, text, secure, known)] = mailbox.mails
    assert (sender, recipients) == ("uwsgi@example.com", ["admin@example.com"])
    assert text == b"To: admin@example.com\r\nSubject: alarm from uWSGI !!!\r\n\r\nfirst\r\n.second\r\nthird\r\n"
    assert not secure
    assert not known


@pytest.mark.parametrize("excluded", [[], ["PLAIN"]])
async def test_mail_with_login(smtpd: Smtpd, excluded: list[str]) -> None:
    mailbox, port = smtpd(auth_require_tls=False, auth_exclude_mechanism=excluded)
    arg = f"smtp://127.0.0.1:{port};mail_to=a@b.c,d@e.f;auth_user=uwsgi;auth_pass="
    assert await mail(f"{arg}secret", b"caf\xe9\n") == Succeeded()
    assert mailbox.mails[0][:2] == ("<>", ["a@b.c", "d@e.f"])
    assert mailbox.mails[0][4]
    assert "BODY=8BITMIME" in mailbox.options
    wrong = await mail(f"{arg}wrong")
    assert isinstance(wrong, Failed)
    assert wrong.lasting
    assert "wrong" not in wrong.reason


async def test_one_recipient_refused_does_not_lose_the_others(smtpd: Smtpd) -> None:
    mailbox, port = smtpd()
    mailbox.refuse = {"gone@example.com": "550 no such user"}
    arg = f"smtp://127.0.0.1:{port};mail_to=gone@example.com,a@b.c"
    assert await mail(arg) == Succeeded("refused: gone@example.com: 550 no such user")
    assert mailbox.mails[0][1] == ["a@b.c"]
    mailbox.refuse = {"gone@example.com": "550 no", "a@b.c": "450 greylisted"}
    assert await mail(arg) == Failed("gone@example.com: 550 no; a@b.c: 450 greylisted")


async def test_starttls_is_required_by_ssl(smtpd: Smtpd, tls: ssl.SSLContext) -> None:
    mailbox, port = smtpd(tls_context=tls)
    arg = f"smtp://localhost:{port};mail_to=a@b.c;ssl=true;auth_user=uwsgi;auth_pass=secret"
    unverified = await mail(arg)
    assert isinstance(unverified, Failed)
    assert "certificate" in unverified.reason.lower()
    assert await mail(f"{arg};ssl_insecure=true") == Succeeded()
    assert mailbox.mails[0][3:] == (True, True)
    _, plain = smtpd()
    assert await mail(arg.replace(str(port), str(plain))) == Failed(
        "the mail server does not offer STARTTLS", lasting=True
    )


async def test_smtps_is_secure_from_the_start(smtpd: Smtpd, tls: ssl.SSLContext) -> None:
    mailbox, port = smtpd(ssl_context=tls)
    assert await mail(f"smtps://localhost:{port};mail_to=a@b.c;ssl_insecure=true") == Succeeded()
    assert mailbox.mails[0][3] is True


async def test_a_mail_server_that_hangs_or_is_none(sink: Sink) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert await mail(f"smtp://127.0.0.1:{port};mail_to=a@b.c;timeout=0.3") == Failed("no end after 0.3 s")
    nobody = await mail(f"smtp://127.0.0.1:{port};mail_to=a@b.c")
    assert isinstance(nobody, Failed)
    assert not nobody.lasting
    web = await mail(f"smtp://{sink.at};mail_to=a@b.c;timeout=0.5")
    assert isinstance(web, Failed)


async def test_the_daemon_delivers_by_http_and_mail_across_a_kill(
    daemon: Any, links: Any, until: Any, sink: Sink, smtpd: Smtpd
) -> None:
    mailbox, port = smtpd()
    config = {
        "alarms": [
            {"name": "web", "action": "curl", "arg": f"http://{sink.at}/alarm"},
            {"name": "mail", "action": "curl", "arg": f"smtp://127.0.0.1:{port};mail_to=a@b.c;subject=alarm"},
        ],
        "rules": [{"alarms": ["web", "mail"], "regexp": "^ALARM", "negate": False}],
    }
    sink.statuses = [503, 200, 500]
    daemon.state.mkdir()
    daemon.config.write_text("retry-first: 0.05\n")
    await daemon.start()
    link = await links("app", config=config)
    link.print(*(f"ALARM {number}" for number in range(100)))
    await until(lambda: len(sink.got) > 30 and len(mailbox.mails) > 10)
    daemon.kill()
    await daemon.start()
    await daemon.idle(30)
    bodies = [got.body for got in sink.got]
    once = list(dict.fromkeys(bodies))
    assert once == [b"ALARM %d\n" % number for number in range(100)]
    assert len(bodies) <= 103  # two answers asked for another try, one was under way at the kill
    keys = {got.body: got.headers["idempotency-key"] for got in sink.got}
    assert all(keys[got.body] == got.headers["idempotency-key"] for got in sink.got)
    mails = [text for _, _, text, _, _ in mailbox.mails]
    expected = [b"To: a@b.c\r\nSubject: alarm\r\n\r\nALARM %d\r\n" % number for number in range(100)]
    assert list(dict.fromkeys(mails)) == expected
    assert len(mails) <= 101
