"""What the exporter's HTTP side serves at each path, made when asked for; knows nothing of HTTP."""

import time
from collections.abc import Callable
from functools import partial
from importlib import resources
from typing import Final

import attrs
import msgspec
import structlog

from palatine_stats_exporter import metrics
from palatine_stats_exporter.board import Board, Facts, Unreadable, summary

_FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/dashboard.css": ("dashboard.css", "text/css; charset=utf-8"),
    "/dashboard.js": ("dashboard.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
JSON: Final = "application/json"

_log = structlog.get_logger()


@attrs.frozen
class Page:
    """An answer: its status, content type and body."""

    body: bytes
    content_type: str = JSON
    status: int = 200


class Pages:
    """What is served by HTTP, from the board; counts what it does."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.metrics_pages = 0
        self.pages = 0
        self.bytes_out = 0
        self.errors = 0
        self.seconds = 0.0
        self._reasons: dict[str, str] = {}

    def paths(self) -> dict[str, Callable[[], Page]]:
        """What makes the page at each path: the dashboard's own files, metrics, JSON."""
        folder = resources.files(__package__) / "dashboard"
        files = {path: Page((folder / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
        made = {path: partial(_same, page) for path, page in files.items()}
        return {**made, "/metrics": self.metrics, "/api/v1/instances": self.instances}

    def metrics(self) -> Page:
        """The page for Prometheus."""
        self.metrics_pages += 1
        facts, unreadable = self._look()
        own = {
            "uwsgi_exporter_scrapes_total": self.metrics_pages,
            "uwsgi_exporter_scrape_errors_total": self.errors,
            "uwsgi_exporter_last_scrape_error": int(bool(unreadable)),
            "uwsgi_exporter_scrape_duration_seconds": self.seconds,
        }
        return Page(metrics.render(facts, unreadable, own), metrics.CONTENT_TYPE)

    def instances(self) -> Page:
        """All instances as JSON."""
        return Page(self.state())

    def state(self) -> bytes:
        """All instances as JSON, in one line."""
        facts, unreadable = self._look()
        return msgspec.json.encode(
            {
                "now": time.time(),
                "instances": [summary(one) for one in facts],
                "unreadable": [{"name": one.name, "reason": one.reason} for one in unreadable],
            }
        )

    def count(self, size: int) -> None:
        """An answer of so many bytes went out."""
        self.pages += 1
        self.bytes_out += size

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


def _same(page: Page) -> Page:
    return page
