"""The paths of the exporter's HTTP side and what each takes and gives, declared once: serving and OpenAPI go by it."""

from typing import Final, NamedTuple

from palatine_stats_exporter import api_model as model
from palatine_stats_exporter.history import COARSE_SECONDS, FINE_SECONDS

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
EVENTS: Final = "text/event-stream"
#: The latest moment a parameter may name; JSON readers lose whole numbers beyond.
MOST_SECONDS: Final = (1 << 53) - 1


class Parameter(NamedTuple):
    """A parameter of the query; `kind` is a JSON schema."""

    name: str
    help: str
    kind: dict[str, object]
    required: bool = False


class Route(NamedTuple):
    """One path; `{name}` in it stands for an instance. `problems` are the other answers than 200 it may give."""

    path: str
    handler: str
    help: str
    answer: type | None = None
    media: str = JSON
    parameters: tuple[Parameter, ...] = ()
    problems: tuple[int, ...] = ()


_SINCE: Final = Parameter(
    "since", "Only samples after this unix time.", {"type": "number", "minimum": 0, "maximum": MOST_SECONDS}
)
_RING: Final = Parameter(
    "interval",
    f"Seconds between samples: {FINE_SECONDS} goes back half an hour, {COARSE_SECONDS} six hours.",
    {"type": "integer", "enum": [FINE_SECONDS, COARSE_SECONDS], "default": FINE_SECONDS},
)

ROUTES: Final = (
    Route("/api/v1/instances", "instances", "All app-servers of this host.", model.Instances),
    Route(
        "/api/v1/instances/{name}",
        "instance",
        "One app-server with its workers.",
        model.InstanceDetail,
        problems=(404,),
    ),
    Route(
        "/api/v1/instances/{name}/history",
        "instance_history",
        "What it stood at over the last hours.",
        model.History,
        parameters=(_SINCE, _RING),
        problems=(400, 404),
    ),
    Route(
        "/api/v1/history",
        "history",
        "What the whole host stood at over the last hours.",
        model.History,
        parameters=(_SINCE, _RING),
        problems=(400,),
    ),
    Route("/api/v1/daemons", "daemons", "palatine's own daemons on this host.", model.Daemons),
    Route("/api/v1/vassals", "vassals", "The Emperor's vassals.", model.Vassals),
    Route("/api/v1/alarms", "alarms", "Alarms, those raised last first.", model.Alarms),
    Route("/api/v1/events", "events", "The host live, by server-sent events: `state`, then `change`.", media=EVENTS),
    Route("/api/v1/openapi.json", "openapi", "This description.", dict),
    Route("/metrics", "metrics", "All of it for Prometheus; OpenMetrics where Accept prefers it.", media=TEXT),
    Route(
        "/probe",
        "probe",
        "The metrics of one stats socket, ours by its instance's name or address, others where `probe` allows.",
        media=TEXT,
        parameters=(
            Parameter(
                "target",
                "tcp://, http:// or unix:// address, or a name.",
                {"type": "string", "minLength": 1},
                required=True,
            ),
        ),
        problems=(400, 403, 502),
    ),
)


def match(path: str) -> tuple[Route, str] | None:
    """The route a request's path takes, and what stands for `{name}` in it."""
    for route in ROUTES:
        before, brace, after = route.path.partition("{name}")
        if not brace:
            if path == route.path:
                return route, ""
        elif path.startswith(before) and path.endswith(after):
            name = path[len(before) : len(path) - len(after)]
            if name and "/" not in name:
                return route, name
    return None
