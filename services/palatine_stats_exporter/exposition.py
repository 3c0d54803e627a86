"""Metric families as Prometheus text or OpenMetrics; pure, and never a line that a parser would refuse.

Formats: Prometheus text 0.0.4, and OpenMetrics 1.0.0 for clients whose Accept header prefers it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

GAUGE: Final = "gauge"
COUNTER: Final = "counter"
HISTOGRAM: Final = "histogram"
#: Counters whose old names lack `_total`: promtool objects to calling them what they are.
UNTYPED: Final = "untyped"

TEXT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Distribution(NamedTuple):
    """A histogram's value: upper bounds and how many fell under each (cumulative, +Inf last), and the sum of all."""

    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


class Family(NamedTuple):
    """One metric: its name (a counter's ends with `_total`), type, help; labels and value of each sample."""

    name: str
    type: str
    help: str
    samples: Iterable[tuple[str, Any]]


def wants_openmetrics(accept: str) -> bool:
    """Whether an Accept header prefers OpenMetrics to plain text (RFC 9110, 12.5.1); a tie is plain text."""
    openmetrics = plain = 0.0
    for offer in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in offer.split(";"))
        quality = next((_quality(word[2:]) for word in parameters if word.startswith("q=")), 1.0)
        if kind == "application/openmetrics-text":
            openmetrics = max(openmetrics, quality)
        elif kind in {"text/plain", "text/*"}:
            plain = max(plain, quality)
    return openmetrics > plain


def render(families: Iterable[Family], *, openmetrics: bool = False) -> bytes:
    """The page; families without samples are left out."""
    lines: list[str] = []
    for family in families:
        name = family.name
        if family.type == HISTOGRAM:
            found = [line for labels, value in family.samples for line in _histogram(name, labels, value)]
        else:
            found = [f"{name}{{{labels}}} {value}" if labels else f"{name} {value}" for labels, value in family.samples]
        if found:
            said, kind = name, family.type
            if openmetrics:
                said = name.removesuffix("_total") if kind == COUNTER else name
                kind = "unknown" if kind == UNTYPED else kind
            lines += (f"# HELP {said} {family.help}", f"# TYPE {said} {kind}", *found)
    if openmetrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


def labels(**named: str) -> str:
    """Label pairs, values escaped: backslash, quote and newline; what is no UTF-8 as backslash escapes."""
    return ",".join(f'{name}="{escaped(value)}"' for name, value in named.items())


def escaped(value: str) -> str:
    """A label's value between its quotes."""
    value = value.encode("utf-8", "backslashreplace").decode()
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _histogram(name: str, labels: str, value: Distribution) -> Iterator[str]:
    own = f"{labels}," if labels else ""
    for bound, number in zip(value.bounds, value.counts, strict=False):
        yield f'{name}_bucket{{{own}le="{float(bound)}"}} {number}'
    yield f'{name}_bucket{{{own}le="+Inf"}} {value.counts[-1]}'
    yield f"{name}_sum{{{labels}}} {value.total}"
    yield f"{name}_count{{{labels}}} {value.counts[-1]}"


def _quality(word: str) -> float:
    try:
        return min(1.0, max(0.0, float(word)))
    except ValueError:
        return 0.0
