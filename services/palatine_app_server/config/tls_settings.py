"""HTTPS sockets as the config asks for them. Must never load `ssl`: a master that has none does without."""

import re
from typing import Final, NamedTuple

from palatine.config import Config, Option
from palatine_app_server.config.values import pattern
from palatine_app_server.log.log_grammar import parse_keyvals

OPTIONS: Final = ("https", "https-socket", "https2")


class NamedCertificate(NamedTuple):
    """What a client gets that asks for a name: `name` as it is, or where `pattern` is found in it."""

    name: str
    certificate: str
    key: str
    ciphers: str = ""
    pattern: "re.Pattern[str] | None" = None


class TlsExtras(NamedTuple):
    """What all HTTPS sockets of a config have in common."""

    names: tuple[NamedCertificate, ...] = ()  # in the order they are tried
    directory: str = ""  # of NAME.crt and NAME.key
    directory_ciphers: str = ""
    options: int = 0  # OpenSSL's SSL_OP_*
    old_versions: bool = False  # TLS 1.0 and 1.1
    export_certificate: bool = False
    verbose: bool = False


class TlsSettings(NamedTuple):
    """One `addr,cert,key[,ciphers[,clientca]]`; with `!` before the client CA every client needs a certificate."""

    address: str
    certificate: str
    key: str
    ciphers: str = ""
    client_ca: str = ""
    extras: TlsExtras = TlsExtras()


def parse(option: Option) -> TlsSettings:
    """One of them; ConfigError at its line."""
    value = option.value or ""
    if option.name == "https2":
        given = option.parsed(parse_keyvals)
        words = [given.get("addr", ""), given.get("cert", ""), given.get("key", ""), given.get("ciphers", "")]
        words.append(given.get("client_ca", given.get("clientca", "")))
    else:
        words = value.split(",")
    if not 3 <= len(words) <= 5 or not all(words[:3]):
        raise option.origin.error(f"{option.name} = {value}: it takes an address, a certificate and a key")
    return TlsSettings(words[0], words[1], words[2], "".join(words[3:4]), "".join(words[4:]))


def read_extras(config: Config) -> TlsExtras:
    """The options about all HTTPS sockets; ConfigError names the line."""
    settings = config.settings
    options = 0
    for option in settings.items("ssl-option"):
        if not (option.value or "").isdigit():
            raise option.origin.error(f"ssl-option = {option.value}: it takes a number, OpenSSL's SSL_OP_...")
        options |= int(option.value or "")
    names = [_named(option) for option in settings.items("sni")]
    patterns = [_named(option) for option in settings.items("sni-regexp")]
    return TlsExtras(
        names=(*names, *patterns),
        directory=settings.text("sni-dir", ""),
        directory_ciphers=settings.text("sni-dir-ciphers", ""),
        options=options,
        old_versions=settings.flag("ssl-enable-tlsv1"),
        export_certificate=settings.flag("https-export-cert"),
        verbose=settings.flag("ssl-verbose"),
    )


def _named(option: Option) -> NamedCertificate:
    """`sni = NAME CERTIFICATE,KEY[,CIPHERS]`, or a regular expression in place of the name."""
    name, _, files = (option.value or "").partition(" ")
    words = files.split(",")
    if len(words) == 4:
        # OpenSSL takes the demand for certificates from the socket, not from the name: it would not be made
        raise option.origin.error(f"{option.name}: a client CA belongs to the socket: address,cert,key,ciphers,CA")
    if not name or not 2 <= len(words) <= 3 or not all(words[:2]):
        raise option.origin.error(f"{option.name} = {option.value}: it takes a name, a space, and certificate,key")
    expression = option.parsed(lambda _text: pattern(name)) if option.name == "sni-regexp" else None
    return NamedCertificate(name.lower(), words[0], words[1], "".join(words[2:]), expression)
