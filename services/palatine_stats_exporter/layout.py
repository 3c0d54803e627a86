"""JSON as uWSGI's stats server lays it out: tabs, `"key":value`, one item a line; must always be valid JSON.

    {                              minified: {"a":1,"b":[{"c":2}],"d":["x",""]}
    <tab>"a":1,
    <tab>"b":[
    <tab><tab>{ ... }              an object in a list is indented,
    <tab>],
    <tab>"d":[
    "x",                           a string in a list is not,
    ""
    <tab>],
    <tab>"e":<tab>{ ... }          an object under a key is indented after its colon.
    }                              no newline at the end

Facts: spec/server.md 2.1 and the captures beside it.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

_encode = msgspec.json.Encoder().encode


class Hole(str):
    """A piece of text that is put into the layout as it stands; inside a list it brings its own indentation."""

    __slots__ = ()


#: Marks the place of a value that is filled in later: no JSON text contains this byte.
SLOT: Final = Hole("\x01")


def lay_out(value: Any, *, minified: bool = False, indent: int = 0) -> str:
    """`value` (mappings, sequences, str, int, Hole) as text; its first line is not indented."""
    if isinstance(value, Hole):
        return str(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, int):
        return str(int(value))
    tabs, deeper, newline = ("", "", "") if minified else ("\t" * indent, "\t" * (indent + 1), "\n")
    if isinstance(value, Mapping):
        items = [
            f"{deeper}{quoted(str(key))}:{deeper if isinstance(item, Mapping) else ''}"
            f"{lay_out(item, minified=minified, indent=indent + 1)}"
            for key, item in value.items()
        ]
        return f"{{{newline}{f',{newline}'.join(items)}{newline}{tabs}}}"
    if isinstance(value, list | tuple):
        items = [
            f"{'' if isinstance(item, str) else deeper}{lay_out(item, minified=minified, indent=indent + 1)}"
            for item in value
        ]
        return f"[{newline}{f',{newline}'.join(items)}{newline}{tabs}]"
    raise TypeError(f"a stats document holds no {type(value).__name__}")


def quoted(text: str) -> str:
    """`text` as a JSON string; what cannot be UTF-8 (lone surrogates) is written as a backslash escape."""
    try:
        return _encode(text).decode()
    except UnicodeEncodeError:
        return _encode(text.encode("utf-8", "backslashreplace").decode()).decode()
