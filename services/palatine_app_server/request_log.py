"""uWSGI's default request line, byte for byte; a test compares it with the real binary's."""

import time
from typing import NamedTuple


class Served(NamedTuple):
    """What the line says of one request; `started` is unix seconds, `micros` how long it took."""

    pid: int
    app: int
    app_requests: int
    total_requests: int
    environ_items: int
    environ_bytes: int
    started: int
    micros: int
    body_bytes: int
    status: int
    header_count: int
    header_bytes: int
    switches: int
    core: int


def line(served: Served, environ: dict[str, str]) -> str:
    """The line with its newline."""
    get = environ.get
    return (
        f"[pid: {served.pid}|app: {served.app}|req: {served.app_requests}/{served.total_requests}] "
        f"{get('REMOTE_ADDR', '')} ({get('REMOTE_USER', '')}) "
        f"{{{served.environ_items * 2} vars in {served.environ_bytes} bytes}} "
        f"[{time.ctime(served.started)}] {get('REQUEST_METHOD', '')} {get('REQUEST_URI', '')} => "
        f"generated {served.body_bytes} bytes in {served.micros // 1000} msecs "
        f"({get('SERVER_PROTOCOL', '')} {served.status}) "
        f"{served.header_count} headers in {served.header_bytes} bytes "
        f"({served.switches} switches on core {served.core})\n"
    )
