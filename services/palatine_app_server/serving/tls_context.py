"""Contexts of HTTPS sockets, made of the config's files: one a socket, and one for each name a client may ask for.

Made before a generation forks its workers, so that all of them know the same session tickets.
"""

import functools
import os
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from palatine.errors import ConfigError
from palatine_app_server.config.tls_settings import NamedCertificate, TlsExtras, TlsSettings
from palatine_app_server.system import own_lines

_LONGEST_NAME: Final = 255


class ServedContext(ssl.SSLContext):
    """The context of a socket, with what its connections must know."""

    exports: bool = False  # the client's certificate goes to the app
    verbose: bool = False


def contexts(wanted: Sequence[TlsSettings]) -> Mapping[str, ssl.SSLContext]:
    """Address → context, certificates and keys read; ConfigError where one cannot be."""
    made: dict[str, ssl.SSLContext] = {}
    for settings in wanted:
        context = ServedContext(ssl.PROTOCOL_TLS_SERVER)
        context.exports, context.verbose = settings.extras.export_certificate, settings.extras.verbose
        _fill(context, settings, f"https {settings.address}")
        if settings.extras.names or settings.extras.directory:
            _say_odd_names_in_a_line()
            context.sni_callback = functools.partial(_choose, _by_name(settings.extras, settings.client_ca))
        made[settings.address] = context
    return made


def _say_odd_names_in_a_line() -> None:
    """A name that is no ASCII is refused by Python's `ssl`, by an alert; what it has to say of that is a traceback."""
    before = sys.unraisablehook
    if not (isinstance(before, functools.partial) and before.func is _say_in_a_line):
        sys.unraisablehook = functools.partial(_say_in_a_line, before)


def _say_in_a_line(before: Callable[[Any], object], unraisable: Any) -> None:
    error = unraisable.exc_value
    if isinstance(error, UnicodeDecodeError) and isinstance(unraisable.object, bytes):
        own_lines.say(f"[uwsgi-https] a client asked for a name that is none: {unraisable.object[:_LONGEST_NAME]!r}")
    else:
        before(unraisable)


def _fill(context: ssl.SSLContext, settings: TlsSettings, what: str) -> None:
    extras = settings.extras
    context.set_alpn_protocols(["http/1.1"])
    ciphers = settings.ciphers
    if extras.old_versions:
        # what the config asks for by name; OpenSSL's level 1 knows no ciphers for these versions
        context.options &= ~(ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        ciphers = f"{ciphers or 'DEFAULT'}:@SECLEVEL=0"
    context.options |= extras.options
    try:
        context.load_cert_chain(settings.certificate, settings.key)
        if ciphers:
            context.set_ciphers(ciphers)
        if settings.client_ca:
            required = settings.client_ca.startswith("!")
            context.load_verify_locations(settings.client_ca.removeprefix("!"))
            context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    except OSError as error:  # ssl.SSLError is one
        # OpenSSL does not say which
        files = ", ".join(filter(None, (settings.certificate, settings.key, settings.client_ca.removeprefix("!"))))
        raise ConfigError(f"{what}: {error.strerror or error} ({files})") from error


def _by_name(extras: TlsExtras, client_ca: str) -> Callable[[str], ssl.SSLContext | None]:
    """The context for a name, in lower case; names come before expressions, and those before the directory."""
    exact: dict[str, ssl.SSLContext] = {}
    patterns = []
    for named in extras.names:
        context = _named_context(named, extras, client_ca)
        if named.pattern is not None:
            patterns.append((named.pattern, context))
        else:
            exact.setdefault(named.name, context)
    for name in _in_directory(extras.directory) if extras.directory else ():
        files = NamedCertificate(
            name.lower(), f"{extras.directory}/{name}.crt", f"{extras.directory}/{name}.key", extras.directory_ciphers
        )
        exact.setdefault(files.name, _named_context(files, extras, client_ca))

    def find(name: str) -> ssl.SSLContext | None:
        if name in exact:
            return exact[name]
        return next((context for pattern, context in patterns if pattern.search(name)), None)

    return find


def _named_context(named: NamedCertificate, extras: TlsExtras, client_ca: str) -> ssl.SSLContext:
    """With the socket's client CA: OpenSSL has the demand from the socket, and whom it trusts from here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    settings = TlsSettings("", named.certificate, named.key, named.ciphers, client_ca, extras)
    _fill(context, settings, f"sni {named.name}")
    return context


def _in_directory(directory: str) -> list[str]:
    """The names that have a certificate and a key in `sni-dir`, as it is now: another name needs a reload."""
    try:
        files = set(os.listdir(directory))
    except OSError as error:
        raise ConfigError(f"sni-dir {directory}: {error.strerror}") from error
    return sorted(file[:-4] for file in files if file.endswith(".crt") and f"{file[:-4]}.key" in files)


def _choose(
    find: Callable[[str], ssl.SSLContext | None],
    client: ssl.SSLSocket | ssl.SSLObject,
    name: str | None,
    _context: ssl.SSLContext,
) -> None:
    """The client asks for `name`; where nobody has it, the socket's own certificate will do, as in uWSGI."""
    found = find(name.lower()) if name else None
    if found is not None:
        client.context = found
