r"""UWSGI's key-value lists, `name=a,items=10`: a backslash takes the next character as it is. Plain, sans-io."""

from collections.abc import Mapping

from palatine.errors import ConfigError


def parse(text: str, keys: Mapping[str, str]) -> dict[str, str]:
    """The values in `text` by the key each spelling in `keys` stands for; the last of a repeated key counts.

    ConfigError for an item without "=" and for a key not in `keys` (uWSGI passes over both).
    """
    values: dict[str, str] = {}
    for item in _split(text):
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"{item!r} is not of the form key=value")
        if key not in keys:
            raise ConfigError(f"unknown key {key!r}: known are {', '.join(sorted(set(keys.values())))}")
        values[keys[key]] = value
    return values


def _split(text: str) -> list[str]:
    items = [""]
    characters = iter(text)
    for character in characters:
        if character == ",":
            items.append("")
        elif character == "\\":
            items[-1] += next(characters, "")
        else:
            items[-1] += character
    return [item for item in items if item]
