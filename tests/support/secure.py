"""An app-server with an HTTPS socket, and clients that trust its authority, some behind a load balancer."""

import socket
import ssl
from typing import Any

from app_server import AppServer
from certificates import Authority, Pair
from running import Runner, run

#: 192.0.2.7:999 to 192.0.2.8:80 in version 2 of the PROXY protocol.
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes([192, 0, 2, 7, 192, 0, 2, 8]) + b"\x03\xe7" + b"\x00\x50"
ENVIRON_APP = """
import json
def more(environ):
    path = environ["PATH_INFO"]
    if path == "/environ":
        return json.dumps({k: v for k, v in environ.items() if isinstance(v, str)}).encode()
    if path.startswith("/big/"):
        return b"x" * int(path[5:])
    if path == "/file":
        return None
"""


class Certificates:
    """An authority, a certificate for localhost, and the option's value that uses it."""

    def __init__(self, programs: Runner, client_ca: str = "") -> None:
        self.authority = Authority(programs.directory)
        self.pair = self.authority.sign("server")
        self.value = f"127.0.0.1:0,{self.pair.certificate},{self.pair.key}"
        if client_ca:
            self.value += f",,{client_ca}{self.authority.pair.certificate}"

    def context(self, client: Pair | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.pair.certificate))
        if client is not None:
            context.load_cert_chain(client.certificate, client.key)
        return context


class Secure(Certificates):
    """An instance with an HTTPS socket."""

    def __init__(self, programs: Runner, *words: str, client_ca: str = "", threads: int = 1) -> None:
        super().__init__(programs, client_ca)
        self.server = AppServer(
            programs, *words, app=ENVIRON_APP, threads=threads, listen=("--https-socket", self.value)
        )
        self.port = self.server.address()[1]

    def curl(self, path: str, *options: str) -> str:
        ca = str(self.authority.pair.certificate)
        return run("curl", "-sS", "--cacert", ca, *options, f"https://localhost:{self.port}{path}").stdout

    def connect(self, client: Pair | None = None, name: str = "localhost") -> ssl.SSLSocket:
        return wrapped(("127.0.0.1", self.port), b"", self.context(client), name)


def wrapped(address: Any, introduction: bytes, context: ssl.SSLContext, name: str = "localhost") -> ssl.SSLSocket:
    """A TLS connection, with something said before it begins."""
    raw = socket.create_connection(address, 30)
    try:
        raw.sendall(introduction)
        return context.wrap_socket(raw, server_hostname=name)
    except BaseException:
        raw.close()
        raise
