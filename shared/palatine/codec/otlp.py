"""OTLP metrics in their JSON form: measurements to requests of bounded size, and what a collector answers; sans-io.

Source: OpenTelemetry protocol 1.x, "OTLP/HTTP" and "JSON Protobuf Encoding": 64-bit integers are texts, enums numbers.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

_CUMULATIVE: Final = 2  # AGGREGATION_TEMPORALITY_CUMULATIVE
#: Data points of one metric that go into one request: about 200 bytes each.
_MOST_POINTS: Final = 500
_MOST_INT: Final = (1 << 63) - 1


class Instrument(NamedTuple):
    """What a metric is: dotted name, UCUM unit, help; `monotonic` for a count since the start, else a level."""

    name: str
    unit: str
    help: str
    monotonic: bool = False


class Measure(NamedTuple):
    """A value of an instrument, of the part of the resource its attributes name."""

    instrument: Instrument
    attributes: Mapping[str, str]
    value: int


class Resource(NamedTuple):
    """Who measured: attributes, and when its counts began, in nanoseconds of unix time."""

    attributes: Mapping[str, str]
    start_ns: int


def requests(
    scope: tuple[str, str], measured: Iterable[tuple[Resource, Sequence[Measure]]], time_ns: int, limit: int
) -> Iterator[bytes]:
    """Bodies of POST /v1/metrics, each below about `limit` bytes; `scope` is the name and version of who says it."""
    open_resources: list[str] = []
    size = 0
    for resource, measures in measured:
        open_metrics: list[str] = []
        for text in _metrics(resource, measures, time_ns):
            if size + len(text) > limit and (open_metrics or open_resources):
                yield _body([*open_resources, *_wrapped(resource, scope, open_metrics)])
                open_resources, open_metrics, size = [], [], 0
            open_metrics.append(text)
            size += len(text)
        open_resources += _wrapped(resource, scope, open_metrics)
    if open_resources:
        yield _body(open_resources)


def rejected(body: bytes) -> str:
    """What a collector that answered 200 did not take, "" if it took all."""
    try:
        partial = json.loads(body or b"{}").get("partialSuccess") or {}
        count, message = int(partial.get("rejectedDataPoints") or 0), str(partial.get("errorMessage") or "")
    except (ValueError, TypeError, AttributeError):
        return ""
    return f"{count} points were rejected: {message}" if count else message


def _metrics(resource: Resource, measures: Sequence[Measure], time_ns: int) -> Iterator[str]:
    """Each metric as JSON text, one of many points in pieces."""
    by_instrument: dict[Instrument, list[Measure]] = {}
    for measure in measures:
        by_instrument.setdefault(measure.instrument, []).append(measure)
    for instrument, found in by_instrument.items():
        for at in range(0, len(found), _MOST_POINTS):
            points = [_point(one, resource, time_ns) for one in found[at : at + _MOST_POINTS]]
            yield _text(
                {
                    "name": instrument.name,
                    "description": instrument.help,
                    "unit": instrument.unit,
                    **(
                        {"sum": {"aggregationTemporality": _CUMULATIVE, "isMonotonic": True, "dataPoints": points}}
                        if instrument.monotonic
                        else {"gauge": {"dataPoints": points}}
                    ),
                }
            )


def _point(measure: Measure, resource: Resource, time_ns: int) -> dict[str, Any]:
    value = max(-_MOST_INT - 1, min(measure.value, _MOST_INT))
    point = {"timeUnixNano": str(time_ns), "asInt": str(value)}
    if measure.attributes:
        point["attributes"] = _attributes(measure.attributes)
    if measure.instrument.monotonic:
        point["startTimeUnixNano"] = str(resource.start_ns)
    return point


def _attributes(named: Mapping[str, str]) -> Any:
    return [{"key": key, "value": {"stringValue": value}} for key, value in named.items() if value]


def _wrapped(resource: Resource, scope: tuple[str, str], metrics: Sequence[str]) -> list[str]:
    if not metrics:
        return []
    attributes = _text(_attributes(resource.attributes))
    named = _text({"name": scope[0], "version": scope[1]})
    listed = ",".join(metrics)
    return [f'{{"resource":{{"attributes":{attributes}}},"scopeMetrics":[{{"scope":{named},"metrics":[{listed}]}}]}}']


def _body(resources: Sequence[str]) -> bytes:
    return f'{{"resourceMetrics":[{",".join(resources)}]}}'.encode()


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
