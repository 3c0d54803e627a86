"""Delivers a `curl:smtp://` alarm over one connection; it must never wait longer than the alarm's timeouts."""

import socket
import ssl
from typing import Final

import trio

from palatine.errors import ProtocolError
from palatine_alarm_daemon.curl_options import Curl
from palatine_alarm_daemon.delivery_policy import Failed, Succeeded
from palatine_alarm_daemon.reasons import reason_of
from palatine_alarm_daemon.smtp_dialogue import Dialogue, Mail, RefusedError, Reply, ReplyReader, StartTls, converse

_PORTS: Final = {"smtp": 25, "smtps": 465}
_CHUNK: Final = 4096


class Mailer:
    """Sends mail; keeps the TLS contexts, which take 10 ms to make."""

    def __init__(self) -> None:
        self._contexts: dict[bool, ssl.SSLContext] = {}

    async def deliver(self, curl: Curl, message: bytes) -> Succeeded | Failed:
        """One attempt."""
        mail = Mail(
            name=socket.gethostname() or "localhost",
            sender=curl.mail_from,
            recipients=curl.recipients,
            text=curl.text(message),
            user=curl.user,
            password=curl.password,
            starttls=curl.tls and curl.url.scheme == "smtp",
        )
        try:
            with trio.fail_after(curl.timeout):
                return Succeeded(await self._send(curl, mail))
        except RefusedError as error:
            return Failed(str(error), lasting=error.lasting)
        except trio.TooSlowError:
            return Failed(f"no end after {curl.timeout:g} s")
        except (OSError, trio.BrokenResourceError, ProtocolError) as error:
            return Failed(reason_of(error))

    async def _send(self, curl: Curl, mail: Mail) -> str:
        host = curl.url.hostname or ""
        with trio.fail_after(curl.connect_timeout):
            stream: trio.abc.Stream = await trio.open_tcp_stream(host, curl.url.port or _PORTS[curl.url.scheme])
        connection = _Connection(stream)
        try:
            if curl.url.scheme == "smtps":
                connection.secure(self._context(verify=curl.verify), host)
            note = await self._converse(converse(mail), connection, self._context(verify=curl.verify), host)
            await connection.farewell()
            return note
        finally:
            await trio.aclose_forcefully(connection.stream)

    @staticmethod
    async def _converse(dialogue: Dialogue, connection: "_Connection", context: ssl.SSLContext, host: str) -> str:
        step = next(dialogue)
        while True:
            reply: Reply | None = None
            if isinstance(step, StartTls):
                connection.secure(context, host)
            else:
                reply = await connection.ask(step.data)
            try:
                step = dialogue.send(reply)
            except StopIteration as done:
                note: str = done.value
                return note

    def _context(self, *, verify: bool) -> ssl.SSLContext:
        context = self._contexts.get(verify)
        if context is None:
            context = self._contexts[verify] = ssl.create_default_context()
            if not verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
        return context


class _Connection:
    """The stream and what was read of it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._reader = ReplyReader()

    def secure(self, context: ssl.SSLContext, host: str) -> None:
        """TLS from here on; what the server said before may not leak into it."""
        if not self._reader.idle:
            raise ProtocolError("the mail server spoke before TLS began")
        self.stream = trio.SSLStream(self.stream, context, server_hostname=host, https_compatible=True)

    async def ask(self, data: bytes) -> Reply:
        """Send, and read one reply."""
        if data:
            await self.stream.send_all(data)
        while (reply := self._reader.next()) is None:
            received = await self.stream.receive_some(_CHUNK)
            if not received:
                raise ProtocolError("the mail server closed the connection")
            self._reader.feed(bytes(received))
        return reply

    async def farewell(self) -> None:
        """QUIT; the mail is accepted, so what goes wrong now does not count."""
        try:
            await self.ask(b"QUIT\r\n")
        except (OSError, trio.BrokenResourceError, ProtocolError):
            return
