"""Which sinks a line goes to: drains, filters, routes to named loggers, the unnamed ones, else the log itself.

Two of these in a master: one for what processes print, one for request lines where `req-logger` asks for it.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from palatine_app_server.log.log_encoders import Chain
from palatine_app_server.log.log_grammar import Route
from palatine_app_server.log.log_sinks import Sink


class Rules(NamedTuple):
    """What the config says of one kind of line."""

    drains: tuple["re.Pattern[bytes]", ...] = ()
    filters: tuple["re.Pattern[bytes]", ...] = ()
    routes: tuple[Route, ...] = ()
    encoders: Chain = Chain()


class Routing:
    """Passes lines on; `loggers` are (name, sink), the name "" for an unnamed one; `fallback` is the log itself."""

    def __init__(self, rules: Rules, loggers: Sequence[tuple[str, Sink]], fallback: Sink) -> None:
        self._rules = rules
        self._named = {name: sink for name, sink in loggers if name}
        self._unnamed = [sink for name, sink in loggers if not name] or [fallback]
        self.sinks = [sink for _name, sink in loggers]
        self._only = self._unnamed[0] if rules == Rules() and len(self._unnamed) == 1 else None

    def take(self, data: bytes) -> int:
        """Pass one line on; how many lines were lost on this occasion."""
        if self._only is not None:  # most logs
            return self._only.write(data)
        rules = self._rules
        if any(pattern.search(data) for pattern in rules.drains):
            return 0
        if rules.filters and not any(pattern.search(data) for pattern in rules.filters):
            return 0
        lost, routed = 0, False
        for route in rules.routes:
            sink = self._named.get(route.logger)
            if sink is not None and route.pattern.search(data):
                lost += sink.write(rules.encoders.encode(route.logger, data))
                routed = True
        if routed:
            return lost
        encoded = rules.encoders.encode("", data)
        return sum(sink.write(encoded) for sink in self._unnamed)
