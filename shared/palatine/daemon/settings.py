"""YAML files into typed settings, every error with its place; must never import a daemon's own types."""

import difflib
import os
import pwd
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs

from palatine.errors import ConfigError

T = TypeVar("T")
#: attrs' validators begin with the name of the field, and so should others.
_BLAMED = re.compile(r"'(\w+)' ")
Where = tuple[str | int, ...]


@attrs.frozen
class Document:
    """A parsed file: its values, and the (line, column) of every value and of every key by its path."""

    values: dict[str, Any]
    path: str = ""
    places: Mapping[Where, tuple[int, int]] = attrs.field(factory=dict)
    keys: Mapping[Where, tuple[int, int]] = attrs.field(factory=dict)

    def error(self, where: Where, message: str, *, key: bool = False) -> ConfigError:
        """A ConfigError at the value (or the `key`) of `where`, or at its nearest parent that has a place."""
        if key and where in self.keys:
            return ConfigError(message, self.path, *self.keys[where])
        while where and where not in self.places:
            where = where[:-1]
        return ConfigError(message, self.path, *self.places.get(where, (0, 0)))


@attrs.frozen
class Secret:
    """A password or token; written in YAML as text, as `{file: PATH}` or as `{env: NAME}`, and never shown."""

    value: str = attrs.field(repr=lambda _: "***")

    def __str__(self) -> str:
        return "***"


