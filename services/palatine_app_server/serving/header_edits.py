"""What the config and routes do to the headers of every response: add and remove. Pure."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from palatine.errors import ConfigError

Headers = list[tuple[str, str]]


class HeaderEdits(NamedTuple):
    """`add` are whole headers, `remove` names in lower case; what is added can be removed, as in uWSGI."""

    add: tuple[tuple[str, str], ...] = ()
    remove: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.add or self.remove)

    def more(self, add: Sequence[tuple[str, str]], remove: Iterable[str]) -> "HeaderEdits":
        """These and others."""
        return HeaderEdits((*self.add, *add), self.remove.union(remove))

    def apply(self, headers: Sequence[tuple[str, str]]) -> Headers:
        """`headers` as they are sent."""
        edited = [*headers, *self.add]
        if not self.remove:
            return edited
        return [(name, value) for name, value in edited if name.lower() not in self.remove]


def parse_header(text: str) -> tuple[str, str]:
    """`Name: value`; ConfigError for anything that is no header."""
    name, colon, value = text.partition(":")
    if not colon or not name or any(not ("!" <= letter <= "~") for letter in name) or "\n" in value or "\r" in value:
        raise ConfigError(f"{text!r} is not a header: Name: value")
    return name, value.strip()
