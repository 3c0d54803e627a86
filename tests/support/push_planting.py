"""An instance's facts, out of a segment that says what a captured document says."""

from pathlib import Path
from typing import Any

from palatine.counters import SegmentView
from palatine_stats_exporter.board import Facts
from palatine_stats_exporter.document import app_labels
from palatine_stats_exporter.reading import Reader
from stats_planting import plant


def facts_of(
    path: Path, captured: dict[str, Any], *, address: str = "tcp://127.0.0.1:1717", name: str = "app"
) -> Facts:
    """The facts; `path` is where the segment is meanwhile."""
    segment = plant(path, captured)
    segment.publish()
    try:
        with SegmentView.open(path) as view:
            reader = Reader(view)
            return Facts(
                name=name,
                address=address,
                alive=True,
                server={key: value for key, value in captured.items() if isinstance(value, int)},
                columns=reader.read(),
                cores=reader.cores,
                apps=[app_labels(view, index) for index in range(reader.apps)],
                sockets=[],
                caches=[],
            )
    finally:
        segment.close(unlink=True)
