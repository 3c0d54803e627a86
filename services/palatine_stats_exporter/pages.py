"""What the exporter's HTTP side serves at each path, made when asked for; knows nothing of HTTP's wire."""

import time
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Any, Final

import attrs
import msgspec
import structlog

from palatine.errors import PalatineError
from palatine_stats_exporter import api
from palatine_stats_exporter import api_model as model
from palatine_stats_exporter.board import Board, Facts, Unreadable
from palatine_stats_exporter.exposition import OPENMETRICS_TYPE, TEXT_TYPE, wants_openmetrics
from palatine_stats_exporter.history import COARSE_SECONDS, FINE_SECONDS, HOST, SERIES, History
from palatine_stats_exporter.metrics_page import metrics_page
from palatine_stats_exporter.neighbours import Neighbours
from palatine_stats_exporter.probing import allowed, probe
from palatine_stats_exporter.routes import JSON, MOST_SECONDS, match

_FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/dashboard.css": ("dashboard.css", "text/css; charset=utf-8"),
    "/dashboard.js": ("dashboard.js", "text/javascript; charset=utf-8"),
    "/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
    "/table.js": ("table.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}

_log = structlog.get_logger()


@attrs.frozen
class Request:
    """What was asked: the query's parameters (the last of each name), and headers by their names in lower case."""

    path: str
    query: Mapping[str, str] = attrs.field(factory=dict)
    headers: Mapping[str, str] = attrs.field(factory=dict)
    name: str = ""


@attrs.frozen
class Page:
    """An answer: its status, content type and body."""

    body: bytes
    content_type: str = JSON
    status: int = 200


class BadRequestError(PalatineError):
    """A parameter that cannot be."""


class Pages:
    """What is served by HTTP, from the board; counts what it does."""

    def __init__(self, board: Board, neighbours: Neighbours, probe_allowed: tuple[str, ...] = ()) -> None:
        self._board = board
        self._neighbours = neighbours
        self._probe_allowed = probe_allowed
        self._reasons: dict[str, str] = {}
        self.history = History()
        self.metrics_pages = 0
        self.pages = 0
        self.bytes_out = 0
        self.errors = 0
        self.seconds = 0.0
        folder = resources.files(__package__) / "dashboard"
        self._files = {path: Page((folder / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
        self._handlers: dict[str, Callable[[Request], Page | Awaitable[Page]]] = {
            "instances": self._instances,
            "instance": self._instance,
            "instance_history": self._history,
            "history": self._history,
            "daemons": self._daemons,
            "vassals": self._vassals,
            "alarms": self._alarms,
            "openapi": self._described,
            "metrics": self._metrics,
            "probe": self._probe,
        }

    async def answer(self, request: Request) -> Page:
        """The page for a request; 404 for a path there is none for."""
        found = match(request.path)
        if found is None:
            return self._files.get(request.path) or problem(404, f"nothing is at {request.path}")
        route, name = found
        try:
            made = self._handlers[route.handler](attrs.evolve(request, name=name))
            return made if isinstance(made, Page) else await made
        except BadRequestError as error:
            return problem(400, str(error))

    def live(self) -> dict[str, dict[str, Any]]:
        """The host as the page shows it, by section and name; `figures` of daemons are not for it."""
        facts, unreadable = self._look()
        neighbours = self._neighbours.look()
        return {
            "instances": {one.name: api.instance(one) for one in facts},
            "unreadable": {one.name: one.reason for one in unreadable},
            "daemons": {one.name: attrs.evolve(one, figures={}) for one in api.listed_daemons(neighbours)},
            "vassals": {one.id: one for one in api.listed_vassals(neighbours)},
            "alarms": {f"{one.instance}/{one.alarm}": one for one in api.listed_alarms(neighbours)},
        }

    def sample(self) -> None:
        """Take a sample of all instances for the history."""
        self.history.take(self._look()[0], time.time())

    def count(self, size: int) -> None:
        """An answer of so many bytes went out."""
        self.pages += 1
        self.bytes_out += size

    def _metrics(self, request: Request) -> Page:
        self.metrics_pages += 1
        facts, unreadable = self._look()
        own = {
            "uwsgi_exporter_scrapes_total": self.metrics_pages,
            "uwsgi_exporter_scrape_errors_total": self.errors,
            "uwsgi_exporter_last_scrape_error": int(bool(unreadable)),
            "uwsgi_exporter_scrape_duration_seconds": self.seconds,
        }
        return _exposed(request, facts, unreadable, neighbours=self._neighbours, own=own)

    async def _probe(self, request: Request) -> Page:
        target = request.query.get("target", "")
        if not target:
            return problem(400, "target is missing: a stats address, or an instance's name")
        facts, unreadable = self._look()
        ours = [one for one in facts if target in {one.name, one.address}]
        if ours:
            return _exposed(request, ours, [])
        if any(one.name == target for one in unreadable):
            return problem(502, f"{target} cannot be read at present")
        if not allowed(target, self._probe_allowed):
            return problem(403, f"{target!r} is no instance here, and no pattern of `http: probe:` allows it")
        try:
            return _exposed(request, [await probe(target)], [])
        except PalatineError as error:
            self.errors += 1
            return problem(502, str(error))

    @staticmethod
    def _described(_: Request) -> Page:
        from palatine_stats_exporter import openapi  # seldom asked for, and 30 ms to make

        return Page(openapi.text().encode())

    def _instances(self, _: Request) -> Page:
        facts, unreadable = self._look()
        reasons = {one.name: one.reason for one in unreadable}
        return encoded(model.Instances(time.time(), [api.instance(one) for one in facts], reasons))

    def _instance(self, request: Request) -> Page:
        found = next((one for one in self._look()[0] if one.name == request.name), None)
        if found is None:
            return problem(404, f"no instance is called {request.name!r}")
        return encoded(api.detail(found, time.time()))

    def _history(self, request: Request) -> Page:
        since = _number(request, "since", 0.0)
        interval = _number(request, "interval", FINE_SECONDS)
        if interval not in {FINE_SECONDS, COARSE_SECONDS}:
            raise BadRequestError(f"interval is {FINE_SECONDS} or {COARSE_SECONDS}, not {interval:g}")
        series = self.history.series(request.name or HOST, since, coarse=interval == COARSE_SECONDS)
        if series is None and self._board.one(request.name) is not None:
            series = {key: [] for key in ("time", *SERIES)}  # it has just come
        if series is None:
            return problem(404, f"no instance is called {request.name!r}")
        return encoded(model.History(time.time(), int(interval), series))

    def _daemons(self, _: Request) -> Page:
        return encoded(model.Daemons(time.time(), api.listed_daemons(self._neighbours.look())))

    def _vassals(self, _: Request) -> Page:
        return encoded(model.Vassals(time.time(), api.listed_vassals(self._neighbours.look())))

    def _alarms(self, _: Request) -> Page:
        return encoded(model.Alarms(time.time(), api.listed_alarms(self._neighbours.look())))

    def _look(self) -> tuple[list[Facts], list[Unreadable]]:
        began = time.perf_counter()
        facts, unreadable = self._board.look()
        self.seconds = time.perf_counter() - began
        self.errors += len(unreadable)
        reasons = {one.name: one.reason for one in unreadable}
        for name, reason in reasons.items():
            if self._reasons.get(name) != reason:
                _log.warning("instance.unreadable", instance=name, reason=reason)
        self._reasons = reasons
        return facts, unreadable


def encoded(answer: Any) -> Page:
    """An answer of the API as JSON."""
    return Page(msgspec.json.encode(answer))


def problem(status: int, reason: str) -> Page:
    """An answer that says why there is none."""
    clean = reason.encode("utf-8", "backslashreplace").decode()
    return Page(msgspec.json.encode(model.Problem(clean)), status=status)


def _exposed(
    request: Request,
    facts: list[Facts],
    unreadable: list[Unreadable],
    *,
    neighbours: Neighbours | None = None,
    own: Mapping[str, float] | None = None,
) -> Page:
    openmetrics = wants_openmetrics(request.headers.get("accept", ""))
    daemons = neighbours.look() if neighbours is not None else []
    body = metrics_page(facts, unreadable, daemons, own, openmetrics=openmetrics)
    return Page(body, OPENMETRICS_TYPE if openmetrics else TEXT_TYPE)


def _number(request: Request, name: str, default: float) -> float:
    """A parameter of the query that is a number, not negative and finite."""
    text = request.query.get(name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= MOST_SECONDS:
        raise BadRequestError(f"{name} is a number of seconds, not {text!r}")
    return number
