"""Connections to instances, kept while requests follow each other; it must never keep one that gave trouble.

A request over a connection of its own costs 1.7 ms of CPU on both sides together, over a kept one 0.3 ms. The first
request to an instance goes alone: it alone notices at once that nobody listens.
"""

from pathlib import Path
from typing import Any, Final

import attrs
import structlog
import trio

from palatine.bus import Client, open_client, request
from palatine_alarm_daemon.reasons import reason_of

#: Seconds a connection nobody uses is kept.
IDLE_SECONDS: Final = 5.0


@attrs.define(eq=False)
class _Kept:
    """A connection; `client` is None while it is being made, `dropped` once nobody new may use it."""

    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    client: Client | None = None
    used: float = 0.0
    asking: int = 0
    dropped: bool = False


class Clients:
    """Asks instances by the path of their endpoint."""

    def __init__(self, nursery: trio.Nursery, log: structlog.stdlib.BoundLogger) -> None:
        self._nursery = nursery
        self._log = log
        self._kept: dict[Path, _Kept] = {}

    async def ask(self, endpoint: Path, kind: str, body: Any, seconds: float) -> Any:
        """The reply's body; errors as `palatine.bus.request`'s."""
        kept = self._kept.get(endpoint)
        if kept is None or kept.client is None:
            reply = await request(endpoint, kind, body, timeout=seconds)
            if endpoint not in self._kept:
                self._kept[endpoint] = _Kept()
                self._nursery.start_soon(self._keep, endpoint, self._kept[endpoint])
            return reply
        kept.asking += 1
        try:
            return await kept.client.request(kind, body, timeout=seconds)
        except BaseException:
            self._drop(endpoint, kept)
            raise
        finally:
            kept.asking -= 1
            kept.used = trio.current_time()
            if kept.dropped and not kept.asking:
                kept.scope.cancel()

    async def _keep(self, endpoint: Path, kept: _Kept) -> None:
        """Hold the connection until it was idle, or was dropped and nobody waits for an answer on it."""
        try:
            with kept.scope:
                async with open_client(endpoint) as kept.client:
                    kept.used = trio.current_time()
                    while kept.asking or trio.current_time() < kept.used + IDLE_SECONDS:  # noqa: ASYNC110 - idleness has no event
                        await trio.sleep(IDLE_SECONDS / 2)
                    self._drop(endpoint, kept)
        except Exception as error:  # noqa: BLE001 - without a kept connection requests go alone, and say what is wrong
            self._log.warning("instance.no_connection", endpoint=str(endpoint), reason=reason_of(error))
        finally:
            self._drop(endpoint, kept)

    def _drop(self, endpoint: Path, kept: _Kept) -> None:
        kept.dropped = True
        if self._kept.get(endpoint) is kept:
            del self._kept[endpoint]
