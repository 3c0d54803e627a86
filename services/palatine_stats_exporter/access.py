"""Who may see the pages: HTTP basic authentication, or a header a reverse proxy sets; pure.

A header can be sent by anybody, so it counts only where the listener is one that only the proxy reaches: loopback.
"""

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Mapping

import attrs

from palatine.daemon.settings import Secret
from palatine.errors import ConfigError


@attrs.frozen
class Http:
    """The section `http` of the exporter's file: where pages are served, and to whom.

    With neither a user nor a proxy's header everybody who can connect is let in.

    Attributes:
        listen: `HOST:PORT`, "" for no pages.
        user, password: basic authentication (RFC 7617).
        proxy_header: a header a reverse proxy sets for users it has checked; any value but an empty one will do.
        probe: patterns of stats addresses of others that `/probe` may fetch.
    """

    listen: str = ""
    user: str = ""
    password: Secret = attrs.field(factory=lambda: Secret(""))
    proxy_header: str = ""
    probe: tuple[str, ...] = ()

    @property
    def asks(self) -> bool:
        """Whether anybody is kept out."""
        return bool(self.user or self.proxy_header)

    def lets_in(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers (names in lower case) may be answered."""
        if not self.asks or (self.proxy_header and headers.get(self.proxy_header.lower())):
            return True
        return bool(self.user) and self._knows(headers.get("authorization", ""))

    def _knows(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        try:
            said = base64.b64decode(given.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        wanted = f"{self.user}:{self.password.value}".encode()
        return scheme.lower() == "basic" and hmac.compare_digest(said, wanted)


def check(http: Http) -> None:
    """ConfigError where the settings would let in those they mean to keep out."""
    if http.user and not http.password.value:
        raise ConfigError(f"http: user {http.user!r} has no password")
    if ":" in http.user:
        raise ConfigError("http: a user's name holds no colon")
    if http.proxy_header and not _is_loopback(http.listen):
        raise ConfigError(f"http: proxy-header on {http.listen!r}: anybody could send it; listen on loopback")


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
