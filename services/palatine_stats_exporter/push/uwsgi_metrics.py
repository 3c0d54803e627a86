"""uWSGI's metrics of one instance by name, as its segment has them; pure."""

from typing import Any, Final, NamedTuple

from palatine_stats_exporter.board import Facts

#: The type of a gauge, as a number in documents and on the wire.
GAUGE: Final = 1


class Metric(NamedTuple):
    """One metric and what it stands at."""

    name: str
    type: int
    value: int


def metrics(facts: Facts) -> list[Metric]:
    """All metrics of an instance, in uWSGI's order; none where its config asks for none."""
    return [Metric(str(row.get("name", "")), _number(row.get("type")), row.get("value", 0)) for row in facts.metrics]


class Fresh:
    """The metrics as one pusher sends them: of those with `reset_after_push`, the initial value and what came since.

    uWSGI sets them back in the app's memory, so that of several pushers the first takes all; here each gets it whole,
    and the stats document keeps the sum.
    """

    def __init__(self) -> None:
        self._sent: dict[str, int] = {}

    def metrics(self, facts: Facts) -> list[Metric]:
        """All metrics of an instance, to be sent now."""
        initial = {
            str(row.get("name", "")): _number(row.get("initial_value"))
            for row in facts.metrics
            if row.get("reset_after_push")
        }
        return [
            self._since(metric, initial[metric.name]) if metric.name in initial else metric for metric in metrics(facts)
        ]

    def _since(self, metric: Metric, initial: int) -> Metric:
        before = self._sent.get(metric.name, initial)
        self._sent[metric.name] = metric.value
        return metric._replace(value=initial + metric.value - before if metric.value >= before else metric.value)


def _number(label: Any) -> int:
    """A label of a segment we do not trust; a type it does not say is a counter."""
    return label if isinstance(label, int) else 0
