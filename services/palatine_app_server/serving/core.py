"""One thread of a worker with its request, and who may stand in an app's place: what apps, routes and the API see."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from palatine_app_server.log.request_log import Notes
from palatine_app_server.serving.connection import Connection
from palatine_app_server.serving.ledger import Ledger
from palatine_app_server.serving.response import Response


class Core:
    """One thread's share of a worker: its ledger and the request it is in."""

    __slots__ = ("connection", "ended", "id", "ledger", "may_keep", "notes", "response", "rested", "started", "thread")

    def __init__(self, number: int, ledger: Ledger) -> None:
        self.notes: Notes | None = None  # what was said about the running request
        self.thread = 0  # threading.get_ident() of the thread that serves with it
        self.id = number
        self.ledger = ledger
        self.connection: Connection | None = None
        self.response: Response | None = None
        self.may_keep: Callable[[], bool] = bool
        # moments of the monotonic clock, in seconds
        self.started = 0.0  # of the last request
        self.ended = time.monotonic()  # of the request before
        self.rested = self.ended  # up to here the time without a request is in the ledger

    @property
    def waited(self) -> float:
        """Seconds this thread was without a request before the one it serves."""
        return self.started - self.ended

    def enter(self, now: float, connection: Connection, response: Response) -> None:
        """A request is served from `now` on; nothing has been said about it."""
        self.started, self.connection, self.response, self.notes = now, connection, response, None

    def rest(self, now: float) -> None:
        """Nothing has come for a while."""
        self.ledger.rest(int((now - self.rested) * 1_000_000))
        self.rested = now

    def note(self) -> Notes:
        """The notes of the running request, made when somebody has something to say."""
        if self.notes is None:
            self.notes = Notes()
        return self.notes


class Handler:
    """Called in place of the app where a request takes more than that; see `front`."""

    def respond(self, *arguments: Any) -> Response:
        """The response to a request; the arguments are those of `Response`."""
        raise NotImplementedError

    def handle(self, core: Core, environ: dict[str, Any], response: Response) -> Iterable[bytes]:
        """The result to send."""
        raise NotImplementedError
