"""The whole metrics page: instances by uwsgi_exporter's names and ours, daemons, the exporter itself; pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from palatine_stats_exporter.board import Facts, Unreadable
from palatine_stats_exporter.daemon_metrics import daemon_families
from palatine_stats_exporter.exposition import COUNTER, GAUGE, Family, render
from palatine_stats_exporter.instance_metrics import instance_families
from palatine_stats_exporter.metrics import Shown, uwsgi_families
from palatine_stats_exporter.neighbours import Neighbour

_OWN: Final = {
    "uwsgi_exporter_scrapes_total": "Times instances were read for this page.",
    "uwsgi_exporter_scrape_errors_total": "Instances that could not be read.",
    "uwsgi_exporter_last_scrape_error": "1 if an instance could not be read for this page.",
    "uwsgi_exporter_scrape_duration_seconds": "Time it took to read all instances.",
}


def metrics_page(
    facts: Sequence[Facts],
    unreadable: Sequence[Unreadable] = (),
    daemons: Sequence[Neighbour] = (),
    own: Mapping[str, float] | None = None,
    *,
    openmetrics: bool = False,
) -> bytes:
    """The page for all instances and daemons; `own` are counters of the page itself by their whole names."""
    return render(_families(facts, unreadable, daemons, own or {}), openmetrics=openmetrics)


def _families(
    facts: Sequence[Facts], unreadable: Sequence[Unreadable], daemons: Sequence[Neighbour], own: Mapping[str, float]
) -> Iterator[Family]:
    shown = [Shown(one) for one in facts]
    yield from uwsgi_families(shown, unreadable)
    yield from instance_families(shown)
    yield from daemon_families(daemons)
    for name, number in own.items():
        yield Family(name, COUNTER if name.endswith("_total") else GAUGE, _OWN[name], [("", number)])
