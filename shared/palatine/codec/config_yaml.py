"""YAML configurations: text in, entries of one mapping out, each with its place. Must never run in the master.

Uses PyYAML's node composer only: no tags are resolved and no objects are made, so `yes` and `null` stay text.
"""

from collections.abc import Iterator
from typing import Final

import yaml

from palatine.codec.config_source import Entry, Source

#: Options one mapping may have after its aliases are followed; a few nested aliases could make billions.
_MAX_ENTRIES: Final = 20_000


def parse_yaml(source: Source, section: str) -> list[Entry] | None:
    """The options of the top-level mapping called `section` ("uwsgi" if empty) in order; None where there is none.

    A list repeats its key, a mapping inside is flattened, a key without a value is left out, all as in uWSGI built
    with libyaml; aliases, which that ignores, stand for what they name. A section may be a list of mappings.
    Raises ConfigError for what is no YAML and for anchors that contain themselves.
    """
    section = section or "uwsgi"
    try:
        root = yaml.compose(source.text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise source.error(f"this is no YAML: {error.problem or error.context}", mark.index if mark else 0) from error
    except yaml.YAMLError as error:
        raise source.error(f"this is no YAML: {error}", getattr(error, "position", 0)) from error
    except RecursionError as error:
        raise source.error("the YAML document is nested too deeply", 0) from error
    chosen = _choose(root, section)
    if chosen is None:
        return None
    entries: list[Entry] = []
    for entry in (entry for mapping in chosen for entry in _options(source, mapping, ())):
        entries.append(entry)
        if len(entries) > _MAX_ENTRIES:
            raise entry.origin.error(f"more than {_MAX_ENTRIES} options in one YAML document")
    return entries


def _choose(root: yaml.Node | None, section: str) -> list[yaml.MappingNode] | None:
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode) and key.value == section:
            if isinstance(value, yaml.MappingNode):
                return [value]
            if isinstance(value, yaml.SequenceNode):
                return [item for item in value.value if isinstance(item, yaml.MappingNode)]
    return None


def _options(source: Source, mapping: yaml.MappingNode, inside: tuple[yaml.Node, ...]) -> Iterator[Entry]:
    if mapping in inside:
        raise source.error("this YAML anchor contains itself", mapping.start_mark.index)
    for key, value in mapping.value:
        if not isinstance(key, yaml.ScalarNode):
            raise source.error("an option's name must be a plain word", key.start_mark.index)
        yield from _values(source, key, value, (*inside, mapping))


def _values(source: Source, key: yaml.ScalarNode, node: yaml.Node, inside: tuple[yaml.Node, ...]) -> Iterator[Entry]:
    if isinstance(node, yaml.ScalarNode):
        if node.value or node.style:
            # an option stands where its name does; the items of a list each have a place of their own
            in_list = isinstance(inside[-1], yaml.SequenceNode)
            yield Entry(key.value, node.value, source.place((node if in_list else key).start_mark.index))
    elif isinstance(node, yaml.MappingNode):
        yield from _options(source, node, inside)
    elif node in inside:
        raise source.error("this YAML anchor contains itself", node.start_mark.index)
    else:
        for item in node.value:
            yield from _values(source, key, item, (*inside, node))
