"""A client connection over TLS: the same state machine, with records in between. No thread waits for a handshake.

Sending in pieces of one record keeps OpenSSL's rule that what could not be sent is offered again as it was.
"""

import contextlib
import os
import socket
import ssl
from typing import Any, Final

from palatine.codec.http_head import HeadParser
from palatine_app_server.serving.clients import READ_BYTES, ClientGoneError, Limits, Listener, Next
from palatine_app_server.serving.connection import Connection

#: RFC 8446 5.1: a record carries at most this much.
RECORD_BYTES: Final = 16384


class TlsConnection(Connection):
    """`context` is the listener's."""

    __slots__ = ("_certificate", "_context", "_shaken", "_tls")

    def __init__(
        self, fd: int, peer: str, listener: Listener, limits: Limits, now: float, heads: HeadParser | None = None
    ) -> None:
        super().__init__(fd, peer, listener, limits, now, heads)
        assert listener.tls is not None
        self._context = listener.tls
        self._tls: ssl.SSLSocket | None = None
        self._shaken = False
        self._certificate: dict[str, str] = {}  # what the app hears of the client's

    def receive(self, now: float) -> Next:
        """As `Connection.receive`; until the handshake is over, its next step."""
        if self._lingering:
            return super().receive(now)  # what comes is dropped undeciphered
        if not self._shaken and not self._shake():
            return Next.WAIT
        if self.pipelined:
            return super().receive(now)
        try:
            data = self.read()
        except BlockingIOError:
            return Next.WAIT
        if not data:
            return Next.CLOSE
        begins = self.head is not None or not self._buffer
        step = self.advance(data)
        if begins and step is Next.WAIT:
            seconds = self._limits.head_seconds if self.head is None else 0.0
            self.deadline = now + (seconds or self._limits.read_seconds)
        return step

    def advance(self, data: bytes = b"") -> Next:
        """As `Connection.advance`; the app hears who the client is, where a certificate says so."""
        step = super().advance(data)
        if step is Next.SERVE and self._certificate:
            self.environ.update(self._certificate)
        return step

    def close(self) -> None:
        """Say goodbye as TLS wants it, and close."""
        if self._tls is not None:
            self._say_goodbye()
            self._tls.detach()
        super().close()

    def linger(self, now: float) -> None:
        """As `Connection.linger`."""
        self._say_goodbye()
        super().linger(now)

    def interject(self, data: bytes) -> None:
        """As `Connection.interject`."""
        if self._shaken and self._tls is not None:
            self._tls.send(data)

    def send_from(self, fd: int, start: int, length: int) -> int:
        """As `Connection.send_from`, but the bytes have to pass through here."""
        data = os.pread(fd, min(length, RECORD_BYTES), start)
        if not data:
            raise ClientGoneError("the file became shorter while it was sent")
        return self._send_record(data)

    def _shake(self) -> bool:
        """Go on with the handshake; whether it is over."""
        if self._tls is None:
            raw = socket.socket(fileno=self.fd)
            raw.setblocking(False)  # the object has to know what the descriptor is
            self._tls = self._context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
        self.pipelined = False
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLWantWriteError:
            self.pipelined = True  # the worker waits until it can be written to
            return False
        except OSError as error:  # ssl.SSLError is one
            if getattr(self._context, "verbose", False):
                os.write(2, f"[uwsgi-https] client {self.peer}: {error}\n".encode("latin-1", "replace"))
            raise
        self._shaken = True
        certificate = self._tls.getpeercert()
        if certificate:
            self._certificate = {"HTTPS_DN": _distinguished_name(certificate)}
            if getattr(self._context, "exports", False):
                encoded = self._tls.getpeercert(binary_form=True)
                self._certificate["HTTPS_CC"] = ssl.DER_cert_to_PEM_cert(encoded or b"")
        return True

    def read(self) -> bytes:
        """As `Connection.read`."""
        assert self._tls is not None
        pieces: list[bytes] = []
        size = 0
        while size < READ_BYTES:
            try:
                piece = self._tls.recv(READ_BYTES)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            if not piece:
                if not pieces:
                    return b""
                break
            pieces.append(piece)
            size += len(piece)
        if not pieces:
            raise BlockingIOError
        return b"".join(pieces)

    def _write(self, data: bytes | memoryview) -> memoryview | None:
        rest = memoryview(data)
        while rest:
            sent = self._send_record(rest[:RECORD_BYTES])
            if not sent:
                return rest
            rest = rest[sent:]
        return None

    def _send_record(self, data: bytes | memoryview) -> int:
        if self._tls is None:
            raise ClientGoneError("no TLS yet")
        try:
            return self._tls.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            raise ClientGoneError(error.errno, error.strerror) from error

    def _say_goodbye(self) -> None:
        if self._shaken and self._tls is not None:
            with contextlib.suppress(OSError, ValueError):  # the client may be gone, and nobody waits for its answer
                self._tls.unwrap()


def _distinguished_name(certificate: Any) -> str:
    """`/C=IT/CN=name`, as uWSGI's HTTPS_DN: what is not printable ASCII is escaped (X509_NAME_oneline(3))."""
    parts = [f"/{_SHORT.get(name, name)}={value}" for entry in certificate["subject"] for name, value in entry]
    return "".join([chr(byte) if 32 <= byte < 127 else f"\\x{byte:02X}" for byte in "".join(parts).encode()])


_SHORT: Final = {
    "commonName": "CN", "countryName": "C", "stateOrProvinceName": "ST", "localityName": "L",
    "organizationName": "O", "organizationalUnitName": "OU",
}  # fmt: skip
