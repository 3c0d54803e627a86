"""uWSGI's metrics of one instance by name, as its segment has them; pure."""

from typing import Any, Final, NamedTuple

from palatine_stats_exporter.board import Facts

#: Types of metrics, as numbers in documents and on the wire.
COUNTER: Final = 0
GAUGE: Final = 1


class Metric(NamedTuple):
    """One metric and what it stands at."""

    name: str
    type: int
    value: int


def metrics(facts: Facts) -> list[Metric]:
    """All metrics of an instance, in uWSGI's order; none where its config asks for none."""
    return [Metric(str(row.get("name", "")), _number(row.get("type")), row.get("value", 0)) for row in facts.metrics]


def _number(label: Any) -> int:
    """A label of a segment we do not trust."""
    return label if isinstance(label, int) else COUNTER
