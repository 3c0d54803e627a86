"""The OpenAPI 3.1 document of the HTTP side, made from its routes and types.

python -m palatine_stats_exporter.openapi > docs/openapi.json
"""

import inspect
import json
import sys
from typing import Any, Final

import msgspec

from palatine_stats_exporter.api_model import Problem
from palatine_stats_exporter.routes import JSON, ROUTES, Route

#: Of the API, not of palatine: it changes when an answer loses something.
VERSION: Final = "1.0.0"

_ABOUT: Final = """\
Everything palatine's stats-exporter knows, read-only. Numbers come from shared memory: asking costs no app anything.\
"""
_PROBLEMS: Final = {
    400: "A parameter is missing or wrong.",
    403: "The configuration does not allow this target.",
    404: "No such instance.",
    502: "The target did not answer as a stats socket does.",
}


def document() -> dict[str, Any]:
    """The whole description."""
    types = [route.answer for route in ROUTES if route.answer not in {None, dict}]
    _, components = msgspec.json.schema_components([*types, Problem], ref_template="#/components/schemas/{name}")
    for component in components.values():  # Python has taken the indentation from docstrings itself since 3.13
        if "description" in component:
            component["description"] = inspect.cleandoc(component["description"])
    return {
        "openapi": "3.1.0",
        "info": {"title": "palatine stats-exporter", "version": VERSION, "description": _ABOUT},
        "paths": {route.path: {"get": _operation(route)} for route in ROUTES},
        "components": {
            "schemas": components,
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    parameters = [
        {"name": "name", "in": "path", "required": True, "description": "An instance's name.", "schema": _NAME}
    ] * ("{name}" in route.path)
    parameters += [
        {
            "name": parameter.name,
            "in": "query",
            "required": parameter.required,
            "description": parameter.help,
            "schema": parameter.kind,
        }
        for parameter in route.parameters
    ]
    answers = {
        "200": {"description": route.help, "content": {route.media.partition(";")[0]: {"schema": _schema(route)}}}
    }
    for status in route.problems:
        answers[str(status)] = {
            "description": _PROBLEMS[status],
            "content": {JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    found: dict[str, Any] = {"operationId": route.handler, "summary": route.help}
    return {**found, **({"parameters": parameters} if parameters else {}), "responses": answers}


_NAME: Final = {"type": "string", "minLength": 1, "pattern": "^[^/]+$"}


def _schema(route: Route) -> dict[str, Any]:
    if route.answer is None:
        return {"type": "string"}
    if route.answer is dict:
        return {"type": "object"}
    return {"$ref": f"#/components/schemas/{route.answer.__name__}"}


def text() -> str:
    """The description as the file that is committed."""
    return json.dumps(document(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
