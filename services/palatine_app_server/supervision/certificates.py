"""The contexts of an instance's HTTPS sockets: made at its start, and again for each generation."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from palatine.errors import ConfigError
from palatine_app_server.config.tls_settings import TlsSettings

if TYPE_CHECKING:
    import ssl


def contexts(wanted: tuple[TlsSettings, ...]) -> "Mapping[str, ssl.SSLContext]":
    """Address → context, certificates and keys read; ConfigError where one cannot be."""
    if not wanted:
        return {}
    from palatine_app_server.serving import tls_context  # and with it ssl

    return tls_context.contexts(wanted)


def refreshed(
    wanted: tuple[TlsSettings, ...], known: "Mapping[str, ssl.SSLContext]"
) -> "tuple[Mapping[str, ssl.SSLContext], str]":
    """The contexts as the files are now, for a new generation; those `known` and why, where they cannot be read."""
    try:
        return contexts(wanted), ""
    except ConfigError as error:
        return known, f"certificates stay as they were: {error.message}"
