"""HTTPS sockets as the config asks for them, and their contexts. `ssl` is imported only where there is one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from palatine.config import Option
from palatine.errors import ConfigError
from palatine_app_server.log_grammar import parse_keyvals

if TYPE_CHECKING:
    import ssl

OPTIONS: Final = ("https", "https-socket", "https2")


class TlsSettings(NamedTuple):
    """One `addr,cert,key[,ciphers[,clientca]]`; with `!` before the client CA every client needs a certificate."""

    address: str
    certificate: str
    key: str
    ciphers: str = ""
    client_ca: str = ""


def parse(option: Option) -> TlsSettings:
    """One of them; ConfigError at its line."""
    value = option.value or ""
    if option.name == "https2":
        try:
            given = parse_keyvals(value)
        except ConfigError as error:
            raise option.origin.error(error.message) from error
        words = [given.get("addr", ""), given.get("cert", ""), given.get("key", ""), given.get("ciphers", "")]
        words.append(given.get("client_ca", given.get("clientca", "")))
    else:
        words = value.split(",")
    if not 3 <= len(words) <= 5 or not all(words[:3]):
        raise option.origin.error(f"{option.name} = {value}: it takes an address, a certificate and a key")
    return TlsSettings(*words)


def contexts(wanted: tuple[TlsSettings, ...]) -> "Mapping[str, ssl.SSLContext]":
    """Address → context, certificates and keys read; ConfigError where one cannot be."""
    return {each.address: _context(each) for each in wanted}


def refreshed(
    wanted: tuple[TlsSettings, ...], known: "Mapping[str, ssl.SSLContext]"
) -> "tuple[Mapping[str, ssl.SSLContext], str]":
    """The contexts as the files are now, for a new generation; those `known` and why, where they cannot be read."""
    try:
        return contexts(wanted), ""
    except ConfigError as error:
        return known, f"certificates stay as they were: {error.message}"


def _context(settings: TlsSettings) -> "ssl.SSLContext":
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.certificate, settings.key)
        if settings.ciphers:
            context.set_ciphers(settings.ciphers)
        if settings.client_ca:
            required = settings.client_ca.startswith("!")
            context.load_verify_locations(settings.client_ca.removeprefix("!"))
            context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"https {settings.address}: {error.strerror or error}") from error
    return context
