"""Where a request is passed on to, as routes and `http-to` say it. A value."""

from typing import NamedTuple


class Upstream(NamedTuple):
    """Host:port or a UNIX socket's path; `host` and `uri` replace the client's, for HTTP."""

    address: str
    protocol: str = "http"  # or "uwsgi"
    host: str = ""
    uri: str = ""
    modifiers: tuple[int, int] = (0, 0)
    app: str = ""  # UWSGI_APPID
