import json

from hypothesis import given, settings
from hypothesis import strategies as st

from palatine.codec.otlp import Instrument, Measure, Resource, rejected, requests

COUNT = Instrument("uwsgi.worker.requests", "{requests}", "Requests finished.", monotonic=True)
LEVEL = Instrument("uwsgi.worker.rss", "By", "Resident memory.")
WHO = Resource({"service.name": "app", "empty": ""}, 7)
LIMIT = 100_000


def test_a_request_is_the_documented_json() -> None:
    measures = [Measure(COUNT, {"id": "1"}, 3), Measure(LEVEL, {}, -5), Measure(COUNT, {"id": "2"}, 1 << 70)]
    (body,) = requests(("palatine", "1"), [(WHO, measures)], 9, LIMIT)

    def attribute(key: str, value: str) -> dict[str, object]:
        return {"key": key, "value": {"stringValue": value}}

    def count(worker: str, value: str) -> dict[str, object]:
        named = {"attributes": [attribute("id", worker)]}
        return {"timeUnixNano": "9", "asInt": value, **named, "startTimeUnixNano": "7"}

    assert json.loads(body) == {
        "resourceMetrics": [
            {
                "resource": {"attributes": [attribute("service.name", "app")]},
                "scopeMetrics": [
                    {
                        "scope": {"name": "palatine", "version": "1"},
                        "metrics": [
                            {
                                "name": "uwsgi.worker.requests",
                                "description": "Requests finished.",
                                "unit": "{requests}",
                                "sum": {
                                    "aggregationTemporality": 2,
                                    "isMonotonic": True,
                                    "dataPoints": [count("1", "3"), count("2", "9223372036854775807")],
                                },
                            },
                            {
                                "name": "uwsgi.worker.rss",
                                "description": "Resident memory.",
                                "unit": "By",
                                "gauge": {"dataPoints": [{"timeUnixNano": "9", "asInt": "-5"}]},
                            },
                        ],
                    }
                ],
            }
        ]
    }


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(), st.integers(0, 1500)), max_size=6))
def test_requests_are_bounded_and_hold_every_point_in_order(found: list[tuple[str, int]]) -> None:
    measured = [
        (Resource({"service.name": name}, 1), [Measure(LEVEL, {"n": str(number)}, number) for number in range(count)])
        for name, count in found
    ]
    bodies = list(requests(("palatine", "1"), measured, 9, LIMIT))
    assert all(len(body) < 2 * LIMIT for body in bodies)
    points = [
        (resource["resource"]["attributes"], int(point["asInt"]))
        for body in bodies
        for resource in json.loads(body)["resourceMetrics"]
        for metric in resource["scopeMetrics"][0]["metrics"]
        for point in metric["gauge"]["dataPoints"]
    ]
    assert [value for _, value in points] == [number for _, count in found for number in range(count)]


def test_what_a_collector_did_not_take() -> None:
    assert rejected(b"") == rejected(b"{}") == rejected(b'{"partialSuccess":{}}') == rejected(b"nonsense") == ""
    assert rejected(b'{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"old"}}') == (
        "3 points were rejected: old"
    )