def read_document(path: Path) -> Document:
    """Parse a YAML file; ConfigError if it cannot be read or is not a mapping with text keys."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}", str(path)
        ) from error
    return parse_document(text, str(path))


def parse_document(text: str, path: str = "") -> Document:
    """Parse YAML text; `path` is for messages. An empty text is an empty mapping."""
    from palatine.daemon import yaml_tree  # PyYAML takes 15 ms to import; a daemon without a file need not pay

    values, places, keys = yaml_tree.load(text, path)
    return Document(values, path, places, keys)


def typed(document: Document, cls: type[T], *, also: Iterable[str] = ()) -> T:
    """The document as an instance of the attrs class `cls`; keys in `also` are somebody else's and skipped.

    A field `max_size` is the key `max-size` (or `max_size`). Fields may be str, int, float, bool, Path, Secret,
    Literal, `X | None`, list, tuple, dict with text keys, and further attrs classes. ConfigError names the place and
    the nearest name.
    """
    skipped = {_key(name) for name in also}
    values = {name: value for name, value in document.values.items() if _key(name) not in skipped}
    result: T = _Typer(document).instance(values, cls, ())
    return result


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the known name nearest to `word`, empty if none is near."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def operators(document: Document) -> frozenset[int]:
    """Uids of the `operators` key, which lists names or numbers."""
    listed = document.values.get("operators") or []
    if not isinstance(listed, list):
        raise document.error(("operators",), "'operators' must be a list of users")
    found = set()
    for index, user in enumerate(listed):
        try:
            found.add(user if isinstance(user, int) else pwd.getpwnam(str(user)).pw_uid)
        except KeyError as error:
            raise document.error(("operators", index), f"there is no user {user!r}") from error
    return frozenset(found)


def _key(name: str) -> str:
    return name.replace("_", "-")


@attrs.frozen
class _Typer:
    """Turns parsed values into what a type asks for; `where` is the path of keys so far."""

    document: Document

    def instance(self, values: Any, cls: type, where: Where) -> Any:
        """An attrs instance from a mapping; every key must be a field, every field without a default a key."""
        if not isinstance(values, Mapping):
            raise self.document.error(where, f"{_name(where)} must be a mapping, not {_kind(values)}")
        hints = typing.get_type_hints(cls)
        fields = {_key(field.alias or field.name): field for field in attrs.fields(cls) if field.init}
        arguments: dict[str, Any] = {}
        for name, value in values.items():
            field = fields.get(_key(name))
            if field is None:
                unknown = f"unknown key {name!r}{nearest(_key(name), fields)}"
                raise self.document.error((*where, name), unknown, key=True)
            arguments[field.alias or field.name] = self.value(value, hints[field.name], (*where, name))
        for name, field in fields.items():
            if field.default is attrs.NOTHING and (field.alias or field.name) not in arguments:
                raise self.document.error(where, f"{name!r} is missing{f' in {_name(where)}' if where else ''}")
        return self._made(cls, arguments, where, list(values))

    def _made(self, cls: type, arguments: dict[str, Any], where: Where, given: Sequence[str]) -> Any:
        try:
            return cls(**arguments)
        except (ValueError, TypeError) as error:
            message = str(error.args[0] if error.args else error)
            place = next(((*where, name) for name in given if _key(name) == _blamed(error, message)), where)
            raise self.document.error(place, message) from error

    def value(self, value: Any, kind: Any, where: Where) -> Any:
        """`value` as the annotation `kind` asks."""
        origin = get_origin(kind)
        if kind is Any:
            return value
        if origin in {Union, types.UnionType}:
            return self._union(value, get_args(kind), where)
        if origin is Literal:
            return self._literal(value, get_args(kind), where)
        if origin is not None and issubclass(origin, Mapping):
            return self._mapping(value, get_args(kind)[1], where)
        if origin is not None and issubclass(origin, Sequence | frozenset):
            items = self._items(value, get_args(kind)[0], where)
            return items if origin is Sequence or not callable(origin) else self._collect(origin, items)
        if kind is Secret:
            return self._secret(value, where)
        if attrs.has(kind):
            return self.instance(value, kind, where)
        return self._scalar(value, kind, where)

    @staticmethod
    def _collect(origin: Callable[[list[Any]], Any], items: list[Any]) -> Any:
        return items if getattr(origin, "__module__", "") == "collections.abc" else origin(items)

    def _union(self, value: Any, kinds: tuple[Any, ...], where: Where) -> Any:
        if value is None and types.NoneType in kinds:
            return None
        first: ConfigError | None = None
        for kind in (k for k in kinds if k is not types.NoneType):
            try:
                return self.value(value, kind, where)
            except ConfigError as error:
                first = first or error
        raise first or self.document.error(where, f"{_name(where)} must be empty")

    def _literal(self, value: Any, words: tuple[Any, ...], where: Where) -> Any:
        if value in words:
            return value
        choices = ", ".join(str(word) for word in words)
        hint = nearest(str(value), [str(word) for word in words])
        raise self.document.error(where, f"{_name(where)} must be one of {choices}, not {value!r}{hint}")

    def _mapping(self, value: Any, kind: Any, where: Where) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise self.document.error(where, f"{_name(where)} must be a mapping, not {_kind(value)}")
        return {name: self.value(item, kind, (*where, name)) for name, item in value.items()}

    def _items(self, value: Any, kind: Any, where: Where) -> list[Any]:
        if not isinstance(value, list):
            raise self.document.error(where, f"{_name(where)} must be a list, not {_kind(value)}")
        return [self.value(item, kind, (*where, index)) for index, item in enumerate(value)]

    def _secret(self, value: Any, where: Where) -> Secret:
        if isinstance(value, str):
            return Secret(value)
        match value:
            case {"file": str(path)} if len(value) == 1:
                try:
                    return Secret(Path(path).read_text(encoding="utf-8").rstrip("\n"))
                except OSError as error:
                    raise self.document.error((*where, "file"), f"{path} cannot be read: {error.strerror}") from error
            case {"env": str(name)} if len(value) == 1:
                if name not in os.environ:
                    raise self.document.error((*where, "env"), f"${name} is not set")
                return Secret(os.environ[name])
        raise self.document.error(where, f"{_name(where)} must be text, {{file: PATH}} or {{env: NAME}}")

    def _scalar(self, value: Any, kind: type, where: Where) -> Any:
        if kind is Path and isinstance(value, str):
            return Path(value)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
            return value
        raise self.document.error(where, f"{_name(where)} must be {_wanted(kind)}, not {_kind(value)}")


def _blamed(error: Exception, message: str) -> str:
    """The key a validator complains about: the attribute it raised with, or the quoted word its message begins with."""
    names = [argument.name for argument in error.args if isinstance(argument, attrs.Attribute)]
    begins = _BLAMED.match(message)
    return _key(names[0] if names else begins[1] if begins else "")


def _name(where: Where) -> str:
    return repr(".".join(str(part) for part in where)) if where else "the file"


def _wanted(kind: type) -> str:
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
    return names.get(kind, kind.__name__)


def _kind(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list) else repr(value)
