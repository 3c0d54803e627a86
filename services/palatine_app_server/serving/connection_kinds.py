"""Which state machine the connections of a listener are; those that are rare are loaded only where there is one."""

from palatine_app_server.serving import parting_connection
from palatine_app_server.serving.clients import Listener
from palatine_app_server.serving.connection import Connection


def of(listener: Listener, *, brief: bool = False) -> type[Connection]:
    """The class of the connections accepted from `listener`; `brief`: requests end with their answers."""
    if "cgi" in listener.protocol:
        from palatine_app_server.serving import cgi_connections

        scgi = listener.protocol.startswith("scgi")
        return cgi_connections.ScgiConnection if scgi else cgi_connections.FastcgiConnection
    if listener.protocol == "redirect":
        from palatine_app_server.serving import redirect_connection

        return redirect_connection.ProxiedRedirect if listener.proxied else redirect_connection.RedirectConnection
    if listener.tls is not None:
        from palatine_app_server.serving.tls_connection import TlsConnection  # where nobody asks, no ssl in memory

        if listener.proxied:
            from palatine_app_server.serving.proxied_tls_connection import ProxiedTlsConnection

            return ProxiedTlsConnection
        return TlsConnection
    if listener.proxied:
        from palatine_app_server.serving.proxied_connection import ProxiedConnection

        return ProxiedConnection
    if brief and parting_connection.suits(listener):
        return parting_connection.PartingConnection
    return Connection
