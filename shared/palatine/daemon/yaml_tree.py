"""YAML text into plain values and the place of each; must never build anything but plain values."""

from typing import Any

import yaml

from palatine.errors import ConfigError

_Where = tuple[str | int, ...]
_Places = dict[_Where, tuple[int, int]]
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(text: str, path: str) -> tuple[dict[str, Any], _Places, _Places]:
    """The mapping in `text`, the places of its values and those of its keys, 1-based.

    ConfigError for bad YAML, two documents, a key that is no text or is given twice.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return {}, {}, {}
            _refuse_twice(node, path, ())
            values = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise ConfigError(error.problem or error.context or "is not YAML", path, *place) from error
    except (yaml.YAMLError, ValueError) as error:  # a control character; a date that is none
        raise ConfigError(f"is not YAML: {error}".replace("\n", " "), path) from error
    if not isinstance(values, dict):
        raise ConfigError("must be a mapping of keys to values", path, *_place(node))
    places: _Places = {(): _place(node)}
    keys: _Places = {}
    _note_places(node, (), places, keys)
    return values, places, keys


def _place(node: Any) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _refuse_twice(node: Any, path: str, above: tuple[int, ...]) -> None:
    if id(node) in above:
        raise ConfigError("an alias may not contain itself", path, *_place(node))
    inside = (*above, id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twice(item, path, inside)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in {
                "tag:yaml.org,2002:str",
                "tag:yaml.org,2002:merge",
            }:
                raise ConfigError(f"a key must be text, not {_written(key)}; quote it", path, *_place(key))
            if key.value in seen:
                raise ConfigError(f"{key.value!r} is given twice, first in line {seen[key.value]}", path, *_place(key))
            seen[key.value] = key.start_mark.line + 1
            _refuse_twice(value, path, inside)


def _written(key: Any) -> str:
    return repr(key.value) if isinstance(key, yaml.ScalarNode) else "a list or mapping"


def _note_places(node: Any, where: _Where, places: _Places, keys: _Places) -> None:
    pairs: list[tuple[str | int, Any]] = []
    if isinstance(node, yaml.MappingNode):
        pairs = [(key.value, value) for key, value in node.value]
        keys.update({(*where, key.value): _place(key) for key, _ in node.value})
    elif isinstance(node, yaml.SequenceNode):
        pairs = list(enumerate(node.value))
    for name, value in pairs:
        places[*where, name] = _place(value)
        _note_places(value, (*where, name), places, keys)
