"""`log-format` compiled to one function from a served request to its line; a missing value is "-", as uWSGI's.

`log-format = json` is palatine's own word: one object a line with every variable that has a value.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Final

from palatine_app_server.log.log_grammar import Variable, parse_format
from palatine_app_server.log.request_log import RequestLogSettings, Served, address, memory

Getter = Callable[[Served], object]

#: CGI variables by their short names.
_VARIABLES: Final = {
    "uri": "REQUEST_URI",
    "method": "REQUEST_METHOD",
    "user": "REMOTE_USER",
    "proto": "SERVER_PROTOCOL",
    "uagent": "HTTP_USER_AGENT",
    "referer": "HTTP_REFERER",
}
_LTIME: Final = "%d/%b/%Y:%H:%M:%S %z"
#: What a JSON line holds, in order.
_JSON: Final = (
    "time", "addr", "user", "method", "uri", "proto", "host", "status", "rsize", "hsize", "micros", "uagent",
    "referer", "pid", "wid", "core",
)  # fmt: skip


def compiled(settings: RequestLogSettings) -> Callable[[Served], str]:
    """The line of a request, without its newline."""
    if settings.format == "json":
        return _json_line(settings)
    getters: list[Getter] = [
        _getter(part.name, settings) if isinstance(part, Variable) else _literal(part)
        for part in parse_format(settings.format)
    ]

    def line(served: Served) -> str:
        return "".join([str(getter(served)) or "-" for getter in getters])

    return line


def _json_line(settings: RequestLogSettings) -> Callable[[Served], str]:
    getters = [(name, _getter(name, settings)) for name in _JSON]

    def line(served: Served) -> str:
        values = {name: getter(served) for name, getter in getters}
        if served.notes is not None:
            values.update(served.notes.variables)
        return json.dumps({name: value for name, value in values.items() if value != ""})

    return line


def _literal(text: str) -> Getter:
    shown = text.encode("utf-8", "surrogateescape").decode("latin-1")  # lines are written as latin-1
    return lambda _served: shown


def _getter(name: str, settings: RequestLogSettings) -> Getter:
    if name == "addr":
        return lambda served: address(settings, served.environ)
    variable = _VARIABLES.get(name) or (name[4:] if name.startswith("var.") else "")
    if variable:
        return lambda served: served.environ.get(variable, "")
    if name.startswith("metric."):
        metric = name[7:]
        return lambda _served: _metric(metric)
    if name == "ftime":
        form = settings.date_format or _LTIME
        return lambda served: _local(form, served)
    known = _FUNCTIONS.get(name)
    if known is not None:
        return known
    return lambda served: served.notes.variables.get(name, "") if served.notes is not None else ""


def _local(form: str, served: Served) -> str:
    return time.strftime(form, time.localtime(served.started_us // 1_000_000))


def _metric(name: str) -> int:
    get = getattr(sys.modules.get("uwsgi"), "metric_get", None)
    return int(get(name) or 0) if get is not None else 0


def _errors(served: Served) -> int:
    return served.notes.write_errors if served.notes is not None else 0


_FUNCTIONS: Final[dict[str, Getter]] = {
    "host": lambda served: served.environ.get("HTTP_HOST") or served.environ.get("SERVER_NAME", ""),
    "status": lambda served: served.status,
    "rsize": lambda served: served.body_bytes,
    "hsize": lambda served: served.header_bytes,
    "size": lambda served: served.body_bytes + served.header_bytes,
    "cl": lambda served: served.environ.get("CONTENT_LENGTH") or 0,
    "epoch": lambda _served: int(time.time()),
    "ctime": lambda served: time.ctime(served.started_us // 1_000_000),
    "time": lambda served: served.started_us // 1_000_000,
    "ltime": lambda served: _local(_LTIME, served),
    "tmsecs": lambda served: served.started_us // 1000,
    "tmicros": lambda served: served.started_us,
    "micros": lambda served: served.micros,
    "msecs": lambda served: served.micros // 1000,
    "secs": lambda served: f"{served.micros / 1_000_000:f}",
    "pid": lambda served: served.pid,
    "wid": lambda served: served.worker,
    "switches": lambda served: served.switches,
    "vars": lambda served: served.environ_count * 2,
    "core": lambda served: served.core,
    "vsz": lambda _served: memory()[0],
    "rss": lambda _served: memory()[1],
    "vszM": lambda _served: memory()[0] >> 20,
    "rssM": lambda _served: memory()[1] >> 20,
    "pktsize": lambda served: served.environ_bytes,
    "modifier1": lambda _served: 0,
    "modifier2": lambda _served: 0,
    "headers": lambda served: served.header_count,
    "werr": _errors,
    "rerr": lambda _served: 0,
    "ioerr": _errors,
}
