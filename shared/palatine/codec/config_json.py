"""JSON configurations: text in, entries of one object out, each with its place. Must never read a file.

Written by hand because the standard decoder forgets positions and repeated keys, and uWSGI's users have both.
"""

from typing import Final, NamedTuple

from palatine.codec.config_source import Entry, Source
from palatine.errors import ConfigError

_BLANKS: Final = " \t\r\n"
_COMMENTS: Final = {"/*": "*/", "//": "\n"}
_NUMBER: Final = frozenset("+-.0123456789eE")
_WORDS: Final = {"true": "1", "false": "0", "null": "0"}
_ESCAPES: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
#: Deeper nesting is refused; a configuration needs three levels.
_MAX_NESTING: Final = 64


class _Node(NamedTuple):
    at: int
    text: str | None = None  # of a scalar
    items: "list[_Node] | None" = None  # of an array
    members: "list[tuple[str, _Node]] | None" = None  # of an object


def parse_json(source: Source, section: str) -> list[Entry]:
    """The members of the object called `section` ("uwsgi" if empty) in order; raises ConfigError.

    Strings and numbers keep their text, true is "1", false and null are "0", an array repeats its key, and objects
    inside are skipped. A key that repeats counts each time, of several sections the first. Comments are allowed.
    """
    section = section or "uwsgi"
    scanner = _Scanner(source)
    root = scanner.value(0)
    if scanner.peek():
        raise scanner.error("text after the end of the JSON document")
    chosen = [node for key, node in root.members or () if key == section and node.members is not None]
    if not chosen:
        raise source.error(f"there is no object called {section!r} in this JSON document", root.at)
    entries = []
    for key, node in chosen[0].members or ():
        scalars = [item for item in node.items or (node,) if item.text is not None]
        entries += [Entry(key, item.text, source.place(item.at)) for item in scalars]
    return entries


class _Scanner:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._text = source.text
        self._at = 0

    def error(self, message: str) -> ConfigError:
        return self._source.error(message, self._at)

    def peek(self) -> str:
        """The next character that is no blank and in no comment, "" at the end."""
        while self._at < len(self._text):
            if self._text.startswith(tuple(_COMMENTS), self._at):
                end = _COMMENTS[self._text[self._at : self._at + 2]]
                found = self._text.find(end, self._at + 2)
                self._at = len(self._text) if found < 0 else found + len(end)
            elif self._text[self._at] in _BLANKS:
                self._at += 1
            else:
                break
        return self._text[self._at : self._at + 1]

    def take(self, *wanted: str) -> str:
        char = self.peek()
        if char not in wanted or not char:
            raise self.error(f"expected {' or '.join(wanted)}, found {char or 'the end'!r}")
        self._at += 1
        return char

    def value(self, depth: int) -> _Node:
        if depth > _MAX_NESTING:
            raise self.error("the JSON document is nested too deeply")
        char, at = self.peek(), self._at
        if char == "{":
            return _Node(at, members=self._members(depth))
        if char == "[":
            return _Node(at, items=self._items(depth))
        return _Node(at, text=self.string() if char == '"' else self._word())

    def _members(self, depth: int) -> list[tuple[str, _Node]]:
        members: list[tuple[str, _Node]] = []
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return members
        while True:
            self.peek()
            at = self._at
            key = self.string()
            self.take(":")
            value = self.value(depth + 1)
            # an option stands where its name does; the items of an array each have a place of their own
            members.append((key, value._replace(at=at) if value.text is not None else value))
            if self.take(",", "}") == "}":
                return members

    def _items(self, depth: int) -> list[_Node]:
        items: list[_Node] = []
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return items
        while True:
            items.append(self.value(depth + 1))
            if self.take(",", "]") == "]":
                return items

    def string(self) -> str:
        self.take('"')
        parts = []
        start = self._at
        while True:
            char = self._text[self._at : self._at + 1]
            if char < " ":
                raise self.error(
                    "a string is not closed" if char in {"", "\n"} else "control characters need an escape"
                )
            if char not in {'"', "\\"}:
                self._at += 1
                continue
            parts.append(self._text[start : self._at])
            self._at += 1
            if char == '"':
                return "".join(parts)
            parts.append(self._escape())
            start = self._at

    def _escape(self) -> str:
        char = self._text[self._at : self._at + 1]
        self._at += 1
        if char in _ESCAPES:
            return _ESCAPES[char]
        if char != "u":
            raise self.error(f"\\{char} is no escape in JSON")
        code = self._unit()
        if 0xD800 <= code < 0xDC00 and self._text.startswith("\\u", self._at):
            self._at += 2
            low = self._unit()
            if 0xDC00 <= low < 0xE000:
                return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00))
        if not code or 0xD800 <= code < 0xE000:
            raise self.error("this character cannot stand in a configuration")
        return chr(code)

    def _unit(self) -> int:
        digits = self._text[self._at : self._at + 4]
        if len(digits) < 4 or not all(char in "0123456789abcdefABCDEF" for char in digits):
            raise self.error("\\u needs four hexadecimal digits")
        self._at += 4
        return int(digits, 16)

    def _word(self) -> str:
        for word, meaning in _WORDS.items():
            if self._text.startswith(word, self._at):
                self._at += len(word)
                return meaning
        start = self._at
        while self._text[self._at : self._at + 1] in _NUMBER and self._at < len(self._text):
            self._at += 1
        text = self._text[start : self._at]
        if not _is_number(text):
            self._at = start
            raise self.error("this is no JSON value")
        return text


def _is_number(text: str) -> bool:
    digits = text.removeprefix("-")
    if not digits[:1].isdigit() or (digits[0] == "0" and digits[1:2].isdigit()):
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True
